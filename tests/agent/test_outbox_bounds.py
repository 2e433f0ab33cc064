"""Whatever is told, dropped, folded, acknowledged or restarted: no number is lost or doubled."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent import ledger as ledger_module
from agent.ledger import Ledger, open_ledger
from agent.ledger_events import KEPT, WINDOW
from agent.state import Note
from agent.wire import codec, v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason

AT = "2026-01-02T03:04:05Z"
DIGEST = "sha256:" + "a" * 64


def transition(cause: int) -> Note:
    return Note(kind=v1.EventKind.PHASE, deployment=f"n{cause}", phase=Phase.FETCHING)


def waiting(told: int, parts: int = 1) -> Note:
    health = v1.Health(
        fleet="f",
        device="d-1",
        session=1,
        at=AT,
        period_s=60.0,
        told=told,
        deployments=tuple(
            v1.DeploymentHealth(name=f"n{part}", revision=1, digest=DIGEST, requests=9, errors=0)
            for part in range(parts)
        ),
    )
    return Note(kind=v1.EventKind.HEALTH, health=health)


def open_at(path: Path) -> Ledger:
    return open_ledger(path, fleet="f", device="d-1")


def every(ledger: Ledger) -> list[v1.Event]:
    found = ledger._database.execute("SELECT body FROM event ORDER BY number")
    return [codec.decode(body, v1.Event) for (body,) in found]


def stands_for(event: v1.Event) -> range:
    return range(event.first or event.number, event.number + 1)


def is_metric(event: v1.Event) -> bool:
    return v1.EventKind.HEALTH in {event.kind, event.parameters.get("kind")}


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    monkeypatch.setattr(ledger_module, "OUTBOX_LIMIT_BYTES", 120_000)
    opened = open_at(tmp_path / "ledger.db")
    yield opened
    opened.close()


def test_health_waits_with_its_number_and_what_it_said(ledger: Ledger) -> None:
    """Told like a transition, in its order, under the session it was measured in."""
    ledger.next_session()
    ledger.tell(transition(0), at=AT)
    ledger.tell(waiting(1), at=AT)
    ledger.tell(transition(0), at=AT)

    events = every(ledger)

    assert [(1, "phase"), (2, "health"), (3, "phase")] == [
        (event.number, event.kind) for event in events
    ]
    assert waiting(1).health == events[1].health
    assert [1, 1, 1] == [event.session for event in events]


def test_a_full_outbox_drops_the_oldest_health_before_any_transition(ledger: Ledger) -> None:
    """Transitions stay as they were told; each gap is one record that counts what it stands for."""
    for number in range(500):
        ledger.tell(transition(number % 7) if number % 25 == 0 else waiting(number), at=AT)

    events = every(ledger)

    assert ledger.outbox_bytes <= 120_000
    assert list(range(1, 501)) == [number for event in events for number in stands_for(event)]
    transitions = [event for event in events if event.kind is v1.EventKind.PHASE]
    assert list(range(1, 501, 25)) == [event.number for event in transitions]
    assert all(event.first is None and event.count == 1 for event in transitions)
    assert [event.kind for event in events[:WINDOW]] == [
        "phase" if number % 25 == 0 else "health" for number in range(WINDOW)
    ]
    dropped = [event for event in events if event.kind is v1.EventKind.FOLDED]
    assert dropped
    for event in dropped:
        assert event.reason == Reason.OUTBOX_FULL
        assert event.parameters["kind"] == "health"
        assert event.count == len(stands_for(event))
    left = [event.number for event in events if event.kind is v1.EventKind.HEALTH]
    assert max(event.number for event in dropped) < min(left[WINDOW:])  # the oldest went
    assert 500 == left[-1]


def test_when_no_health_is_left_to_drop_transitions_are_folded(ledger: Ledger) -> None:
    """The bound holds whatever waits; all of it is counted."""
    for number in range(300):
        ledger.tell(waiting(number), transition(number % 3), transition(3 + number % 2), at=AT)

    events = every(ledger)

    assert ledger.outbox_bytes <= 120_000
    assert list(range(1, 901)) == [number for event in events for number in stands_for(event)]
    assert 900 == sum(event.count for event in events)
    folded = [event for event in events if event.kind is v1.EventKind.FOLDED]
    assert {"health", "phase"} == {event.parameters["kind"] for event in folded}
    summed = max(event.number for event in folded if not is_metric(event))
    kept = [event.number for event in events[WINDOW:] if event.kind is v1.EventKind.HEALTH]
    assert summed < min(kept, default=901)  # no transition goes while there is older health


def test_what_was_folded_is_said_to_be_of_its_own_kind(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event's own parameter `kind` is not taken for the kind of the record that counts it."""
    monkeypatch.setattr(ledger_module, "OUTBOX_LIMIT_BYTES", 30_000)
    refused = Note(
        kind=v1.EventKind.REFUSED, reason=Reason.MALFORMED, parameters={"kind": "desired"}
    )
    for _ in range(300):
        ledger.tell(refused, at=AT)

    folded = [event for event in every(ledger) if event.kind is v1.EventKind.FOLDED]

    assert folded
    assert {"refused"} == {event.parameters["kind"] for event in folded}


