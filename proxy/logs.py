"""Logging: structlog for our own lines, the standard library's routed into it.

One line for each event, to one stream, as text for people or JSON for machines.
Our own loggers write straight to the stream and drop what is below the level
before anything is formatted; only libraries (aiohttp, asyncio) and the few
places that use `logging` take the longer way.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import FilteringBoundLogger, Processor

Format = Literal["auto", "console", "json"]
Level = Literal["debug", "info", "warning", "error"]

_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure(log_format: Format, log_level: Level, stream: TextIO | None = None) -> None:
    """Set up all logging of the process; call it once, before the first line.

    `stream` is standard error if not given; `auto` means `console` if it is a
    terminal. A logger that has already written keeps its earlier setup.
    """
    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty()
    console = log_format == "console" or (log_format == "auto" and terminal)
    level = _LEVELS[log_level]
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        # Unless the line is of something a moment ago and brings its own.
        structlog.processors.MaybeTimeStamper(fmt="iso", utc=True),
    ]
    ending = _ending(console=console, colors=terminal)
    structlog.configure(
        processors=[*shared, *ending],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)


def get_logger(name: str) -> FilteringBoundLogger:
    """A logger whose lines say `component=name`; cheap, and fit for module level."""
    return cast("FilteringBoundLogger", structlog.get_logger(component=name))


def _ending(*, console: bool, colors: bool) -> Sequence[Processor]:
    if console:
        return (
            # Without rich or better-exceptions: local variables may be secret.
            structlog.dev.ConsoleRenderer(
                colors=colors, exception_formatter=structlog.dev.plain_traceback
            ),
        )
    return (
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("message"),
        structlog.processors.JSONRenderer(serializer=_to_json),
    )


def _to_json(event: dict[str, Any], **_: Any) -> str:
    return json.dumps(event, default=str, ensure_ascii=False, separators=(",", ":"))


def _add_logger_name(_logger: Any, _method: str, event: Any) -> Any:
    record: logging.LogRecord = event["_record"]
    event["component"] = record.name
    return event
