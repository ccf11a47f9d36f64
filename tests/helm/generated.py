"""What in the chart is made from something else: the README's table of values, and
the schema of `config`, which is what Entrepot's settings are.

`python -m tests.helm.generated` writes both; a test says when that was forgotten.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import yaml
from annotated_types import Ge
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from proxy.config.redis import RedisSettings
from proxy.config.settings import Settings
from proxy.config.storage import S3Settings
from proxy.config.upstreams import UpstreamSettings

CHART = Path(__file__).parents[2] / "helm" / "entrepot"
README, VALUES, SCHEMA = CHART / "README.md", CHART / "values.yaml", CHART / "values.schema.json"
BEGIN, END = "<!-- values -->", "<!-- /values -->"

THE_CHARTS = frozenset(
    {
        *("version", "listen", "admin_listen", "data_dir", "drain_delay_s", "drain_s"),
        *("peer_listen", "advertise_url", "peer_secret", "peer_secret_file", "peer_secret_env"),
        *("tls_cert_file", "tls_key_file", "tls_client_ca_file", "reuse_port"),
    }
)
"""Settings that the chart decides."""
SECRETS = frozenset({"password", "secret_key", "access_key", "session_token", "proxy"})
"""Settings that would put a secret into a ConfigMap. Their `_file` and `_env` forms may
stand there, for what `extraVolumes` and `extraEnv` bring.
"""

_DESCRIPTION = re.compile(r"^( *)# -- (.+)$")
_KEY = re.compile(r"^( *)([A-Za-z0-9]+):")


def values_table(text: str) -> str:
    """Markdown: each value that has a `# --` line above it. Raises ValueError for others."""
    values = yaml.safe_load(text)
    lines, path = ["| Value | Default | Meaning |", "|---|---|---|"], []
    said: str | None = None
    whole_below: int | None = None
    for line in text.splitlines():
        if found := _DESCRIPTION.match(line):
            said = found[2]
            continue
        key = _KEY.match(line)
        if key is None:
            continue
        depth = len(key[1]) // 2
        if whole_below is not None and depth > whole_below:
            continue  # part of a default that is shown as a whole
        whole_below = None
        path = [*path[:depth], key[2]]
        default = _at(values, path)
        name = ".".join(path)
        if said is not None:
            shown = json.dumps(default, ensure_ascii=False)
            meaning = said.replace("|", "\\|")
            lines.append(f"| `{name}` | `{shown}` | {meaning} |")
            said, whole_below = None, depth
        elif not isinstance(default, dict) or not default:
            raise ValueError(f"{name} has no `# --` line above it")
    return "\n".join(lines)


def _at(values: Any, path: list[str]) -> Any:
    for key in path:
        values = values[key]
    return values


def readme(text: str, table: str) -> str:
    """`text` with the table between its marks."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


def config_schema() -> dict[str, Any]:
    """JSON schema of `config`."""
    config = _object(Settings, without=THE_CHARTS | {"upstreams", "storage", "redis"})
    upstream = _object(UpstreamSettings)
    config["properties"] |= {
        "upstreams": {
            "type": "object",
            "propertyNames": {"pattern": "^[a-z0-9]+([._-][a-z0-9]+)*$"},
            "additionalProperties": {**upstream, "type": ["object", "null"]},
        },
        "storage": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"s3": {**_object(S3Settings), "required": ["bucket"]}},
        },
        "redis": _object(RedisSettings),
    }
    return config


def _object(model: type[BaseModel], without: frozenset[str] = frozenset()) -> dict[str, Any]:
    fields = {
        field.alias or name: _field(name, field)
        for name, field in model.model_fields.items()
        if name not in without | SECRETS
    }
    return {"type": "object", "additionalProperties": False, "properties": fields}


def _field(name: str, field: FieldInfo) -> dict[str, Any]:
    annotation = field.annotation
    text = str(annotation)
    maybe = ["null"] * ("Optional" in text or "None" in text)
    if name == "expose":
        patterns = {"type": "array", "minItems": 1, "items": {"type": "string"}}
        return {"oneOf": [{"enum": ["public", "all"]}, patterns]}
    if "tuple" in text:
        return {"type": ["array", "null"], "items": _entries(annotation)}
    section = _section(annotation)
    if section is not None:
        return {**_object(section), "type": ["object", *maybe]}
    if name.startswith("quota_") and name.endswith("_reserve"):
        return {"type": ["string", "integer"]}
    if name == "days":
        return {"type": ["string", "array"], "items": {"type": "string"}}
    if "Literal" in text:
        return {"enum": re.findall(r"'([^']*)'", text)}
    if "bool" in text:
        return {"type": "boolean"}
    if name.endswith("_s") or "_bytes" in name or name.startswith("bytes_"):
        # As people write them; Entrepot itself says what it makes of them.
        return {"type": ["number", "string", *maybe]}
    if "int" in text:
        return {"type": ["integer", *maybe] if maybe else "integer", "minimum": _least(field)}
    return {"type": ["string", *maybe]}


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model of a section (which may be one that is left out), or of a list's entries."""
    for one in (annotation, *get_args(annotation)):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _least(field: FieldInfo) -> int:
    return next((int(str(one.ge)) for one in field.metadata if isinstance(one, Ge)), 1)


def _entries(annotation: Any) -> dict[str, Any]:
    """Of a list: sections of their own, or text."""
    model = _section(annotation)
    if model is None:
        return {"type": "string"}
    fields = model.model_fields.items()
    needed = [field.alias or name for name, field in fields if field.is_required()]
    return {**_object(model), **({"required": needed} if needed else {})}


def schema(text: str) -> str:
    """`text`, a JSON schema, with `$defs.config` as it should be."""
    document = json.loads(text)
    document["$defs"]["config"] = config_schema()
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    README.write_text(readme(README.read_text(), values_table(VALUES.read_text())))
    SCHEMA.write_text(schema(SCHEMA.read_text()))


if __name__ == "__main__":
    main()
