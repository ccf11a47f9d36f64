"""Whether all is here that an import needs: what it brought, and what it left out because
that was here. Reads only.
"""

from __future__ import annotations

from proxy.bundles.importing_state import Import
from proxy.bundles.importing_store import ImportStore
from proxy.bundles.words import blobs
from proxy.errors import BadBundle


async def check_whole(store: ImportStore, running: Import) -> None:
    """Raises `BadBundle` for the first that is not, `StorageUnavailable`."""
    lacking = await store.lacking(running.wanted)
    if never := lacking.keys() & running.lacking.keys():
        have = "has" if len(never) == 1 else "have"
        raise BadBundle(f"{blobs(len(never))} of the bundle {have} not come yet")
    if lacking:
        raise BadBundle(
            f"{blobs(len(lacking))} of the bundle came and went again, such as "
            f"{next(iter(lacking)).digest}: nothing was changed; import it again"
        )
    await check_base(store, running)


async def check_base(store: ImportStore, running: Import) -> None:
    """As `check_whole`, of what the bundle leaves out."""
    contents = running.contents
    lacking = await store.lacking(running.base)
    if lacking:
        first, be = next(iter(lacking)).digest, "is" if len(lacking) == 1 else "are"
        raise BadBundle(
            f"the bundle builds on receipt {', '.join(contents.receipts)} (of bundle "
            f"{', '.join(contents.bundles) or 'unknown'}) and leaves out {blobs(len(lacking))} "
            f"that {be} not here, such as {first}: import its base first, or export again "
            "with the receipt of this side"
        )
