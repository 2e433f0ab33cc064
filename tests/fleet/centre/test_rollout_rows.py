"""A rollout is a head and rows: what was kept is read, and no more is written than moved."""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import TypeAdapter
from sqlalchemy import event
from sqlalchemy.engine import Engine

from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from fleet import kept
from fleet.clock import written
from fleet.execute import Executor
from fleet.identity.places import Home
from fleet.kept import Memory, outline_of, overtaking
from fleet.rollouts.outline import outline
from fleet.rollouts.policy import Budget, Count, Gate, Policy, Retry, WaveRule
from fleet.rollouts.progress import Progress, Rollout
from fleet.rollouts.states import RolloutHappening, RolloutState, TargetState, WaveState
from fleet.rollouts.why import waits_for_approval
from fleet.store import rollouts
from fleet.store.engine import Store
from tests.fleet.centre.parties import NOW, add_devices
from tests.fleet.centre.test_execute import (
    ONE,
    TWO,
    Clock,
    careful,
    clock,
    comes,
    executor,
    goes,
    new_executor,
    progress,
    report,
    start,
    state_of,
    targets,
    wanted,
    wants,
    wish,
    woken,
    written_so_far,
)
from tests.fleet.deciding.paper import Paper

__all__ = ["clock", "executor", "woken"]  # fixtures

_ROLLOUT = TypeAdapter(Rollout)
OLD_TABLE = """
CREATE TABLE rollouts (
    id VARCHAR(64) NOT NULL, "plan" TEXT NOT NULL, plan_digest VARCHAR(80) NOT NULL,
    progress TEXT NOT NULL, state VARCHAR(32) NOT NULL, is_open BOOLEAN NOT NULL,
    created_at VARCHAR(32) NOT NULL, number BIGINT DEFAULT '0' NOT NULL,
    CONSTRAINT pk_rollouts PRIMARY KEY (id)
)
"""
_LATER_OF_TARGETS = (
    *("name", "class_name", "replaces", "held", "since"),
    *("groups", "tries", "again_at", "left"),
)
_LATER_OF_ROLLOUTS = ("bundle", "canaries", "cause", "trace", "since", "budgets", "retry")
_LATER_TABLES = ("policies", "rollout_targets", "rollout_contents")


def age(home: Home, store: Store, rollout: str, *, gates: bool = True) -> None:
    """Bring the store's file back to what schema 0010 had, with this rollout as it had it.

    Without `gates`: as a release wrote it that knew of none.
    """
    with store.read() as connection:
        head = rollouts.named(connection, rollout)
        progress = json.loads(_ROLLOUT.dump_json(Memory().read(connection, rollout)))
        plan = rollouts.plan_of(connection, rollout)
    if not gates:
        for wave in progress["waves"]:
            for name in ("title", "gate", "since"):
                del wave[name]
        for each in progress["targets"]:
            for name in _LATER_OF_TARGETS:
                del each[name]
        for name in _LATER_OF_ROLLOUTS:
            del progress[name]
    store.close()
    with sqlite3.connect(home.store) as raw:
        for table in (*_LATER_TABLES, "rollout_plans", "rollouts"):
            raw.execute(f"DROP TABLE {table}")
        raw.execute(OLD_TABLE)
        row = (head.id, plan, head.plan_digest, json.dumps(progress), head.state, head.is_open)
        raw.execute("INSERT INTO rollouts VALUES (?, ?, ?, ?, ?, ?, ?, 1)", (*row, head.created_at))
        raw.execute("UPDATE alembic_version SET version_num = '0010'")
    raw.close()


def test_what_an_older_store_holds_is_read_as_it_was(
    executor: Executor, store: Store, home: Home
) -> None:
    """Of a rollout under way: each target, each wave, the plan, and all that lists need."""
    rollout = start(executor, careful())
    executor.advance()
    report(store, ONE, Phase.FETCHING)
    goes(store, TWO)
    executor.advance()
    before = progress(store, rollout)
    with store.read() as connection:
        plan = rollouts.plan_of(connection, rollout)
        head = rollouts.named(connection, rollout)
    assert (RolloutState.RUNNING, 1) == (before.state, len(before.set_aside()))

    age(home, store, rollout)
    again = Store.open(home.store)

    assert before == progress(again, rollout)
    with again.read() as connection:
        kept_now = rollouts.named(connection, rollout)
        assert outline(before) == outline_of(kept_now)
        assert plan == rollouts.plan_of(connection, rollout)
    assert replace(head, head="", revision="") == replace(kept_now, head="", revision="")
    again.close()


