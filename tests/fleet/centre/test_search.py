"""Devices that are looked for: the same ones over the API, by the command, a page at a time."""

import pytest

from fleet.api.search import parse
from fleet.api.shown import Known, every_known, known_after
from fleet.health.states import verdict
from fleet.rollouts.errors import PlanError
from fleet.store.engine import Store
from tests.fleet.deciding.paper import NOW
from tests.fleet.screens.village import VILLAGE, settle


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
    with store.read() as connection:
        found = every_known(connection)

    assert expected == sum(
        wanted.matches(each.heard, verdict(each.heard, NOW), NOW) for each in found
    )


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
    name = device = ""
    pages: list[Known] = []
    with store.read() as connection:
        while page := known_after(connection, name, device, limit=2):
            pages += page
            name, device = page[-1].device.name, page[-1].device.id
        whole = every_known(connection)
        prefixed = known_after(connection, "", "", limit=9, prefix="lerwick-")
        wild = known_after(connection, "", "", limit=9, prefix="l%")

    assert whole == pages
    assert (4, 0) == (len(prefixed), len(wild))


def test_a_commit_is_noticed(store: Store) -> None:
    """Of anybody, once; nothing is noticed where nothing was committed."""
    before = store.changes()
    unmoved = store.changes()
    settle(store, VILLAGE[:1])
    after = store.changes()

    assert (before, after) == (unmoved, store.changes())
    assert before != after
