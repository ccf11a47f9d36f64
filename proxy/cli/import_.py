"""`import`: brings bundles, and archives of other tools, into a running proxy."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlencode

import typer

from proxy.cli.application import AdminOption, ConfigOption, JsonOption, admin_url, app

if TYPE_CHECKING:
    from proxy.bundles.importing_sending import Progress, Wish
    from proxy.bundles.reader import Opened

_REFUSED = 2
_FAILED = 1
# What an answer of the proxy means that is about the bundle and not about the proxy.
_ABOUT_THE_BUNDLE = {400, 404, 422}


@app.command("import")
def import_(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="A bundle (of parts, any or all), an OCI layout (folder or tar), or an archive "
            "of docker save."
        ),
    ],
    config: ConfigOption = None,
    admin: AdminOption = None,
    *,
    key: Annotated[
        list[Path] | None,
        typer.Option(
            help="Public key of who signed it; where the proxy has keys configured, those decide."
        ),
    ] = None,
    receipt: Annotated[
        Path | None, typer.Option(help="Where to write the receipt; else FILE.receipt.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to call the image of a foreign archive.")
    ] = None,
    unsigned: Annotated[
        bool, typer.Option("--unsigned", help="Take what nobody signed, as of other tools.")
    ] = False,
    no_pin: Annotated[
        bool, typer.Option("--no-pin", help="Keep it like anything else; else it is pinned.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Move tags back if the bundle is older.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring images in by file: all of a bundle or nothing of it.

    What is there already is not read again; interrupted, the same command goes on where
    it was. The receipt goes back to where the bundle came from (`export --since`). Of
    several replicas `--admin` must name one, not the load balancer before them.
    """
    from proxy.bundles import keys  # noqa: PLC0415 - only this command needs it
    from proxy.bundles.importing_client import ImportRefused  # noqa: PLC0415
    from proxy.bundles.importing_sending import Wish  # noqa: PLC0415
    from proxy.bundles.reader_media import parts  # noqa: PLC0415
    from proxy.errors import BadBundle  # noqa: PLC0415

    url = admin_url(config, admin, "")
    try:
        believed = [keys.load_public(path) for path in key or ()]
        bundles = parts([path.resolve() for path in files])
        if receipt is not None and len(bundles) > 1:
            raise BadBundle("--receipt is for one bundle; each has its own")
        pems = [one.pem() for one in believed]
        wish = Wish(keys=pems, unsigned=unsigned, force=force, pin=not no_pin)
        for paths in bundles:
            for opened in _opened(url, paths, believed or None, wish, name):
                done = _bring(url, opened, wish, quiet=as_json)
                path = receipt or _beside(paths)
                trouble = _kept(done["receipt"], path)
                _tell(done, opened, None if trouble else path, as_json=as_json)
                if trouble:
                    _end(trouble, _FAILED)
                typer.echo(f"receipt: {path}", err=True)
    except BadBundle as error:
        _end(str(error), _REFUSED)
    except ImportRefused as error:
        _end(str(error), _REFUSED if error.status in _ABOUT_THE_BUNDLE else _FAILED)


def _opened(
    url: str, paths: Sequence[Path], believed: Any, wish: Wish, name: str | None
) -> list[Opened]:
    from proxy.bundles.foreign import open_foreign  # noqa: PLC0415 - see above
    from proxy.bundles.importing_client import Receiver  # noqa: PLC0415
    from proxy.bundles.reader import is_bundle, open_bundle  # noqa: PLC0415
    from proxy.errors import BadBundle  # noqa: PLC0415

    if is_bundle(paths[0]):
        return [open_bundle(paths, believed)]
    if not wish.unsigned:
        raise BadBundle(
            f"{paths[0]} is damaged or no bundle of Entrepot; --unsigned takes archives of others"
        )
    with Receiver(url) as receiver:

        def named(image: str) -> tuple[str, str, str | None]:
            found = receiver.get("/bundles/name?" + urlencode({"image": image}))
            return found["upstream"], found["repository"], found["tag"]

        return open_foreign(paths, named, name=name, created=time.time())


def _bring(url: str, opened: Opened, wish: Wish, *, quiet: bool) -> dict[str, Any]:
    from proxy.bundles.importing_sending import Progress, bring  # noqa: PLC0415 - see above

    if quiet or not sys.stderr.isatty():
        return bring(url, opened, wish, Progress(changed=lambda _progress: None))
    with _bar(opened.name) as progress:
        return bring(url, opened, wish, progress)


@contextmanager
def _bar(name: str) -> Iterator[Progress]:
    from rich.console import Console  # noqa: PLC0415 - only for people who watch
    from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn  # noqa: PLC0415
    from rich.progress import Progress as Bar  # noqa: PLC0415

    from proxy.bundles.importing_sending import Progress  # noqa: PLC0415

    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(Path(name).name, total=None)

        def changed(progress: Progress) -> None:
            bar.update(task, total=progress.total_bytes, completed=progress.read_bytes)

        yield Progress(changed=changed)


def _tell(done: dict[str, Any], opened: Opened, receipt: Path | None, *, as_json: bool) -> None:
    if as_json:
        document = {
            "file": opened.name,
            "bundle": opened.contents.bundle,
            "receipt": None if receipt is None else str(receipt),
            **{name: done[name] for name in ("images", "moved", "warnings")},
        }
        typer.echo(json.dumps(document, indent=2))
        return
    for name, digest in done["images"].items():
        typer.echo(f"{name}" if "@" in name else f"{name}  {digest}")
    for warning in done["warnings"]:
        typer.echo(f"entrepot: {warning}", err=True)


def _beside(paths: Sequence[Path]) -> Path:
    """`FILE.receipt`; of parts, that of the whole."""
    name = paths[0].name
    whole = name.rpartition(".")[0] if len(paths) > 1 else name
    return paths[0].with_name(f"{whole}.receipt")


def _kept(receipt: str, path: Path) -> str:
    """Write it; why it could not be, if so."""
    try:
        path.write_text(receipt + "\n")
    except OSError as error:
        return (
            f"it is all imported, but the receipt can't be written to {path}: {error.strerror}; "
            "repeat with --receipt"
        )
    return ""


def _end(reason: str, code: int) -> None:
    typer.echo(f"entrepot: {reason}", err=True)
    raise typer.Exit(code)
