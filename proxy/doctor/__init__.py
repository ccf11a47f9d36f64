"""Checks of a server and of a node, in plain words."""
