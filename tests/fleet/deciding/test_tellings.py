"""What was told of drift counts once, in the order in which it was measured."""

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fleet.health.tellings import KEPT, Telling, Tellings, with_one

DIGEST = "sha256:" + "a" * 64


def telling(number: int, *, waited: bool = False, count: int = 1, mark: str = "") -> Telling:
    return Telling(
        number=number,
        waited=waited,
        mark=mark or f"{number}{waited}",
        counts={"input-0-mean": (count, 0, 0)},
    )


def first(
    each: Telling, *, ledger: str | None = "l-1", revision: int = 1, digest: str = DIGEST
) -> Tellings:
    return Tellings(ledger=ledger, revision=revision, digest=digest, kept=(each,))


def told(*tellings: Telling) -> Tellings:
    held = None
    for each in tellings:
        held = with_one(held, first(each), in_use=True) or held
    assert held is not None
    return held


def numbers(held: Tellings) -> list[int]:
    return [each.number for each in held.kept]


@given(st.permutations(range(1, 40)), st.integers(0, 2**32))
def test_any_order_and_any_repetition_end_in_the_same(order: list[int], seed: int) -> None:
    """The last `KEPT` are held, whenever and however often each came."""
    dice = random.Random(seed)  # noqa: S311  # which come again
    all_of_them = [telling(number, waited=bool(number % 3), count=number) for number in order]
    again = [each for each in all_of_them for _ in range(dice.randint(1, 3))]

    assert list(range(40 - KEPT, 40)) == numbers(told(*again))
    assert told(*sorted(all_of_them, key=lambda each: each.number)) == told(*all_of_them)


def test_the_counts_are_of_what_is_kept() -> None:
    """Each of the last counts; those before are forgotten."""
    held = told(*(telling(number, count=10**number) for number in range(KEPT + 2)))

    assert {"input-0-mean": [sum(10**number for number in range(2, KEPT + 2)), 0, 0]} == (
        held.counts()
    )


def test_one_that_waited_and_came_at_once_is_one() -> None:
    """A connection breaks while it is said: the device tells it again, as an event."""
    live = telling(7, mark="4.7.x")
    waited = Telling(number=8, waited=True, mark="4.7.x", counts=live.counts)

    assert None is with_one(first(live), first(waited), in_use=True)
    # A clock that stands still makes no two alike that counted otherwise.
    other = replace(waited, counts={"input-0-mean": (2, 0, 0)})
    assert 2 == len(told(live, other).kept)


def test_older_ones_don_t_come_back() -> None:
    """What was replayed for days is not replayed into what is newer."""
    held = told(*(telling(number) for number in range(100, 100 + KEPT)))

    assert None is with_one(held, first(telling(99, waited=True)), in_use=True)


def test_a_new_revision_begins_anew() -> None:
    """And what is told afterwards of the one before is of before."""
    held = told(telling(5))
    newer = with_one(held, first(telling(6), revision=2), in_use=True)

    assert newer is not None
    assert [6] == numbers(newer)
    late = first(telling(4, waited=True), revision=1)
    assert None is with_one(newer, late, in_use=True)
    back = with_one(newer, first(telling(9, waited=True), revision=1), in_use=True)
    assert back is not None
    assert (1, [9]) == (back.revision, numbers(back))
    # What comes at once is of now, whatever the numbers say.
    assert with_one(told(telling(2**52)), first(telling(1), revision=2), in_use=True) is not None
    # The same revision with another bundle is another.
    other = with_one(held, first(telling(6), digest="sha256:" + "b" * 64), in_use=True)
    assert other is not None
    assert [6] == numbers(other)


def test_of_two_ledgers_the_one_in_use_counts() -> None:
    """A device that lost its ledger numbers from 1 again; what is left of the old one is old."""
    held = told(telling(900))
    new = first(telling(1), ledger="l-2")

    assert new == with_one(held, new, in_use=True)
    assert None is with_one(new, first(telling(901, waited=True)), in_use=False)
    unknown = with_one(held, first(telling(901), ledger=None), in_use=True)
    assert unknown is not None
    assert ("l-1", [900, 901]) == (unknown.ledger, numbers(unknown))


def test_what_keeps_changing_its_subjects_stays_small() -> None:
    """Six of them, the newest; of bins that change the newest count."""
    held = told(
        *(
            replace(telling(number), counts={f"input-{number}-mean": (1,), "output-0-class": (9,)})
            for number in range(KEPT - 1)
        ),
        replace(telling(KEPT), counts={"output-0-class": (1, 1)}),
    )
    counts = held.counts()

    assert 6 == len(counts)
    assert [1, 1] == counts["output-0-class"]
