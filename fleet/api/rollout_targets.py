"""The targets of a rollout, those that need a person first: a page at a time, and counted. Pure."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.wire.phases import Phase
from fleet.marks import ASIDE_MARKS, MARKS, Mark
from fleet.rollouts.progress import Progress, Rollout
from fleet.rollouts.states import TargetState

PAGE = 200
PAGE_LIMIT = 500

_ORDER = (Mark.FAILING, Mark.ROLLED_BACK, Mark.UPDATING, Mark.PAUSED, Mark.WAITING)
"""Those that need a person first; what is well comes last."""

Place = tuple[int, int, str, str]
"""What targets are ordered by: how much they need a person, wave, name, id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A target, the number of its wave, and its place among all of them."""

    place: Place
    wave: int
    progress: Progress


def aside(progress: Progress) -> str | None:
    """Return in a word what keeps a target from going on; None: nothing does, or it has settled."""
    if not progress.set_aside:
        return None
    if not progress.held:
        return "offline"
    return "window" if progress.before_window else "held"


def outcome(progress: Progress) -> str:
    """Return in a word how a target is: away, where that says more than where it was."""
    return aside(progress) or str(progress.state)


def mark(progress: Progress) -> Mark:
    """Return a target's mark: that it is set aside says more than where it was."""
    return ASIDE_MARKS.get(aside(progress) or "", MARKS[progress.state])


def went_wrong(progress: Progress) -> bool:
    """Tell whether a target did not take it, or not in time, also where it has gone back since."""
    late = progress.state in (TargetState.TIMED_OUT, TargetState.NOT_RETURNED)
    return late or progress.phase in (Phase.REFUSED, Phase.ROLLED_BACK)


def placed(rollout: Rollout, *, wave: int | None = None, word: str = "") -> Sequence[Placed]:
    """Return the targets of a wave (None: of all) whose outcome is this word, the worst first."""
    found = []
    for each, members in rollout.members():
        if wave not in (None, each.number):
            continue
        for progress in members:
            if word in ("", outcome(progress)):
                place = (_rank(progress), each.number, progress.name, progress.target)
                found.append(Placed(place=place, wave=each.number, progress=progress))
    return sorted(found, key=_place)


def after(found: Sequence[Placed], place: Place | None) -> Sequence[Placed]:
    """Return what comes after a place; None: all of it."""
    return found if place is None else found[bisect_right(found, place, key=_place) :]


def outcomes(rollout: Rollout) -> Mapping[int, Mapping[tuple[str, Mark, bool], int]]:
    """Count the targets of each wave by outcome, with its mark and whether that is set aside.

    Under 0 are all of them. In the order of the plan.
    """
    waves = {target: wave.number for wave in rollout.waves for target in wave.targets}
    found: dict[int, Counter[tuple[str, Mark, bool]]] = {
        number: Counter() for number in (0, *(wave.number for wave in rollout.waves))
    }
    for progress in rollout.targets:
        how = outcome(progress), mark(progress), progress.set_aside
        found[0][how] += 1
        found[waves[progress.target]][how] += 1
    return found


def _place(each: Placed) -> Place:
    return each.place


def _rank(progress: Progress) -> int:
    how = mark(progress)
    return _ORDER.index(how) if how in _ORDER else len(_ORDER)
