"""What is known of an image here, and what a pull of it would fetch now.

Reads records and looks where content lies; asks no upstream and moves nothing
between tiers.
"""

from proxy.explain.image import Explainer

__all__ = ["Explainer"]
