"""Rollouts as the store keeps them: values to JSON and back, and which of them came later.

Blocking, inside the caller's transaction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import TypeAdapter
from sqlalchemy import Connection

from agent.wire import v1
from fleet.rollouts.progress import Rollout
from fleet.rollouts.states import TargetState
from fleet.store import rollouts

_ROLLOUT = TypeAdapter(Rollout)


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


def progress_of(kept: rollouts.KeptRollout) -> Rollout:
    """Return a kept rollout as the value it is."""
    return parsed(kept.progress)


def parsed(progress: str) -> Rollout:
    """Return a rollout as the value that was written out."""
    return _ROLLOUT.validate_json(progress)


def written_out(rollout: Rollout) -> str:
    """Return a rollout as it is kept."""
    return _ROLLOUT.dump_json(rollout).decode()


def overtaking(
    connection: Connection, older: Rollout, wanted: Mapping[str, v1.Deployment]
) -> Overtaking:
    """Look through the later rollouts of the same deployment.

    Args:
        connection: to the store.
        older: the rollout.
        wanted: what each of its targets wants now under its name.
    """
    brought: dict[str, str] = {}
    asked: dict[str, str] = {}
    mine = {progress.target for progress in older.targets}
    for newer in _later(connection, older):
        for progress in newer.targets:
            if progress.target in mine and progress.state not in _NEVER_ASKED:
                asked.setdefault(progress.target, newer.id)
                if progress.deployment == wanted.get(progress.target):
                    brought.setdefault(progress.target, newer.id)
    return Overtaking(brought=brought, asked=asked)


def decided_later(connection: Connection, older: Rollout) -> frozenset[str]:
    """Return the targets that later rollouts of the same deployment are about, asked or not."""
    newer = _later(connection, older)
    return frozenset(progress.target for each in newer for progress in each.targets)


_NEVER_ASKED = (TargetState.PLANNED, TargetState.NOT_ASKED)


def _later(connection: Connection, older: Rollout) -> Sequence[Rollout]:
    """Return the rollouts of the same deployment that were started later, the newest first."""
    found = []
    for kept in rollouts.every(connection):
        if kept.id == older.id:
            break
        newer = progress_of(kept)
        if newer.deployment == older.deployment:
            found.append(newer)
    return found
