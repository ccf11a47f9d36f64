"""Whose bundles are believed."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.bundles.importing_trust import Trust, parsed
from proxy.errors import BadBundle, StartupError
from tests.support.bundles import KEY, OTHER_KEY, bundle
from tests.support.images import image

MINE = bundle({"lab/app:v1": image()})
THEIRS = bundle({"lab/app:v1": image()}, key=OTHER_KEY)
NOBODYS = bundle({"lab/app:v1": image()}, key=None)
PEM, OTHER_PEM = KEY.public.pem(), OTHER_KEY.public.pem()
ANY, STRICT = Trust((), unsigned=True), Trust((), unsigned=False)
CONFIGURED = Trust((KEY.public,), unsigned=True)


@pytest.mark.parametrize(
    ("trust", "made", "keys", "unsigned", "believed"),
    [
        (ANY, MINE, [PEM], False, True),
        (ANY, MINE, [OTHER_PEM, PEM], False, True),
        (ANY, MINE, [OTHER_PEM], False, False),
        (ANY, MINE, [], False, False),
        (ANY, MINE, [], True, True),
        (ANY, NOBODYS, [], True, True),
        (ANY, NOBODYS, [PEM], True, False),
        (STRICT, NOBODYS, [], True, False),
        (STRICT, MINE, [], True, False),
        (STRICT, MINE, [PEM], False, True),
        (CONFIGURED, MINE, [], False, True),
        (CONFIGURED, MINE, [OTHER_PEM], False, True),
        (CONFIGURED, THEIRS, [OTHER_PEM], True, False),
        (CONFIGURED, NOBODYS, [], True, False),
    ],
)
def test_it_is_believed_or_not(trust, made, keys, unsigned, believed) -> None:  # type: ignore[no-untyped-def]
    def check() -> None:
        trust.check(made.body, made.signature, keys=keys, unsigned=unsigned)

    if believed:
        check()
        with pytest.raises(BadBundle):
            trust.check(made.body[:-1] + b"]", made.signature, keys=keys, unsigned=unsigned)
    else:
        with pytest.raises(BadBundle):
            check()


def test_a_foreign_archive_has_no_signature() -> None:
    ANY.check(MINE.body, None, keys=[], unsigned=True)
    for trust, keys in ((ANY, [PEM]), (CONFIGURED, []), (STRICT, [])):
        with pytest.raises(BadBundle):
            trust.check(MINE.body, None, keys=keys, unsigned=True)


def test_keys_that_are_none_are_told(tmp_path: Path) -> None:
    for bad in ("", "x", PEM.replace("M", "N", 5), KEY.pem()):
        with pytest.raises(BadBundle):
            parsed(bad)
    with pytest.raises(StartupError, match=r"bundles\.keys"):
        Trust.load([tmp_path / "absent.pub"], unsigned=True)
    (tmp_path / "low.pub").write_text(PEM)
    assert Trust.load([tmp_path / "low.pub"], unsigned=False).keys[0].id == KEY.public.id
