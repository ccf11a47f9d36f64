"""Image names in a plain text file: one a line, `#` begins a comment."""

from __future__ import annotations

from collections.abc import Iterator

from proxy.images.reading import checked_name


def names_in(text: str, place: str) -> Iterator[str]:
    """In their order. Raises `ImagesError`."""
    for number, line in enumerate(text.splitlines(), start=1):
        name = line.partition("#")[0].strip()
        if name:
            yield checked_name(name, f"{place}:{number}")
