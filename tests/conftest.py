"""For all tests: time is no criterion of correctness on a machine that others share."""

from __future__ import annotations

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("entrepot", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("entrepot")

# Ignored where they are started in the background of a shell, and by all that they start:
# commands that are to be interrupted would not hear it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
