"""The bounds of histograms, in seconds: one set, so that heat maps compare."""

SECONDS = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
"""From an answer out of memory to a large layer over a thin line."""
SHORT_SECONDS = SECONDS[:8]
"""For what is given up after a few seconds anyway."""
