"""Tracing, if it is asked for: the one place that decides whether `otel` is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.errors import StartupError
from proxy.ports import Observe
from proxy.tracing import Sampler


@dataclass(frozen=True, slots=True)
class Traces:
    """`begin` is told of each request with its `traceparent`; who answers below that asks
    `untraced` first (`tracing.Sampler`). None: nobody need do either.

    `close` may take two seconds, and blocks.
    """

    observe: Observe
    begin: Callable[[str | None], None] | None
    untraced: Callable[[], bool] | None
    close: Callable[[], None]


def open_traces(url: str | None, ratio: float, observe: Observe) -> Traces:
    """Events on their way to `observe`, and as spans to `url`.

    Raises `StartupError` if what that needs is not installed.
    """
    if url is None:
        return Traces(observe, None, None, lambda: None)
    try:
        from proxy.telemetry.otel import Spans  # noqa: PLC0415 - an extra, and only used here
    except ImportError as error:
        raise StartupError(
            f"otlp_url needs what `pip install 'entrepot[otel]'` brings: {error}"
        ) from error
    sampler = Sampler(ratio)
    spans = Spans(url, observe=observe, sampler=sampler)
    return Traces(spans.observe, sampler.begin, sampler.untraced, spans.close)
