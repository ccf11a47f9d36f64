"""The cluster bench's rows and their limits; medians over rounds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.report import SUBJECT, Round

PEER = "docker-registry"


@dataclass(frozen=True, slots=True)
class Row:
    """`over`: divide by this number of the same round. `least`: the limit is a minimum."""

    part: str
    title: str
    name: str
    limit: float | None
    form: str = "{:.3f}"
    over: str = ""
    least: bool = False


_CROWD = "96 clients, 3 replicas, cold 200 MB: "
_KILL = "The same, owner killed -9: "
_IMAGES = "200 cold images, 24 clients: "
_STREAMS = "1,000 streams of one replica: "
ROWS = (
    Row("crowd", _CROWD + "upstream ÷ blob", "crowd_upstream", 1.01),
    Row(
        "crowd",
        _CROWD + "first byte p99, worst replica, over upstream's own (ms)",
        "crowd_first_byte_ms",
        150,
        "{:.0f}",
    ),
    Row("crowd", _CROWD + "all done (s)", "crowd_s", None, "{:.1f}"),
    Row("killed", _KILL + "cuts at other replicas", "killed_cuts_others", 0, "{:.0f}"),
    Row("killed", _KILL + "clients that failed after resuming", "killed_errors", 0, "{:.0f}"),
    Row("killed", _KILL + "upstream ÷ blob", "killed_upstream", 1.05),
    Row("killed", _KILL + "share fetched at the kill", "killed_at", None, "{:.2f}"),
    Row("killed", _KILL + "cuts at the killed one", "killed_cuts_own", None, "{:.0f}"),
    Row("killed", _KILL + "all done (s)", "killed_s", None, "{:.1f}"),
    Row("images", _IMAGES + "upstream ÷ unique bytes", "images_upstream", 1.01),
    Row("images", _IMAGES + "most questions for one tag", "images_tag_questions", 1, "{:.0f}"),
    Row("images", _IMAGES + "all done (s)", "images_s", None, "{:.1f}"),
    *(
        row
        for name, said in (
            ("redis_down", "Redis down"),
            ("s3_down", "S3 down"),
            ("upstream_down", "Upstream down"),
        )
        for row in (
            Row("outages", f"{said}, cached: errors", f"{name}_errors", 0, "{:.0f}"),
            Row(
                "outages",
                f"{said}, cached: p99 ÷ healthy p99",
                f"{name}_p99_ms",
                2,
                "{:.2f}",
                "healthy_p99_ms",
            ),
        )
    ),
    Row("outages", "Healthy: p99 (ms)", "healthy_p99_ms", None, "{:.1f}"),
    Row("trace", "S3 requests per warm blob GET, trace mix", "trace_s3_warm", 0.35),
    Row("trace", "The same, replicas just started", "trace_s3_first", None),
    Row("cold", "Cold pull, S3 ÷ local disk, time", "cold_s3_s", 1.15, "{:.2f}", "cold_disk_s"),
    Row("streams", _STREAMS + "peak RSS (MiB)", "streams_rss_mb", 256, "{:.0f}"),
    Row(
        "streams",
        _STREAMS + "throughput with a 10 KB/s reader ÷ without",
        "streams_slow_mb_s",
        0.95,
        "{:.3f}",
        "streams_mb_s",
        least=True,
    ),
    Row("streams", _STREAMS + "throughput without (MB/s)", "streams_mb_s", None, "{:.0f}"),
)


def results(rounds: Sequence[Round], parts: Sequence[str]) -> list[dict[str, object]]:
    """As `tests.bench.report.results`, for `tests.bench.report.markdown`."""
    table: list[dict[str, object]] = []
    for row in ROWS:
        if row.part not in parts:
            continue
        samples: dict[str, list[float]] = {}
        for name in (SUBJECT, PEER):
            values = [
                one[name].values[row.name] / (one[name].values[row.over] if row.over else 1)
                for one in rounds
                if name in one
                and row.name in one[name].values
                and (not row.over or row.over in one[name].values)
            ]
            if values:
                samples[name] = values
        middle = {name: median(values) for name, values in samples.items()}
        table.append(
            {
                "row": row.title,
                "limit": row.limit,
                "limit_text": _limit_text(row),
                "verdict": _verdict(row, samples.get(SUBJECT, [])),
                "form": row.form,
                "median": middle,
                "spread": {name: [min(v), max(v)] for name, v in samples.items()},
            }
        )
    return table


def _limit_text(row: Row) -> str:
    if row.limit is None:
        return ""
    return f"{'≥' if row.least else '≤'} {row.form.format(row.limit)}"


def _verdict(row: Row, values: list[float]) -> str | None:
    if row.limit is None or not values:
        return None
    # "None at all" is said of every round; other limits of the median.
    value = max(values) if row.limit == 0 else median(values)
    good = value >= row.limit if row.least else value <= row.limit
    return "pass" if good else "FAIL"
