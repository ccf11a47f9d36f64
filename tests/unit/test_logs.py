"""Logging: one line an event, ours and the libraries' alike."""

from __future__ import annotations

import io
import json
import logging
from datetime import datetime, timedelta

import pytest
import structlog

from proxy import logs


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def _as_before():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def test_json_lines_of_ours_and_of_libraries_have_one_form():
    stream = io.StringIO()
    logs.configure("json", "info", stream)
    logs.get_logger("web").info("pulled", digest="sha256:ab", size=3)
    logging.getLogger("aiohttp.server").warning("odd %s", "request")
    ours, theirs = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (ours["message"], ours["level"], ours["component"]) == ("pulled", "info", "web")
    assert (ours["digest"], ours["size"]) == ("sha256:ab", 3)
    assert (theirs["message"], theirs["level"]) == ("odd request", "warning")
    assert theirs["component"] == "aiohttp.server"
    for line in (ours, theirs):
        assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)


def test_what_is_below_the_level_is_not_written():
    stream = io.StringIO()
    logs.configure("json", "warning", stream)
    logs.get_logger("x").info("no")
    logging.getLogger("asyncio").info("no")
    logs.get_logger("x").warning("yes")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["yes"]


def test_auto_is_for_people_on_a_terminal_and_json_elsewhere():
    terminal, file = Terminal(), io.StringIO()
    logs.configure("auto", "info", terminal)
    logs.get_logger("x").info("hello")
    logs.configure("auto", "info", file)
    logs.get_logger("x").info("hello")
    assert "hello" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")
    assert json.loads(file.getvalue())["message"] == "hello"


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_a_traceback_is_logged_without_local_variables(log_format):
    stream = io.StringIO()
    logs.configure(log_format, "info", stream)
    password = "hunter" + "2"
    try:
        raise ValueError(len(password))
    except ValueError:
        logs.get_logger("x").exception("ours")
        logging.getLogger("asyncio").exception("theirs")
    text = stream.getvalue()
    assert text.count("ValueError: 7") == 2
    assert "hunter2" not in text
