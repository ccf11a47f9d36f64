"""Configuration: one YAML file, `ENTREPOT_…` variables and a few flags.

`load` is the only way in for values from outside; it reports every mistake at
once. Everything else in the program is handed `Settings` and trusts it.
"""

from proxy.config.keep import KeepSettings, RetentionRule
from proxy.config.load import DEFAULT_FILE, load
from proxy.config.problems import ConfigError, Problem
from proxy.config.redis import RedisSettings
from proxy.config.settings import SCALARS, Settings
from proxy.config.show import settings_table, shown
from proxy.config.storage import S3Settings, StorageSettings
from proxy.config.upstreams import UpstreamSettings
from proxy.config.values import host_and_port

__all__ = [
    "DEFAULT_FILE",
    "SCALARS",
    "ConfigError",
    "KeepSettings",
    "Problem",
    "RedisSettings",
    "RetentionRule",
    "S3Settings",
    "Settings",
    "StorageSettings",
    "UpstreamSettings",
    "host_and_port",
    "load",
    "settings_table",
    "shown",
]
