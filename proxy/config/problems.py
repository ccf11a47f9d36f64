"""What is wrong with a configuration, told so that it can be put right.

Every problem names the key as the reader wrote it (or the environment variable,
or the flag), the line, and what would be right. Values are quoted only where
they can't be secret.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Loc = tuple[str | int, ...]
"""Where a value stands: `("upstreams", "lab", "aliases", 0)`."""

_QUOTED_LENGTH_MAX = 60
_MAY_BE_SECRET = frozenset(
    {"url", "username", "password", "proxy"}
    | {"access_key", "secret_key", "session_token", "peer_secret"}
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `key` is dotted, an environment variable or a flag; empty
    when it is the file as a whole. `line` is 1-based, None outside the file.
    """

    key: str
    message: str
    line: int | None = None

    def __str__(self) -> str:
        return ": ".join(part for part in (self.key, self.message) if part)


class ConfigError(Exception):
    """All mistakes of a configuration at once; `source` is the file, if any."""

    def __init__(self, problems: Iterable[Problem], source: Path | None = None) -> None:
        self.problems = tuple(problems)
        self.source = source
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """One line of text for each problem, as compilers write them."""
        return [
            f"{self.source}:{problem.line}: {problem}" if problem.line else str(problem)
            for problem in self.problems
        ]


@dataclass(frozen=True, slots=True)
class Origins:
    """Where values came from: lines of the file, variables, flags."""

    lines: Mapping[Loc, int]
    labels: Mapping[str, str]
    """Top-level key → variable or flag that overrides the file."""

    def problem(self, loc: Loc, message: str) -> Problem:
        """A problem of the value at `loc`, or of the nearest thing around it."""
        if loc and (label := self.labels.get(str(loc[0]))):
            return Problem(label, message)
        return Problem(dotted(loc), message, self.line(loc))

    def line(self, loc: Loc) -> int | None:
        """None if nothing of it stands in the file."""
        around = (self.lines.get(loc[:end]) for end in range(len(loc), 0, -1))
        return next((line for line in around if line), None)


def dotted(loc: Loc) -> str:
    """`upstreams.lab.aliases[0]`."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def suggestion(word: str, known: Iterable[str]) -> str:
    """`; did you mean …?`, or nothing if nothing is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def unreadable(path: Path) -> str | None:
    """What is wrong with a file that must be there; None if nothing."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        return f"{path} can't be read: {error.strerror}"
    return None


def plain(error: Mapping[str, Any], known: Iterable[str]) -> str:
    """Pydantic's error in our words; `known` are the keys that may stand there."""
    loc: Loc = error["loc"]
    match error["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "unknown key" + suggestion(str(loc[-1]), known)
        case "string_type":
            said = "must be text"
        case "model_type" | "dict_type" | "model_attributes_type":
            return "must be `key: value` pairs"
        case _:
            said = str(error["msg"]).removeprefix("Value error, ")
            said = said.replace("Input should be", "must be")
    value = error["input"]
    if _MAY_BE_SECRET & set(loc) or not isinstance(value, str | int | float | bool):
        return said
    text = repr(value)
    return f"{said}, not {text}" if len(text) <= _QUOTED_LENGTH_MAX else said
