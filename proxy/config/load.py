"""From a file, the environment and flags to `Settings`, or to every mistake in them.

Flags win over variables, variables over the file, the file over the presets.
Nothing here reads the process's environment: it is handed in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, cast

from pydantic import BaseModel, ValidationError

from proxy.config import quota, secrets
from proxy.config.bundles import BundleSettings
from proxy.config.contradictions import contradictions
from proxy.config.document import Document, read
from proxy.config.keep import KeepSettings, RetentionRule
from proxy.config.link import LinkHours, LinkSettings, UpstreamLinkSettings
from proxy.config.presets import PRESETS
from proxy.config.problems import ConfigError, Loc, Origins, Problem, plain, suggestion
from proxy.config.pull_listeners import PullListener
from proxy.config.redis import REDIS_SECRETS, RedisSettings
from proxy.config.settings import SCALARS, TOP_SECRETS, Settings
from proxy.config.storage import S3_SECRETS, S3Settings, StorageSettings
from proxy.config.tag_rules import TagRule
from proxy.config.upstreams import SECRETS, UpstreamSettings
from proxy.config.warm import WarmLearned, WarmRun, WarmSettings

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
    variables, said = _variables(environ, secrets.named_variables(data))
    problems += said
    labels = {key: f"{PREFIX}{key.upper()}" for key in variables}
    flags = {key: value for key, value in overrides.items() if value is not None}
    labels |= {key: f"--{key.replace('_', '-')}" for key in flags}
    data = {**_without_other_forms(data, variables.keys() | flags.keys()), **variables, **flags}
    origins = Origins(document.lines, labels)

    upstreams, said = _upstreams(data, environ, origins)
    problems += said
    data["upstreams"] = upstreams
    sections, said = _sections(data, environ, origins)
    problems += said
    data |= sections
    problems += secrets.fill((), data, Settings, TOP_SECRETS, environ=environ, origins=origins)
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


def _without_other_forms(data: Mapping[str, Any], winners: AbstractSet[str]) -> dict[str, Any]:
    """What the file says, less the forms of a secret that a variable or flag gives."""
    beaten = {
        form
        for secret in TOP_SECRETS
        for form in secrets.forms(secret, Settings)
        if not winners.isdisjoint(secrets.forms(secret, Settings))
    }
    return {key: value for key, value in data.items() if key not in beaten}


def _sections(
    data: Mapping[str, Any], environ: Mapping[str, str], origins: Origins
) -> tuple[dict[str, Any], list[Problem]]:
    """Copies of the sections for S3 and Redis with their secrets filled in."""
    found: dict[str, Any] = {}
    problems: list[Problem] = []
    storage = data.get("storage")
    if isinstance(storage, dict):
        s3 = storage.get("s3")
        if isinstance(s3, dict):
            s3 = dict(s3)
            problems += secrets.fill(
                ("storage", "s3"), s3, S3Settings, S3_SECRETS, environ=environ, origins=origins
            )
            storage = {**storage, "s3": s3}
        found["storage"] = storage
    redis = data.get("redis")
    if isinstance(redis, dict):
        found["redis"] = redis = dict(redis)
        problems += secrets.fill(
            ("redis",), redis, RedisSettings, REDIS_SECRETS, environ=environ, origins=origins
        )
    return found, problems


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
        problems += secrets.fill(
            ("upstreams", name), fields, UpstreamSettings, SECRETS, environ=environ, origins=origins
        )
        problems += quota.with_secrets(
            ("upstreams", name), fields, environ=environ, origins=origins
        )
        merged[name] = _over_preset(merged.get(name, {}), fields)
    return merged, problems


def _over_preset(preset: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Field by field; but a registry elsewhere has no claim to let the preset's
    token service see credentials.
    """
    elsewhere = str(fields.get("url", preset.get("url"))).rstrip("/") != preset.get("url")
    kept = {k: v for k, v in preset.items() if not (elsewhere and k == "token_realms")}
    return {**kept, **fields}


def _validated(data: dict[str, Any], origins: Origins) -> tuple[Settings | None, list[Problem]]:
    """The settings, of the valid part if there are mistakes, and the mistakes."""
    try:
        return Settings.model_validate(data), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    problems = []
    for detail in details:
        loc = detail["loc"]
        problems.append(origins.problem(loc, plain(detail, _keys(_model_at(loc)))))
        _leave_out(data, loc, whole=_all_of_it(loc, detail["type"]))
    try:
        return Settings.model_validate(data), problems
    except ValidationError:  # what is left depended on what was wrong
        return None, problems


def _all_of_it(loc: Loc, kind: str) -> bool:
    """Whether nothing can be made of the section without the value at `loc`."""
    return loc[-1] == "url" or (kind == "missing" and "link" not in loc)


def _keys(model: type[BaseModel]) -> list[str]:
    """As they are written."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_at(loc: Loc) -> type[BaseModel]:  # noqa: C901 - a flat case per section
    """Whose field stands at `loc`."""
    match loc:
        case ("keep", "retention", _, *_):
            return RetentionRule
        case ("keep", _, *_):
            return KeepSettings
        case ("warm", "schedule", _, *_):
            return WarmRun
        case ("warm", "learned", _, *_):
            return WarmLearned
        case ("warm", _, *_):
            return WarmSettings
        case ("upstreams", _, "tag_rules", _, *_) | ("tag_rules", _, *_):
            return TagRule
        case ("listeners", _, *_):
            return PullListener
        case ("link", "hours", _, *_) | ("upstreams", _, "link", "hours", _, *_):
            return LinkHours
        case ("link", _, *_):
            return LinkSettings
        case ("upstreams", _, "link", _, *_):
            return UpstreamLinkSettings
        case ("upstreams", _, "credentials", _, *_):
            return quota.CredentialSettings
        case ("upstreams", *_):
            return UpstreamSettings
        case ("storage", "s3", _, *_):
            return S3Settings
        case ("storage", _, *_):
            return StorageSettings
        case ("redis", _, *_):
            return RedisSettings
        case ("bundles", _, *_):
            return BundleSettings
        case _:
            return Settings


def _leave_out(data: dict[str, Any], loc: Loc, *, whole: bool) -> None:
    """Remove a bad value; of an upstream or S3 the field, or (`whole`) all of it."""
    match loc:
        case ("upstreams", name, *rest):
            entry = data["upstreams"].get(name)
            if whole or not rest or not isinstance(entry, dict):
                # A copy: the caller still needs to know every name.
                data["upstreams"] = {k: v for k, v in data["upstreams"].items() if k != name}
            else:
                _blank(entry, str(rest[0]), SECRETS)
        case ("storage", "s3", field, *_) if not whole:
            _blank(data["storage"]["s3"], str(field), S3_SECRETS)
        case ("redis", *rest):
            # It was asked for; that peers lack it would mislead.
            if not rest or rest[0] == "url" or not isinstance(data["redis"], dict):
                data["redis"] = {"url": "redis://unreadable"}
            else:
                _blank(data["redis"], str(rest[0]), REDIS_SECRETS)
        case _:
            data.pop(str(loc[0]), None)


def _blank(entry: dict[str, Any], field: str, secret: tuple[str, ...]) -> None:
    entry.pop(field, None)
    if field in secret and field != "proxy":
        entry[field] = "?"  # it was given; "needs a password too" would mislead
