"""Events to Prometheus metrics, and to traces where that is asked for.

Every metric name lives in this package (values that are read when asked for come
with theirs from `status.py`). No label can grow with what clients ask for: upstream
names come from the configuration, the rest from closed sets. Repositories and
digests are for the log. `otel` is not imported from here: it needs an extra.
"""

from proxy.telemetry.metrics import Telemetry

__all__ = ["Telemetry"]
