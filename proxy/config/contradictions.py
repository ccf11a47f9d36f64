"""What no field can see alone: pairs, clashes, names that lead nowhere, files.

Runs on whatever part of the settings is valid, so that a typing mistake at the
top of the file does not hide a clash at its end.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from proxy.config import fleet, quota
from proxy.config.presets import PRESETS
from proxy.config.problems import Loc, Origins, Problem, dotted, suggestion, unreadable
from proxy.config.settings import Settings
from proxy.config.tag_rules import TagRule
from proxy.config.upstreams import UpstreamSettings
from proxy.config.values import host_and_port
from proxy.errors import InvalidName
from proxy.oci.names import Repository

_RESERVED = {
    "v2": "is the start of every registry path",
    "public": "is the name under which upstreams without credentials share content",
}


def contradictions(
    settings: Settings, names: Collection[str], origins: Origins
) -> Iterator[Problem]:
    """Problems between the values; `names` are all upstreams, broken ones too."""
    yield from _listeners(settings, origins)
    yield from _further_listeners(settings, origins)
    yield from _rules(("tag_rules",), settings.tag_rules, origins)
    yield from _top_files(settings, origins)
    yield from fleet.contradictions(settings, origins)
    for name in names:
        yield from _name(name, origins)
    if settings.default_upstream is not None and settings.default_upstream not in names:
        hint = suggestion(settings.default_upstream, names)
        yield origins.problem(
            ("default_upstream",), f"no upstream is called {settings.default_upstream!r}{hint}"
        )
    yield from _claims(settings, names, origins)
    for name, upstream in settings.upstreams.items():
        yield from _upstream(("upstreams", name), upstream, origins)
        yield from _rules(("upstreams", name, "tag_rules"), upstream.tag_rules, origins)


def _listeners(settings: Settings, origins: Origins) -> Iterator[Problem]:
    if settings.listen == settings.admin_listen and host_and_port(settings.listen)[1] != 0:
        yield origins.problem(("admin_listen",), "is the same address as `listen`")
    if settings.tls_cert_file and not settings.tls_key_file:
        yield origins.problem(("tls_cert_file",), "needs `tls_key_file` too")
    if settings.tls_key_file and not settings.tls_cert_file:
        yield origins.problem(("tls_key_file",), "needs `tls_cert_file` too")
    if settings.tls_client_ca_file and not (settings.tls_cert_file or settings.tls_key_file):
        yield origins.problem(
            ("tls_client_ca_file",), "needs `tls_cert_file` and `tls_key_file` too"
        )


def _further_listeners(settings: Settings, origins: Origins) -> Iterator[Problem]:
    taken = {settings.listen: "`listen`", settings.admin_listen: "`admin_listen`"}
    if settings.peer_listen is not None:
        taken.setdefault(settings.peer_listen, "`peer_listen`")
    for index, one in enumerate(settings.listeners):
        if host_and_port(one.listen)[1] == 0:
            continue
        if (other := taken.get(one.listen)) is not None:
            loc: Loc = ("listeners", index, "listen")
            yield origins.problem(loc, f"is the same address as {other}")
        taken.setdefault(one.listen, f"`listeners[{index}]`")


def _rules(loc: Loc, rules: Sequence[TagRule], origins: Origins) -> Iterator[Problem]:
    """A rule that never gets its turn was meant to."""
    first: dict[str, int] = {}
    for index, rule in enumerate(rules):
        for before in (rule.match, "*:*"):
            if before in first:
                yield origins.problem(
                    (*loc, index, "match"),
                    f"never gets its turn: `{dotted((*loc, first[before]))}` matches the same",
                )
                break
        first.setdefault(rule.match, index)


def _top_files(settings: Settings, origins: Origins) -> Iterator[Problem]:
    for key in ("tls_cert_file", "tls_key_file", "tls_client_ca_file", "docker_config_file"):
        path: Path | None = getattr(settings, key)
        if path is not None and (trouble := unreadable(path)):
            yield origins.problem((key,), trouble)
        elif path is not None and key == "docker_config_file" and not _is_json_object(path):
            yield origins.problem((key,), f"{path} is not a JSON object")


def _is_json_object(path: Path) -> bool:
    try:
        return isinstance(json.loads(path.read_bytes()), dict)
    except ValueError:
        return False


def _name(name: str, origins: Origins) -> Iterator[Problem]:
    loc: Loc = ("upstreams", name)
    if name in _RESERVED:
        yield origins.problem(loc, f"an upstream can't be called {name}: that {_RESERVED[name]}")
        return
    try:
        Repository.parse(name)
    except InvalidName:
        fits = False
    else:
        fits = "/" not in name
    if not fits:
        yield origins.problem(
            loc,
            "an upstream's name is lower-case letters and digits, with single . _ - between "
            "(a port goes into `url`, and into `aliases` if clients name it)",
        )


def _claims(settings: Settings, names: Collection[str], origins: Origins) -> Iterator[Problem]:
    """Each name, alias and host leads to one upstream."""
    called: defaultdict[str, list[tuple[str, Loc]]] = defaultdict(list)
    reached: defaultdict[str, list[tuple[str, Loc]]] = defaultdict(list)
    for name in names:
        called[name].append((name, ("upstreams", name)))
    for name, upstream in settings.upstreams.items():
        for index, alias in enumerate(upstream.aliases):
            called[alias].append((name, ("upstreams", name, "aliases", index)))
            if alias in _RESERVED:
                yield origins.problem(("upstreams", name, "aliases", index), f"{alias} is reserved")
        for index, host in enumerate(upstream.hosts):
            reached[host].append((name, ("upstreams", name, "hosts", index)))
    for what, claims in (("a name", called), ("a host", reached)):
        for word, claimants in claims.items():
            if len(claimants) == 1:
                continue
            # Blame what stands last in the file; presets stand in no file.
            blamed = max(claimants, key=lambda claim: origins.line(claim[1]) or 0)
            other = next(claim[0] for claim in claimants if claim is not blamed)
            preset = " (a preset; `presets: false` turns them off)" if other in PRESETS else ""
            yield origins.problem(
                blamed[1], f"{word!r} is already {what} of upstream {other}{preset}"
            )


def _upstream(loc: Loc, upstream: UpstreamSettings, origins: Origins) -> Iterator[Problem]:
    # By what was asked for, not by what could be read: that is told elsewhere.
    user = bool(upstream.username or upstream.username_file)
    password = bool(upstream.password or upstream.password_file or upstream.password_env)
    if user and not password:
        yield origins.problem(
            (*loc, "username"), "needs `password`, `password_file` or `password_env` too"
        )
    if password and not user:
        given = next(
            key
            for key in ("password_file", "password_env", "password")
            if getattr(upstream, key) is not None
        )
        yield origins.problem((*loc, given), "needs `username` too")
    yield from quota.contradictions(
        loc,
        upstream.username,
        upstream.credentials,
        (upstream.quota_reserve, upstream.quota_warm_reserve),
        origins,
    )
    if upstream.insecure and upstream.ca_file:
        yield origins.problem((*loc, "insecure"), "says not to verify, but `ca_file` is given")
    if upstream.ca_file and (trouble := unreadable(upstream.ca_file)):
        yield origins.problem((*loc, "ca_file"), trouble)
