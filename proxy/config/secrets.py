"""Secrets that stand elsewhere: `<name>_file` and `<name>_env` beside each `<name>`.

Filled in before validation, so that the rest of the program knows one place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from proxy.config.problems import Loc, Origins, Problem


def fill(
    loc: Loc,
    fields: dict[str, Any],
    model: type[BaseModel],
    secrets: tuple[str, ...],
    *,
    environ: Mapping[str, str],
    origins: Origins,
) -> Iterator[Problem]:
    """Put into `fields` what its `_file` and `_env` keys name; `model` is what
    stands at `loc`. Yields what can't be had or is given twice.
    """
    for secret in secrets:
        given = [k for k in forms(secret, model) if fields.get(k) is not None]
        if len(given) > 1:
            together = " and ".join(f"`{key}`" for key in given)
            yield origins.problem((*loc, given[-1]), f"give only one of {together}")
        if len(given) != 1 or not isinstance(fields[given[0]], str):
            continue
        where = fields[given[0]]
        try:
            if given[0].endswith("_file"):
                fields[secret] = _text_of(Path(where))
            elif given[0].endswith("_env"):
                fields[secret] = _value_of(where, environ)
            elif not where:
                raise ValueError("is empty")
        except ValueError as error:
            yield origins.problem((*loc, given[0]), str(error))


def forms(secret: str, model: type[BaseModel]) -> list[str]:
    """The keys under which `model` takes a secret."""
    keys = (secret, f"{secret}_file", f"{secret}_env")
    return [key for key in keys if key in model.model_fields]


def named_variables(data: Any) -> frozenset[str]:
    """Environment variables that the file itself takes secrets from."""
    named: set[str] = set()
    waiting = [data]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            waiting.extend(part.values())
            named |= {v for k, v in part.items() if k.endswith("_env") and isinstance(v, str)}
        elif isinstance(part, list):
            waiting.extend(part)
    return frozenset(named)


def _text_of(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise ValueError(f"{path} is empty")
    return text


def _value_of(variable: str, environ: Mapping[str, str]) -> str:
    if not environ.get(variable):
        raise ValueError(f"the environment variable {variable} is not set")
    return environ[variable]