def test_a_rollout_of_before_there_were_gates_is_still_carried_out(
    executor: Executor, store: Store, home: Home, clock: Clock
) -> None:
    """An older release wrote less about it; what is missing is as it was then."""
    rollout = start(executor, wish())
    executor.advance()
    age(home, store, rollout, gates=False)
    again = Store.open(home.store)
    later = new_executor(again, home, clock)
    later.advance()
    report(again, ONE)
    report(again, TWO)
    later.advance()

    assert RolloutState.DONE == state_of(again, rollout)
    assert 2 == written_so_far(again)
    again.close()


@contextmanager
def writes() -> Iterator[Counter[str]]:
    """Count the rows that statements of a kind write meanwhile, by the statement's beginning."""
    seen: Counter[str] = Counter()

    def note(
        _connection: object,
        _cursor: object,
        statement: str,
        rows: object,
        _context: object,
        many: bool,  # noqa: FBT001  # as SQLAlchemy calls it
    ) -> None:
        verb, *words = statement.split()
        if verb in ("INSERT", "UPDATE"):
            table = words[1] if verb == "INSERT" else words[0]
            seen[f"{verb} {table}"] += len(rows) if many and isinstance(rows, list) else 1

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_a_pass_writes_the_targets_that_moved_and_no_others(
    executor: Executor, store: Store
) -> None:
    """Of a hundred, the three that said something; where nothing moved, nothing at all."""
    many = [f"d-{number}" for number in range(98)]
    add_devices(store, many)
    for device in many:
        comes(store, device)
    rollout = start(executor, wish())
    executor.advance()
    report(store, "d-3")
    report(store, "d-44", Phase.FETCHING)
    report(store, TWO, Phase.REFUSED)

    with writes() as moved:
        executor._pass(rollout)
    with writes() as quiet:
        executor.advance()
        executor._pass(rollout)

    assert {"UPDATE rollouts": 1, "UPDATE rollout_targets": 3} == moved
    assert {} == quiet
    assert Counter(committed=1, updating=1, refused=1, asked=97) == Counter(
        targets(store, rollout).values()
    )


def test_what_is_alike_is_kept_once(executor: Executor, store: Store) -> None:
    """A hundred targets that get the same revision have one document that says what it is."""
    many = [f"d-{number}" for number in range(98)]
    add_devices(store, many)
    for device in many:
        comes(store, device)
    rollout = start(executor, wish())

    with store.read() as connection:
        assert 1 == len(rollouts.contents(connection, rollout))
        assert 100 == len(rollouts.targets(connection, rollout))


def test_who_remembers_a_rollout_sees_what_another_process_wrote(
    executor: Executor, store: Store, home: Home, clock: Clock
) -> None:
    """Another centre, or a person through it: nothing is decided from what was."""
    rollout = start(executor, careful())
    executor.advance()
    new_executor(store, home, clock).say(
        rollout, RolloutHappening.PAUSED, actor="bo", reason="looks odd"
    )
    report(store, ONE)
    executor.advance()

    assert RolloutState.PAUSED == state_of(store, rollout)
    with store.read() as connection:
        assert Memory().read(connection, rollout) == executor.memory.read(connection, rollout)


def test_what_was_taken_back_is_not_remembered(executor: Executor, store: Store) -> None:
    """Nor is what somebody else writes afterwards taken for it."""
    rollout = start(executor, wish())
    executor.advance()
    report(store, ONE)
    before = progress(store, rollout)

    def fails() -> None:
        with store.write() as connection:
            now = executor.memory.read(connection, rollout)
            paused = replace(now, state=RolloutState.PAUSED)
            executor.memory.keep(connection, now, paused)
            assert paused == executor.memory.read(connection, rollout)
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fails()

    with store.read() as connection:
        assert before == executor.memory.read(connection, rollout)
    executor.advance()
    assert {ONE: "committed", TWO: "asked"} == targets(store, rollout)


