"""Rollouts as the store keeps them: values to rows and back, and which of them came later.

A rollout's head is small and is read at every look; its targets are rows, of which those
are written that moved. Blocking, inside the caller's transaction.
"""

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection

from agent.wire import v1
from agent.wire.phases import Phase
from fleet.rollouts.outline import Outline, outline
from fleet.rollouts.progress import Progress, Rollout
from fleet.rollouts.states import ENDED, TargetState
from fleet.store import rollouts
from fleet.store.rollouts import KeptRollout

_OUTLINE = TypeAdapter(Outline)
_HELD_TARGETS = 1_000_000
"""Of all rollouts that are remembered together; the one that was read last always is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What a target gets and had before: the same for many targets."""

    deployment: v1.Deployment
    class_name: str = ""
    replaces: v1.Deployment | None = None


_CONTENT = TypeAdapter(_Content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overtaking:
    """Which later rollouts an older one's targets are in, by target.

    `brought` is the one that brought what the target wants now: it is that one's,
    even where the content is the older one's too. `asked` is the last one that
    asked it for anything.
    """

    brought: Mapping[str, str]
    asked: Mapping[str, str]

    def by(self, target: str) -> str | None:
        """Return the later rollout that decided about a target; None: there is none."""
        return self.brought.get(target) or self.asked.get(target)


class Memory:
    """The rollouts that were read last, whole: one that has not moved isn't read again.

    What moved is told by the revision in the store, whoever moved it; of a transaction that
    was taken back it has a revision that never comes again.
    """

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, Rollout]] = {}

    def read(self, connection: Connection, rollout_id: str) -> Rollout:
        """Return a rollout as it is.

        Raises:
            NotFoundError: there is none with this id.
        """
        return self.whole(connection, rollouts.named(connection, rollout_id))

    def whole(self, connection: Connection, kept: KeptRollout) -> Rollout:
        """Return a kept rollout with its targets."""
        held = self._held.get(kept.id)
        if held is not None and held[0] == kept.revision:
            return held[1]
        found = read(connection, kept)
        self._hold(found, kept.revision)
        return found

    def keep(self, connection: Connection, before: Rollout, after: Rollout) -> None:
        """Write what has moved of a rollout, if anything has."""
        if after != before:
            self._hold(after, move(connection, before, after))

    def _hold(self, rollout: Rollout, revision: str) -> None:
        held = {rollout.id: (revision, rollout)}
        room = _HELD_TARGETS - len(rollout.targets)
        for each, known in self._held.items():
            room -= len(known[1].targets)
            if each != rollout.id and room >= 0:
                held[each] = known
        self._held = held  # at once: other threads read it


def add(
    connection: Connection,
    rollout: Rollout,
    *,
    plan: str,
    created_at: str,
    policy: str = "",
    wish: str = "",
    settings_given: bool = False,
    is_open: bool = True,
) -> None:
    """Keep a new rollout, as the newest.

    Args:
        connection: to the store.
        rollout: the rollout.
        plan: what it was started from, as it is kept.
        created_at: when.
        policy: the plan's.
        wish: what is wanted of whom (`fleet.rollouts.declared`).
        settings_given: whether the plan's request says how it is to be served.
        is_open: whether a look may still change it.
    """
    head = KeptRollout(
        id=rollout.id,
        plan_digest=rollout.plan_digest,
        head=_OUTLINE.dump_json(outline(rollout)).decode(),
        state=rollout.state,
        is_open=is_open,
        created_at=created_at,
        revision=_revision(),
        policy=policy,
        settings_given=settings_given,
    )
    rollouts.add(connection, head, plan, wish)
    places = {
        target: (wave.number, place)
        for wave in rollout.waves
        for place, target in enumerate(wave.targets)
    }
    numbers = _numbered(connection, rollout.id, rollout.targets)
    rows: list[dict[str, str | int]] = []
    for position, progress in enumerate(rollout.targets):
        wave, place = places[progress.target]
        rows.append(
            {
                "position": position,
                "target": progress.target,
                "wave": wave,
                "place": place,
                "state": progress.state.value,
                "content": numbers[position],
                "document": _document(progress),
            }
        )
    rollouts.add_targets(connection, rollout.id, rows)


def move(connection: Connection, before: Rollout, after: Rollout) -> str:
    """Write a rollout's head, and the targets that moved; return its revision."""
    revision = _revision()
    moved = [
        (position, now)
        for position, (was, now) in enumerate(zip(before.targets, after.targets, strict=True))
        if now is not was and now != was
    ]
    rollouts.move(
        connection,
        after.id,
        state=after.state,
        head=_OUTLINE.dump_json(outline(after)).decode(),
        is_open=_is_open(after),
        revision=revision,
    )
    numbers = _numbered(connection, after.id, [progress for _, progress in moved])
    rows = [
        {
            "at": position,
            "state": progress.state.value,
            "content": number,
            "document": _document(progress),
        }
        for (position, progress), number in zip(moved, numbers, strict=True)
    ]
    rollouts.move_targets(connection, after.id, rows)
    return revision


def outline_of(kept: KeptRollout) -> Outline:
    """Return a kept rollout without its targets."""
    return _OUTLINE.validate_json(kept.head)