class Outboxes(RuleBasedStateMachine):
    """A ledger that appends, shrinks, is sent from, acknowledged and reopened in any order."""

    @initialize(limit=st.sampled_from([0, 30_000, 45_000, 60_000]))
    def begin(self, limit: int) -> None:
        self.folder = Path(mkdtemp(prefix="outbox-"))
        self.limit, self.patch = limit, pytest.MonkeyPatch()
        self.patch.setattr(ledger_module, "OUTBOX_LIMIT_BYTES", limit)
        self.ledger = open_at(self.folder / "ledger.db")
        self.told = self.acked = 0
        self.gone: list[v1.Event] = []
        self.sent: dict[int, bytes] = {}
        self.given = 0

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.patch.undo()
            shutil.rmtree(self.folder)

    @rule(
        what=st.lists(
            st.one_of(
                st.integers(1, 40).map(lambda times: ("health", times)),
                st.integers(0, 30).map(lambda cause: ("phase", cause)),
            ),
            min_size=1,
            max_size=12,
        )
    )
    def append(self, what: list[tuple[str, int]]) -> None:
        notes: list[Note] = []
        for kind, number in what:
            if kind == "health":
                notes += [waiting(self.told, parts=number % 3)] * number
            else:
                notes.append(transition(number))
        self.ledger.tell(*notes, at=AT)
        self.told += len(notes)
        # Over its bound is only what may have been sent, and one record that can't be folded.
        assert self.ledger.outbox_bytes <= self.limit or self.ledger.depth <= WINDOW + 1

    @rule()
    def send(self) -> None:
        """What is sent is remembered, as the centre may have it; sent again it is the same."""
        for each in self.ledger.pending():
            assert self.sent.setdefault(each.number, each.body) == each.body

    @precondition(lambda self: any(number > self.acked for number in self.sent))
    @rule(share=st.floats(0, 1))
    def acknowledge(self, share: float) -> None:
        """The centre acknowledges the number of an event that it was sent."""
        open_numbers = sorted(number for number in self.sent if number > self.acked)
        number = open_numbers[int(share * (len(open_numbers) - 1))]
        gone = [event for event in every(self.ledger) if event.number <= number]
        acked = v1.Acked(fleet="f", device="d-1", ledger=self.ledger.id, number=number)
        assert len(gone) == self.ledger.acknowledge(acked)
        self.given += sum(event.count for event in gone)
        self.gone += gone
        self.acked = number

    @rule()
    def restart(self) -> None:
        before = (self.ledger.id, self.ledger.depth, self.ledger.outbox_bytes, self.ledger.told)
        self.ledger.close()
        self.ledger = open_at(self.folder / "ledger.db")
        again = (self.ledger.id, self.ledger.depth, self.ledger.outbox_bytes, self.ledger.told)
        assert before == again

    @invariant()
    def all_is_there_once(self) -> None:
        if not hasattr(self, "ledger"):
            return
        events = every(self.ledger)
        numbers = [number for event in events for number in stands_for(event)]
        assert list(range(self.acked + 1, self.told + 1)) == numbers
        assert self.told == self.given + sum(event.count for event in events)
        assert self.told == self.ledger.told
        assert len(events) == self.ledger.depth
        size = sum(len(codec.encode(event)) for event in events)
        assert size == self.ledger.outbox_bytes

    @invariant()
    def the_last_transitions_can_be_looked_at(self) -> None:
        """Whether the centre has them or not, over restarts, and no more than that many."""
        if not hasattr(self, "ledger"):
            return
        transitions = [
            event
            for event in (*self.gone, *every(self.ledger))
            if event.health is None and not event.message.startswith("dropped")
        ]
        assert transitions[::-1][:KEPT] == list(self.ledger.latest())
        (kept,) = self.ledger._database.execute("SELECT count(*) FROM past").fetchone()
        assert kept <= KEPT

    @invariant()
    def what_was_sent_is_never_altered(self) -> None:
        if not hasattr(self, "ledger"):
            return
        found = self.ledger._database.execute("SELECT number, body FROM event").fetchall()
        bodies: dict[int, bytes] = dict(found)
        assert {n: bodies[n] for n in self.sent if n > self.acked} == {
            n: body for n, body in self.sent.items() if n > self.acked
        }


Outboxes.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
test_any_interleaving = Outboxes.TestCase
