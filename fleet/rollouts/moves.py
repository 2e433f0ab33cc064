"""What changed between two looks at a rollout, a line each, for the log. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fleet.rollouts.progress import Progress, Rollout


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One change: of the `rollout`, a `wave` or a `target`; `fields` say which and to what."""

    what: str
    fields: Mapping[str, object]


def moves(before: Rollout | None, after: Rollout) -> Iterator[Move]:
    """Return what changed, the rollout's beginning first and its end last.

    Args:
        before: the rollout as it was; None: it has just been started.
        after: the same rollout as it is.
    """
    known = {} if after.trace is None else {"trace_id": after.trace.id}
    about = {**known, "rollout": after.id}
    if before is None:
        yield _begun(after, about)
        return
    for old, new in zip(before.waves, after.waves, strict=True):
        if new.state is not old.state:
            wave = {"wave": new.number, "state": new.state, "was": old.state}
            yield Move(what="wave", fields={**about, **wave})
    for earlier, now in zip(before.targets, after.targets, strict=True):
        if now is not earlier and _said(now) != _said(earlier):
            yield Move(what="target", fields={**about, **_told(now)})
    if after.state is not before.state:
        state = {"state": after.state, "was": before.state}
        cause = {} if after.cause is None else {"reason": after.cause.code}
        yield Move(what="rollout", fields={**about, **state, **cause})


def _begun(rollout: Rollout, about: Mapping[str, object]) -> Move:
    bundle = rollout.bundle
    content = {} if bundle is None else {"bundle": f"{bundle.name}:{bundle.version}"}
    plan = {"plan": rollout.plan_digest, "targets": len(rollout.targets)}
    fields = {**about, "state": rollout.state, "deployment": rollout.deployment, **content, **plan}
    return Move(what="rollout", fields=fields)


def _said(progress: Progress) -> tuple[object, ...]:
    return progress.state, progress.phase, progress.reason


def _told(progress: Progress) -> dict[str, object]:
    known = {
        "device": progress.target,
        "name": progress.name,
        "revision": progress.deployment.revision,
        "state": progress.state,
        "phase": progress.phase,
        "reason": progress.reason,
    }
    return {name: value for name, value in known.items() if value}
