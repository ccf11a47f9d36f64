"""Settings for people to read: what is in force, and the README's tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from proxy.config.keep import KeepSettings, RetentionRule
from proxy.config.link import LinkHours, LinkSettings
from proxy.config.pull_listeners import PullListener
from proxy.config.quota import CredentialSettings
from proxy.config.redis import RedisSettings
from proxy.config.settings import SCALARS, Settings
from proxy.config.storage import S3Settings
from proxy.config.tag_rules import TagRule
from proxy.config.units import format_duration, format_size
from proxy.config.upstreams import UpstreamSettings
from proxy.config.warm import WarmLearned, WarmRun, WarmSettings

MASK = "***"


def shown(settings: Settings) -> dict[str, Any]:
    """All settings in force, as JSON or YAML can hold them, secrets masked.

    Of each upstream, S3 and Redis only what differs from the defaults.
    """
    whole: dict[str, Any] = {key: _plain(getattr(settings, key)) for key in SCALARS}
    for key in ("keep", "link", "warm", "listeners", "tag_rules"):
        if said := _plain(getattr(settings, key)):
            whole[key] = said
    whole["upstreams"] = {name: _given(one) for name, one in settings.upstreams.items()}
    if settings.storage.s3 is not None:
        whole["storage"] = {"s3": _given(settings.storage.s3)}
    if settings.redis is not None:
        whole["redis"] = _given(settings.redis)
    return whole


def _given(part: BaseModel) -> dict[str, Any]:
    """What differs from the defaults."""
    return {
        field.alias or key: _plain(getattr(part, key))
        for key, field in type(part).model_fields.items()
        if getattr(part, key) != field.default
    }


def _plain(value: Any) -> Any:
    match value:
        case SecretStr():
            return MASK
        case Path():
            return str(value)
        case BaseModel():
            return _given(value)
        case tuple():
            return [_plain(one) for one in value]
        case float() if value.is_integer():
            return int(value)
        case _:
            return value


def settings_table() -> str:
    """Markdown: every key with its default and meaning; a table for each section."""
    return "\n".join(
        (
            *_table(Settings, SCALARS),
            "",
            "Each upstream, under `upstreams: {name: {…}}`:",
            "",
            *_table(UpstreamSettings),
            "",
            "Each further login, under `credentials: [{…}]` of an upstream:",
            "",
            *_table(CredentialSettings),
            "",
            "The link, under `link: {…}`, and of one upstream (but for `time_zone`):",
            "",
            *_table(LinkSettings),
            "",
            "Certain hours, under `hours: [{…}]`:",
            "",
            *_table(LinkHours),
            "",
            "Each further address for pulls, under `listeners: [{…}]`:",
            "",
            *_table(PullListener),
            "",
            "Each rule for tags, under `tag_rules: [{…}]`, here or in an upstream:",
            "",
            *_table(TagRule),
            "",
            "What is kept, under `keep: {…}`:",
            "",
            *_table(KeepSettings),
            "",
            "Each rule for how long tags stay, under `keep: {retention: [{…}]}`:",
            "",
            *_table(RetentionRule),
            "",
            "Warm-ups, under `warm: {…}`:",
            "",
            *_table(WarmSettings),
            "",
            "Each of them at certain times, under `warm: {schedule: [{…}]}`:",
            "",
            *_table(WarmRun),
            "",
            "Those of what people pull, under `warm: {learned: {…}}`:",
            "",
            *_table(WarmLearned),
            "",
            "S3, under `storage: {s3: {…}}`:",
            "",
            *_table(S3Settings),
            "",
            "Redis, under `redis: {…}`:",
            "",
            *_table(RedisSettings),
        )
    )


def _table(model: type[BaseModel], keys: tuple[str, ...] | None = None) -> list[str]:
    fields = model.model_fields
    rows = [
        f"| `{fields[key].alias or key}` | {_default(key, fields[key])} | {fields[key].description} |"
        for key in keys or fields
    ]
    return ["| Key | Default | Meaning |", "|---|---|---|", *rows]


def _default(key: str, field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value in (None, (), "") or isinstance(value, BaseModel):
        return "unset"
    return f"`{readable(key, value)}`"


def readable(key: str, value: Any) -> str:
    """A default as one would write it in the file: `8MiB`, `7d`, `true`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if "_bytes_" in key:
        return format_size(value)
    if key.endswith("_s"):
        return format_duration(value)
    return str(value)
