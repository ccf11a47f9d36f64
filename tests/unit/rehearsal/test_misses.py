"""What a rehearsal remembers of what failed: each thing once, and not without bound."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from proxy.events import NotHeld
from proxy.rehearsal.misses import IMAGES_MAX, Misses


def miss(image: str, platform: str | None = None, client: str = "10.0.0.1") -> NotHeld:
    return NotHeld(upstream="lab", kind="manifest", image=image, platform=platform, client=client)


_MISSES = st.lists(
    st.builds(
        miss,
        st.sampled_from(["lab/a:1", "lab/b:1", "lab/c:1"]),
        st.sampled_from([None, "linux/amd64"]),
        st.sampled_from(["10.0.0.1", "10.0.0.2"]),
    ),
    max_size=30,
)


@given(_MISSES)
def test_every_request_is_counted_once_where_it_belongs(events: list[NotHeld]) -> None:
    misses = Misses()
    firsts = [(one.image, one.platform) for one in events if misses.note(one)]
    expected = Counter((one.image, one.platform) for one in events)
    assert misses.count == len(events)
    assert len(firsts) == len(set(firsts)) == len(expected)
    told = misses.document()
    assert {(one["image"], one["platform"]): one["count"] for one in told} == expected
    counts = [one["count"] for one in told]
    assert counts == sorted(counts, reverse=True)


def test_it_is_bounded_and_says_so() -> None:
    misses = Misses()
    for number in range(IMAGES_MAX + 5):
        misses.note(miss(f"lab/app:{number}"))
    for number in range(100):
        misses.note(miss("lab/app:0", client=f"10.0.1.{number}"))
    told = misses.document()
    assert (len(told), misses.unlisted, misses.count) == (IMAGES_MAX, 5, IMAGES_MAX + 105)
    assert (told[0]["image"], told[0]["count"]) == ("lab/app:0", 101)
    assert len(told[0]["clients"]) == 20