def test_what_is_remembered_has_a_bound(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """By targets: those read last stay."""
    monkeypatch.setattr(kept, "_HELD_TARGETS", 6)
    paper = Paper()
    inventory = paper.inventory(*paper.targets(3))
    begun, _ = paper.started(inventory, paper.plan(inventory))
    memory = Memory()
    with store.write() as connection:
        for number in range(4):
            one = replace(begun, id=f"r-{number}")
            kept.add(connection, one, plan="{}", created_at=written(NOW))
            memory.read(connection, one.id)
        assert ["r-3", "r-2"] == list(memory._held)
        assert memory.read(connection, "r-2") is memory.read(connection, "r-2")


def test_all_of_a_target_is_kept(store: Store) -> None:
    """Every field, through a row and back; and another value of each is another row."""
    paper = Paper()
    inventory = paper.inventory(*paper.targets(2))
    begun, _ = paper.started(inventory, paper.plan(inventory))
    full: dict[str, Any] = {
        "name": "Bøje 1",
        "class_name": "litert 2, arm",
        "deployment": replace(paper.deployment(), revision=7, trace_id="a" * 32),
        "replaces": replace(paper.deployment(), settings=v1.DeploymentSettings(threads=2)),
        "online": False,
        "held": True,
        "state": TargetState.UPDATING,
        "phase": Phase.ACCEPTED,
        "reason": "DOWNLOAD_WINDOW_CLOSED",
        "parameters": {"opens": "22:00"},
        "since": NOW + timedelta(microseconds=3),
        "began_at": NOW - timedelta(minutes=1),
        "asked_at": NOW,
        "groups": {"skerry/site": "Skálafjørður"},
        "tries": 2,
        "again_at": NOW + timedelta(seconds=90, microseconds=3),
        "left": True,
    }
    assert {each.name for each in fields(Progress)} == {*full, "target"}
    with store.write() as connection:
        kept.add(connection, begun, plan="{}", created_at=written(NOW))
        before = begun
        for name, value in full.items():
            first = replace(before.targets[0], **{name: value})
            after = replace(before, targets=(first, *before.targets[1:]))
            kept.move(connection, before, after)
            assert after == Memory().read(connection, begun.id), name
            before = after
        assert before.targets[0].deployment.trace_id == (
            Memory().read(connection, begun.id).targets[0].deployment.trace_id
        )


def failing(progress: Progress) -> Progress:
    """Return a target that was not asked yet as one that failed, is away, and is asked again."""
    if progress.state is not TargetState.PLANNED:
        return progress
    return replace(
        progress,
        state=TargetState.REFUSED,
        reason=Reason.DISK_FULL,
        tries=1,
        again_at=NOW + timedelta(seconds=30),
        online=False,
    )


def test_all_that_a_policy_says_is_kept(executor: Executor, store: Store, home: Home) -> None:
    """Budgets, retries, gates; who is to be asked again and who waits: in rows, and by an upgrade.

    The head says what lists, alerts and metrics need of it.
    """
    gate = Gate(success_percent=100, error_percent=0, everyone=True, approval=True)
    own = Policy(
        name="own",
        waves=(WaveRule(size=Count(targets=1), gate=gate),),
        budgets=(Budget(label="skerry/site", percent=50), Budget(label="skerry/arch", targets=2)),
        retry=Retry(times=2, wait_s=30.0, longest_s=90.0),
    )
    rollout = start(executor, replace(wish(), policy="own", own_policy=own))
    executor.advance()
    (first_asked,) = wants(store)
    report(store, first_asked)
    executor.advance()
    first = progress(store, rollout)
    over = replace(first, targets=tuple(map(failing, first.targets)))
    with store.write() as connection:
        kept.move(connection, first, over)

    assert (own.budgets, own.retry, gate) == (over.budgets, over.retry, over.waves[0].gate)
    assert WaveState.TO_APPROVE is over.waves[0].state
    assert {"skerry/site", "skerry/arch"} == set(over.targets[0].groups)
    assert over == progress(store, rollout)
    with store.read() as connection:
        head = outline_of(rollouts.named(connection, rollout))
    assert outline(over) == head
    assert waits_for_approval(head)
    # Who is to be asked again is no end, and has not settled.
    assert (1, ((1, 0), (0, 0))) == (head.set_aside, head.ends)

    age(home, store, rollout)
    again = Store.open(home.store)
    assert over == progress(again, rollout)
    with again.read() as connection:
        assert outline(over) == outline_of(rollouts.named(connection, rollout))
    again.close()


def test_a_later_rollout_of_who_was_in_an_older_one_is_found(
    executor: Executor, store: Store
) -> None:
    """By the rows of both: who asked last, and whose content is wanted now."""
    older = start(executor, wish("1.0.0"))
    executor.advance()
    newer = start(executor, wish("1.1.0", "digits", ONE))
    other = start(executor, wish("1.1.0", "words"))
    for _ in range(2):
        executor.advance()
    start(executor, wish("1.1.0", "digits", TWO))  # it has asked nobody yet
    wants = {device: wanted(store, device).deployments[0] for device in (ONE, TWO)}

    with store.read() as connection:
        found = overtaking(connection, progress(store, older), wants)
        assert ({ONE: newer}, {ONE: newer}) == (found.brought, found.asked)
        found = overtaking(connection, progress(store, older), {})
        assert ({}, {ONE: newer}) == (found.brought, found.asked)
        assert {} == overtaking(connection, progress(store, other), wants).asked
