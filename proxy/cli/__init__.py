"""The command line. Parses, calls, prints; the only place that reads `os.environ`.

`application.py` has the program and what its commands share; each other module
adds commands of one kind. What is heavy (the server and its libraries) is
imported inside the commands that need it: `healthcheck` runs every few seconds
in every container.

Exit codes: 0 done, 1 it failed, 2 the command line or the configuration is wrong.
"""

from proxy.cli import (
    configuration,
    doctor,
    explain,
    export,
    history,
    import_,
    keeping,
    keys,
    mirror_config,
    missing,
    quota,
    rehearse,
    run,
    savings,
    upkeep,
    warm,
)
from proxy.cli.application import app, main

__all__ = [
    "app",
    "configuration",
    "doctor",
    "explain",
    "export",
    "history",
    "import_",
    "keeping",
    "keys",
    "main",
    "mirror_config",
    "missing",
    "quota",
    "rehearse",
    "run",
    "savings",
    "upkeep",
    "warm",
]
