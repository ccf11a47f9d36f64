"""Entrepot: a pull-through caching registry proxy."""

__version__ = "0.1.0"
