"""The table's rows, in the order in which they are shown and measured."""

from __future__ import annotations

from tests.bench.row import Row
from tests.bench.rows import (
    capped,
    fill,
    idle,
    lazy,
    requests,
    restart,
    stampede,
    streams,
    tls,
    warm,
)

ROWS: dict[str, Row] = {
    module.ROW.name: module.ROW
    for module in (requests, warm, tls, stampede, capped, fill, lazy, streams, restart, idle)
}
