"""A device's life is one line: in order, dated by who can be believed, and nothing is left out."""

from hypothesis import given
from hypothesis import strategies as st

from agent.wire import v1
from fleet.health.lifeline import Counted, Gone, Kind, Told, lifeline

JOINED = "2026-03-01T08:00:00Z"


def at(hour: int, minute: int = 0) -> str:
    return f"2026-03-01T{hour:02}:{minute:02}:00Z"


def told(
    number: int,
    happened: str,
    *,
    came: str = "",
    kind: v1.EventKind = v1.EventKind.HOLD,
    ledger: str = "l-1",
    boot: str = "",
) -> Told:
    event = v1.Event(
        fleet="harbour",
        device="d-one",
        ledger=ledger,
        number=number,
        kind=kind,
        at=happened,
        parameters={"machine_boot": boot} if boot else {},
    )
    return Told(event=event, late=bool(came), received_at=came or happened)


def test_all_that_is_known_stands_in_order() -> None:
    """Joined, started, away, and what waited meanwhile in the span in which it happened."""
    line = lifeline(
        JOINED,
        [told(2, at(11), came=at(13)), told(1, at(9), kind=v1.EventKind.BOOT)],
        [Gone(since=at(10), until=at(13), spans=1, away_s=10800)],
        [Counted(kind="phase", count=40, first_at=at(8, 30), last_at=at(8, 50))],
    )
    assert [
        (JOINED, Kind.JOINED),
        (at(8, 30), Kind.SUMMED),
        (at(9), Kind.RESTARTED),
        (at(10), Kind.AWAY),
        (at(11), Kind.TOLD),
    ] == [(each.at, each.kind) for each in line]
    assert [False, False, False, False, True] == [each.late for each in line]


def test_a_clock_that_cannot_be_right_is_not_believed() -> None:
    """1970, before it joined, ten years ahead, no such day: it stands where it was told."""
    wrong = ["1970-01-01T00:00:07Z", at(7), "2036-03-01T00:00:00Z", "2026-02-31T25:00:00Z"]
    for happened in wrong:
        [_, moment] = lifeline(JOINED, [told(1, happened, came=at(12))], [], [])
        assert (at(12), True) == (moment.at, moment.by_arrival)
    [_, ahead] = lifeline(JOINED, [told(1, at(12, 2), came=at(12))], [], [])
    assert (at(12), False) == (ahead.at, ahead.by_arrival)


def test_a_restart_of_the_machine_is_told_from_one_of_the_agent() -> None:
    """By what names a start of the machine; where nothing does, it is not claimed."""
    boots = ["", "aa", "aa", "bb", "", "bb"]
    line = lifeline(
        JOINED,
        [
            told(n, at(9, n), kind=v1.EventKind.BOOT, boot=boot)
            for n, boot in enumerate(boots, start=1)
        ],
        [],
        [],
    )
    assert [3] == [number for number, each in enumerate(line[1:]) if each.kind is Kind.REBOOTED]


@given(
    st.lists(
        st.tuples(st.integers(0, 23), st.integers(0, 23), st.sampled_from(["l-1", "l-2"])),
        max_size=12,
    )
)
def test_numbers_order_what_clocks_do_not(hours: list[tuple[int, int, str]]) -> None:
    """Within a ledger no event stands before one with a lower number, and none is lost."""
    events = [
        told(number, at(happened), came=at(max(came, 8)), ledger=ledger)
        for number, (happened, came, ledger) in enumerate(hours, start=1)
    ]
    line = lifeline(JOINED, reversed(events), [], [])

    for ledger in ("l-1", "l-2"):
        mine = [m.event.number for m in line if m.event and m.event.ledger == ledger]
        assert sorted(mine) == mine
    assert len(events) + 1 == len(line)
    assert [each.place for each in line] == sorted(each.place for each in line)
