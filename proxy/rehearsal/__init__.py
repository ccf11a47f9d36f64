"""Rehearsing the day the cable is cut: nothing is dialled for a while, and what would
have failed is listed.
"""

from proxy.rehearsal.rehearsal import Rehearsals, Underway

__all__ = ["Rehearsals", "Underway"]
