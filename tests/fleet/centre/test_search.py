"""Devices that are looked for: the same ones over the API, by the command, a page at a time."""

import pytest

from fleet.api.search import Judged, parse, place_of
from fleet.health.states import verdict
from fleet.roll import Roll
from fleet.rollouts.errors import PlanError
from fleet.store.engine import Store
from tests.fleet.deciding.paper import NOW
from tests.fleet.screens.village import FLEET, VILLAGE, settle


def judged(store: Store) -> list[Judged]:
    return [(each, verdict(each.heard, NOW)) for each in Roll(store, FLEET).call()]


@pytest.mark.parametrize(
    ("selector", "field", "expected"),
    [
        ("", "", len(VILLAGE)),
        ("all", "", len(VILLAGE)),
        ("room=oven", "", 1),
        ("skerry/site in (lerwick)", "", 4),
        ("!room", "site=porto", 4),
        ("", "state=failing", 1),
        ("", "state=failing,site=lerwick", 0),
        ("", "bundle=digits:1.4.0", 8),
        ("", "bundle=digits:1.5.0", 0),
        ("", "reason=GOLDEN_MISMATCH", 1),
        ("", "alert=SkerryGoldenFailing", 1),
        ("", "alert=SkerrySiteCut,site=lerwick", 1),
    ],
)
def test_all_parts_must_hold(store: Store, selector: str, field: str, expected: int) -> None:
    """Labels and facts by selector; state, reason, site and bundle by field."""
    settle(store)
    wanted = parse(selector, field)
    found = judged(store)

    assert expected == len(wanted.among(found, NOW, limit=len(VILLAGE)))


@pytest.mark.parametrize(
    ("selector", "field"),
    [("room in", ""), ("", "state"), ("", "state=good"), ("", "x=1"), ("", "alert=x")],
)
def test_what_can_not_be_read_is_refused(selector: str, field: str) -> None:
    """Not taken for a filter that nothing matches, and not for none."""
    with pytest.raises(PlanError):
        parse(selector, field)


def test_pages_together_are_the_whole(store: Store) -> None:
    """By name, each once, however small the pages; a prefix is taken as it is written."""
    settle(store)
    whole = judged(store)
    every = parse("", "")
    pages = list[Judged]()
    while page := every.among(
        whole, NOW, limit=2, after=place_of(pages[-1]) if pages else ("", "")
    ):
        pages += page

    assert whole == pages
    assert 4 == len(every.among(whole, NOW, limit=9, prefix="lerwick-"))
    assert [] == every.among(whole, NOW, limit=9, prefix="l%")


def test_a_commit_is_noticed(store: Store) -> None:
    """Of anybody, once; nothing is noticed where nothing was committed."""
    before = store.changes()
    unmoved = store.changes()
    settle(store, VILLAGE[:1])
    after = store.changes()

    assert (before, after) == (unmoved, store.changes())
    assert before != after
