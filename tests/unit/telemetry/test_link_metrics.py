"""What came over the link, as Prometheus sees it."""

from __future__ import annotations

import time

from proxy.cache.traffic import Traffic, Urgency
from proxy.events import LinkUsed
from proxy.telemetry import Telemetry
from proxy.upstream.link.pacer import Limits, Link
from proxy.upstream.link.report import LinkReport
from proxy.upstream.link.timetable import Timetable


def test_bytes_and_pauses_are_counted_once_by_upstream_and_class() -> None:
    telemetry, link = Telemetry(), Link(upstreams={"lab": Limits(Timetable(1_000_000))})
    telemetry.expect(["lab"])
    report = LinkReport(link)
    telemetry.link.read(["lab"], report.rate, report.waiting)
    now = time.monotonic()
    transfer = link.pacing.begin(link.scopes["lab"], Traffic(Urgency.WARM, "warm"), now)
    assert link.pacing.may_begin(transfer)
    assert not link.pacing.took(transfer, 5_000_000, now)
    told: list[LinkUsed] = []

    def observe(event: object) -> None:
        assert isinstance(event, LinkUsed)
        told.append(event)
        telemetry.observe(event)

    report.tell(observe)
    text = telemetry.render().decode()
    assert 'entrepot_link_bytes_total{class="warm",upstream="lab"} 5e+06' in text
    assert 'entrepot_link_bytes_total{class="waiting",upstream="lab"} 0.0' in text
    assert 'entrepot_link_rate_bytes{upstream="lab"} 1e+06' in text
    assert 'entrepot_link_rate_bytes{upstream=""} 0.0' in text
    assert 'entrepot_link_waiting_transfers{class="warm"} 1.0' in text
    link.pacing.end(transfer, now + 2)
    report.tell(observe)
    report.tell(observe)
    assert [(one.count, round(one.paused_s, 3)) for one in told] == [(5_000_000, 0.0), (0, 2.0)]
    assert report.waiting("warm") == 0
