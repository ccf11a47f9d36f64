"""The setting `bundles`: whose are believed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from proxy.config import ConfigError, load


def loaded(bundles: Any) -> Any:
    return load(None, {}, {"data_dir": "/tmp/none", "bundles": bundles}).bundles


def test_without_it_the_command_decides() -> None:
    assert load(None, {}, {"data_dir": "/tmp/none"}).bundles == loaded({})
    assert (loaded({}).keys, loaded({}).unsigned) == ((), True)
    assert loaded({"keys": None}).keys == ()


def test_keys_are_files(tmp_path: Path) -> None:
    found = loaded({"keys": ["/etc/entrepot/low.pub", str(tmp_path)], "unsigned": False})
    assert (found.keys, found.unsigned) == ((Path("/etc/entrepot/low.pub"), tmp_path), False)


@pytest.mark.parametrize(
    ("bundles", "word"),
    [
        ({"keys": "/etc/entrepot/low.pub"}, "must be a list of files"),
        ({"key": []}, "key"),
        ({"unsigned": "perhaps"}, "boolean"),
        ([], "bundles"),
    ],
)
def test_mistakes_are_told(bundles: Any, word: str) -> None:
    with pytest.raises(ConfigError) as told:
        loaded(bundles)
    assert word in "\n".join(told.value.lines())
