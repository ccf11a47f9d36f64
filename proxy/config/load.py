"""From a file, the environment and flags to `Settings`, or to every mistake in them.

Flags win over variables, variables over the file, the file over the presets.
Nothing here reads the process's environment: it is handed in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from proxy.config.contradictions import contradictions
from proxy.config.document import Document, read
from proxy.config.presets import PRESETS
from proxy.config.problems import ConfigError, Loc, Origins, Problem, plain, suggestion
from proxy.config.settings import SCALARS, Settings
from proxy.config.upstreams import SECRETS, UpstreamSettings

DEFAULT_FILE = Path("/etc/entrepot/entrepot.yaml")
PREFIX = "ENTREPOT_"
FILE_VARIABLE = "ENTREPOT_CONFIG"

_OPTIONAL = frozenset(name for name in SCALARS if Settings.model_fields[name].default is None) | {
    "default_upstream"
}
_OFF = frozenset({"false", "0", "no", "off", "n", "f"})
# A Kubernetes Service called entrepot puts these into the environment of every
# pod beside it; they are not ours.
_SERVICE_LINK = re.compile(
    r"\w+_(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)=.*"
    r"|\w+_PORT=(?:tcp|udp|sctp)://.*",
    re.ASCII,
)


def load(
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    *,
    default_file: Path = DEFAULT_FILE,
) -> Settings:
    """The settings; raises `ConfigError` with every mistake.

    `path`: the file that was asked for; else `$ENTREPOT_CONFIG`, else
    `default_file` if there is one, else none. `overrides`: values of flags by
    key, None where the flag was not given.
    """
    source, document = _document(path, environ, default_file)
    problems = list(document.problems)
    data = document.data
    variables, said = _variables(environ, _named_variables(data))
    problems += said
    labels = {key: f"{PREFIX}{key.upper()}" for key in variables}
    flags = {key: value for key, value in overrides.items() if value is not None}
    labels |= {key: f"--{key.replace('_', '-')}" for key in flags}
    data = {**data, **variables, **flags}
    origins = Origins(document.lines, labels)

    upstreams, said = _upstreams(data, environ, origins)
    problems += said
    data["upstreams"] = upstreams
    if "docker.io" not in upstreams:
        data.setdefault("default_upstream", None)  # the default names a preset

    settings, said = _validated(data, origins)
    problems += said
    unread = bool(document.problems) and not document.data  # then what is missing may be in it
    if settings is not None and not unread:
        problems += contradictions(settings, tuple(upstreams), origins)
    if problems or settings is None:
        raise ConfigError(sorted(dict.fromkeys(problems), key=lambda one: one.line or 0), source)
    return settings


def _document(
    path: Path | None, environ: Mapping[str, str], default_file: Path
) -> tuple[Path | None, Document]:
    if path is not None:
        return path, read(path, "--config")
    if named := environ.get(FILE_VARIABLE):
        return Path(named), read(Path(named), FILE_VARIABLE)
    if default_file.exists():
        return default_file, read(default_file, "")
    return None, Document()


def _variables(
    environ: Mapping[str, str], spoken_for: frozenset[str]
) -> tuple[dict[str, str | None], list[Problem]]:
    values: dict[str, str | None] = {}
    problems = []
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable == FILE_VARIABLE or variable in spoken_for:
            continue
        key = variable.removeprefix(PREFIX).lower()
        if variable != f"{PREFIX}{key.upper()}" or key not in SCALARS:
            if not _SERVICE_LINK.fullmatch(f"{variable}={text}"):
                known = [f"{PREFIX}{name.upper()}" for name in SCALARS]
                problems.append(Problem(variable, "unknown setting" + suggestion(variable, known)))
        elif text:
            values[key] = text
        elif key in _OPTIONAL:
            values[key] = None
        else:
            problems.append(Problem(variable, "must not be empty"))
    return values, problems


def _named_variables(data: Mapping[str, Any]) -> frozenset[str]:
    """Variables that the file itself takes passwords from."""
    entries = data.get("upstreams")
    if not isinstance(entries, dict):
        return frozenset()
    named = (entry.get("password_env") for entry in entries.values() if isinstance(entry, dict))
    return frozenset(name for name in named if isinstance(name, str))


def _upstreams(
    data: Mapping[str, Any], environ: Mapping[str, str], origins: Origins
) -> tuple[dict[str, Any], list[Problem]]:
    """The presets with the file's upstreams on top, secrets filled in."""
    use_presets = str(data.get("presets", True)).lower() not in _OFF
    merged: dict[str, Any] = {name: dict(preset) for name, preset in PRESETS.items() if use_presets}
    given = data.get("upstreams")
    if given is None:
        given = {}
    if not isinstance(given, dict):
        return merged, [origins.problem(("upstreams",), "must be `name: {url: …}` pairs")]
    problems: list[Problem] = []
    for name, entry in cast("dict[str, Any]", given).items():
        if not isinstance(entry, dict | None):
            merged[name] = entry  # told by validation
            continue
        fields: dict[str, Any] = dict(entry or {})
        problems += _fill_secrets(("upstreams", name), fields, environ, origins)
        merged[name] = _over_preset(merged.get(name, {}), fields)
    return merged, problems


def _over_preset(preset: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Field by field; but a registry elsewhere has no claim to let the preset's
    token service see credentials.
    """
    elsewhere = str(fields.get("url", preset.get("url"))).rstrip("/") != preset.get("url")
    kept = {k: v for k, v in preset.items() if not (elsewhere and k == "token_realms")}
    return {**kept, **fields}


def _fill_secrets(
    loc: Loc, fields: dict[str, Any], environ: Mapping[str, str], origins: Origins
) -> Iterator[Problem]:
    for secret in SECRETS:
        keys = (secret, f"{secret}_file", f"{secret}_env")
        given = [
            k for k in keys if k in UpstreamSettings.model_fields and fields.get(k) is not None
        ]
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


def _validated(data: dict[str, Any], origins: Origins) -> tuple[Settings | None, list[Problem]]:
    """The settings, of the valid part if there are mistakes, and the mistakes."""
    try:
        return Settings.model_validate(data), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    problems = []
    for detail in details:
        loc = detail["loc"]
        model = UpstreamSettings if loc[0] == "upstreams" else Settings
        problems.append(origins.problem(loc, plain(detail, model.model_fields)))
        _leave_out(data, loc, whole=detail["type"] == "missing" or loc[-1] == "url")
    try:
        return Settings.model_validate(data), problems
    except ValidationError:  # what is left depended on what was wrong
        return None, problems


def _leave_out(data: dict[str, Any], loc: Loc, *, whole: bool) -> None:
    """Remove a bad value; of an upstream the field, or (`whole`) all of it."""
    top, *rest = loc
    if top != "upstreams":
        data.pop(str(top), None)
        return
    upstreams: dict[str, Any] = data["upstreams"]
    name = str(rest[0])
    entry = upstreams.get(name)
    if whole or len(rest) == 1 or not isinstance(entry, dict):
        # A copy: the caller still needs to know every name.
        data["upstreams"] = {k: v for k, v in upstreams.items() if k != name}
    elif rest[1] in {"username", "password"}:
        entry[str(rest[1])] = "?"  # it was given; "needs a password too" would mislead
    else:
        entry.pop(str(rest[1]), None)
