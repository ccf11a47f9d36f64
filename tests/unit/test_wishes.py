"""What `/warm`, `/missing` and `/bundles/plan` take."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.platforms import Platforms
from proxy.errors import InvalidRequest
from proxy.naming import own_platform
from proxy.wishes import wish_of

USUAL = ("linux/amd64",)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["images", "platforms", "referrers", "x"]), inner)
    ),
    max_leaves=6,
)


def test_platforms_are_those_asked_for_else_those_configured_else_the_servers_own() -> None:
    images = ["a", "b", "a"]
    wish = wish_of({"images": images, "platforms": ["Linux/ARM64"]}, USUAL)
    assert (wish.images, wish.platforms) == (("a", "b"), Platforms.of(["linux/arm64"]))
    assert wish_of({"images": images}, USUAL).platforms == Platforms.of(["linux/amd64"])
    assert wish_of({"images": images}, ()).platforms == Platforms.of([own_platform()])
    everything = {"images": images, "platforms": ["all", "linux/arm64"], "referrers": False}
    assert wish_of(everything, USUAL).platforms == Platforms.all()
    assert wish_of(everything, USUAL).referrers is False


@given(JSON)
def test_any_document_is_a_wish_or_refused(document: object) -> None:
    try:
        wish = wish_of(document, USUAL)
    except InvalidRequest:
        return
    assert isinstance(document, dict)
    assert list(wish.images) == list(dict.fromkeys(document["images"]))


@pytest.mark.parametrize("document", [None, {}, {"images": []}, {"images": [1]}, {"x": 1}])
def test_a_list_without_images_is_refused(document: object) -> None:
    with pytest.raises(InvalidRequest):
        wish_of(document, USUAL)