def read(connection: Connection, kept: KeptRollout) -> Rollout:
    """Return a kept rollout with its targets."""
    contents = {
        number: _CONTENT.validate_json(document)
        for number, document in rollouts.contents(connection, kept.id).items()
    }
    places: dict[int, dict[int, str]] = {}
    targets = []
    rows = rollouts.targets(connection, kept.id)
    told = json.loads(f"[{','.join(row[-1] for row in rows)}]")  # at once: a tenth of one by one
    for (target, wave, place, state, content, _), known in zip(rows, told, strict=True):
        places.setdefault(wave, {})[place] = target
        targets.append(_progress(target, state, contents[content], known))
    members = {wave: tuple(held[place] for place in sorted(held)) for wave, held in places.items()}
    return outline_of(kept).filled(members, tuple(targets))


def overtaking(
    connection: Connection,
    older: Outline | Rollout,
    wanted: Mapping[str, v1.Deployment],
    *,
    of: str | None = None,
) -> Overtaking:
    """Look through the later rollouts of the same deployment.

    Args:
        connection: to the store.
        older: the rollout.
        wanted: what each of its targets wants now under its name.
        of: the one target that is asked about; None: all are.
    """
    brought: dict[str, str] = {}
    asked: dict[str, str] = {}
    for newer in _later(connection, older):
        given = {
            number: _CONTENT.validate_json(document).deployment
            for number, document in rollouts.contents(connection, newer.id).items()
        }
        shared = rollouts.shared(connection, older.id, newer.id, but=_NEVER_ASKED, of=of)
        for target, content in shared.items():
            asked.setdefault(target, newer.id)
            if given[content] == wanted.get(target):
                brought.setdefault(target, newer.id)
    return Overtaking(brought=brought, asked=asked)


def decided_later(connection: Connection, older: Rollout) -> frozenset[str]:
    """Return its targets that later rollouts of the same deployment are about, asked or not."""
    return frozenset(
        target
        for newer in _later(connection, older)
        for target in rollouts.shared(connection, older.id, newer.id, but=())
    )


def _later(connection: Connection, older: Outline | Rollout) -> Iterator[KeptRollout]:
    """Return the later rollouts of the same deployment, the newest first."""
    for newer in rollouts.later(connection, older.id):
        if outline_of(newer).deployment == older.deployment:
            yield newer


_NEVER_ASKED = (TargetState.PLANNED.value, TargetState.NOT_ASKED.value)


def _is_open(now: Rollout) -> bool:
    """Say whether a later look may still change something: targets that are away may come back."""
    going = now.state not in ENDED
    return going or not all(progress.settled for progress in now.targets)


def _revision() -> str:
    return secrets.token_hex(16)


def _numbered(connection: Connection, rollout: str, targets: Iterable[Progress]) -> Sequence[int]:
    """Return the number of what each target gets."""
    written: dict[tuple[int, str, int], str] = {}
    documents = []
    for each in targets:
        # Values are shared by many targets, and written out once.
        same = id(each.deployment), each.class_name, id(each.replaces)
        if same not in written:
            content = _Content(
                deployment=each.deployment, class_name=each.class_name, replaces=each.replaces
            )
            written[same] = _CONTENT.dump_json(content).decode()
        documents.append(written[same])
    numbers = rollouts.numbered(connection, rollout, documents) if documents else {}
    return [numbers[document] for document in documents]


def _document(progress: Progress) -> str:
    """Return what is kept of a target beside its columns: what is not as it is by default."""
    known = {
        "name": progress.name,
        "held": progress.held,
        "phase": progress.phase and progress.phase.value,
        "parameters": progress.parameters and dict(progress.parameters),
        "since": progress.since and _iso(progress.since),
        "began_at": progress.began_at and _iso(progress.began_at),
        "asked_at": progress.asked_at and _iso(progress.asked_at),
        "groups": progress.groups and dict(progress.groups),
        "tries": progress.tries,
        "again_at": progress.again_at and _iso(progress.again_at),
        "left": progress.left,
    }
    told = {name: value for name, value in known.items() if value}
    if not progress.online:
        told["online"] = False
    if progress.reason is not None:
        told["reason"] = progress.reason
    return _encoded(told)


def _progress(target: str, state: str, content: _Content, told: Mapping[str, Any]) -> Progress:
    phase = told.get("phase")
    return Progress(
        target=target,
        deployment=content.deployment,
        name=told.get("name", ""),
        class_name=content.class_name,
        replaces=content.replaces,
        online=told.get("online", True),
        held=told.get("held", False),
        state=_STATES[state],
        phase=None if phase is None else _PHASES[phase],
        reason=told.get("reason"),
        parameters=told.get("parameters", {}),
        since=_moment(told.get("since")),
        began_at=_moment(told.get("began_at")),
        asked_at=_moment(told.get("asked_at")),
        groups=told.get("groups", {}),
        tries=told.get("tries", 0),
        again_at=_moment(told.get("again_at")),
        left=told.get("left", False),
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else _read_iso(text)


# One moment is that of many targets.
_iso = lru_cache(maxsize=4096)(datetime.isoformat)
_read_iso = lru_cache(maxsize=4096)(datetime.fromisoformat)
_encoded = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


_STATES = {state.value: state for state in TargetState}
_PHASES = {phase.value: phase for phase in Phase}
