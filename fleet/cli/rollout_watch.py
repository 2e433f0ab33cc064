"""`skerry rollout watch`: look until it ends, and say every change; its end is the exit code.

On a terminal one picture is drawn over the last, at most twice a second; in a pipe each
change is a line that begins with the time, by the centre's clock. A centre that is away
is waited for, because a rollout goes on where its store is.
"""

import json
import math
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from fleet import wording
from fleet.cli.marks import Screen, show
from fleet.cli.options import CentreOptions
from fleet.cli.rollout_screen import mark_of, rollout_lines
from fleet.cli.screen import CommandError, ExitCode, note
from fleet.marks import MARKS, Mark
from fleet.rollouts.gate import GateReason

_PERIOD_S = 0.5
_SHARE = 4  # of the time is left to the centre, however long one answer takes it
_PATIENCE_S = 120.0
"""For how long a centre may be away: a restart takes seconds, an upgrade a minute."""

_CHANGES_SHOWN = 5
_CLOCK_COLUMNS = 10
_ENDS = {
    "done": ExitCode.DONE,
    "failed": ExitCode.BAD,
    "superseded": ExitCode.CONFLICT,
    "paused": ExitCode.PAUSED,
    "rolled-back": ExitCode.ROLLED_BACK,
    "aborted": ExitCode.ABORTED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that is not as it was at the last look. `subject`: the rollout, a wave, a name."""

    at: str
    subject: str
    state: str
    mark: Mark
    why: str = ""

    def __str__(self) -> str:
        return f"{self.subject} {self.state}" + (f": {self.why}" if self.why else "")


class View(Protocol):
    """Where a person sees it."""

    def show(self, found: Mapping[str, Any], changes: Sequence[Change]) -> None:
        """Show how it is now, and what has changed since the last look."""

    def lost(self, error: CommandError) -> None:
        """Say that the centre doesn't answer."""


class Look:
    """Looks at one rollout, over a new connection when the last one broke."""

    def __init__(self, centre: CentreOptions, rollout: str) -> None:
        self._centre = centre
        self._rollout = rollout
        self._api = centre.connect()
        self._broken = False

    def __call__(self) -> Any:  # noqa: ANN401  # JSON, as the API's reference describes it
        """Return how the rollout is.

        Raises:
            CommandError: the centre can't be reached, or knows no such rollout.
        """
        if self._broken:
            self.close()
            self._api = self._centre.connect()  # it may listen elsewhere by now
        self._broken = True
        found = self._api.get("api", "v1", "rollouts", self._rollout)
        self._broken = False
        return found

    def close(self) -> None:
        """End the connection."""
        self._api.close()


def watch(
    look: Callable[[], Any],
    view: View,
    *,
    timeout_s: float | None,
    pause: Callable[[float], object],
    clock: Callable[[], float],
) -> ExitCode:
    """Look until the rollout ends or is paused, or until the time is up.

    Raises:
        CommandError: the centre has been away too long, or says no.
    """
    began = clock()
    until = math.inf if timeout_s is None else began + timeout_s
    heard: float | None = None
    lost = False
    before: Mapping[str, Any] | None = None
    while True:
        asked = clock()
        try:
            found = look()
        except CommandError as error:
            known = heard is not None and asked < min(until, heard + _PATIENCE_S)
            if not known or error.exit_code is not ExitCode.UNREACHABLE:
                raise
            if not lost:
                view.lost(error)
            lost = True
        else:
            heard, lost = clock(), False
            view.show(found, list(changes(before, found)))
            before = found
            code = ended(found)
            if code is None and asked >= until:
                code = ExitCode.STILL_RUNNING
            if code is not None:
                return code
        wait_s = max(_PERIOD_S, _SHARE * (clock() - asked))
        pause(max(min(wait_s, until - clock()), 0.0))


def ended(found: Mapping[str, Any]) -> ExitCode | None:
    """Return what the end of a rollout means to a script. None: it goes on by itself."""
    cause = found["cause"]
    if found["state"] == "done" and found["counts"].get("superseded"):
        return ExitCode.CONFLICT  # not everybody who was asked serves this
    if found["state"] == "paused" and any(each["state"] == "failed" for each in found["waves"]):
        return ExitCode.BAD  # its policy has it pause there, and a person mend it
    if found["state"] == "paused" and cause is not None and cause["code"] in set(GateReason):
        return ExitCode.INCONCLUSIVE
    return _ENDS.get(found["state"])


def changes(before: Mapping[str, Any] | None, found: Mapping[str, Any]) -> Iterator[Change]:
    """Return what is otherwise than at the last look; at the first, what has begun.

    The targets' changes lead to the waves', and those to the rollout's: so they are told.
    """
    if before is None:
        yield _of_rollout(found)
        yield from _of_waves({}, found)
        return
    yield from _of_targets(before, found)
    yield from _of_waves({wave["number"]: wave["state"] for wave in before["waves"]}, found)
    if before["state"] != found["state"]:
        yield _of_rollout(found)


def watch_now(centre: CentreOptions, rollout: str, view: View, timeout_s: float | None) -> ExitCode:
    """Watch by the real clock; Ctrl-C ends it wherever it comes.

    An interrupt that is raised inside a finalizer is lost, as Python prints it and goes on: so it
    is remembered, too, and raised again at the next pause.
    """
    look = Look(centre, rollout)
    interrupted: list[int] = []

    def interrupt(number: int, _: object) -> None:
        interrupted.append(number)
        raise KeyboardInterrupt

    def pause(seconds: float) -> None:
        if not interrupted:
            # An event that nobody sets, because waiting for it ends at once on Ctrl-C.
            threading.Event().wait(seconds)
        if interrupted:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        return watch(look, view, timeout_s=timeout_s, pause=pause, clock=time.perf_counter)
    finally:
        signal.signal(signal.SIGINT, before)
        look.close()


class Lines:
    """One line for each change, for pipes and logs."""

    def show(self, _found: Mapping[str, Any], changes: Sequence[Change]) -> None:
        """Print the changes."""
        show(f"{change.at}  {change}" for change in changes)
        sys.stdout.flush()

    def lost(self, error: CommandError) -> None:
        """Say that the centre doesn't answer: not among the data."""
        note(f"{error.what}; trying again for {_PATIENCE_S:.0f} s")


class Documents(Lines):
    """One JSON document for each change."""

    def show(self, found: Mapping[str, Any], changes: Sequence[Change]) -> None:
        """Print the changes."""
        for change in changes:
            said = {key: value for key, value in asdict(change).items() if key != "mark"}
            line = {"schema": "skerry.rollout-change/1", "rollout": found["id"], **said}
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        sys.stdout.flush()


class Picture:
    """One picture, drawn over the last one."""

    def __init__(self, screen: Callable[[], Screen], pause: str) -> None:
        self._screen = screen
        self._pause = pause
        self._drawn = 0
        self._found: Mapping[str, Any] | None = None
        self._latest: list[Change] = []

    def show(self, found: Mapping[str, Any], changes: Sequence[Change]) -> None:
        """Draw how it is, with the latest changes under it."""
        if self._found is not None:  # at the first look nothing has changed yet
            self._latest = [*self._latest, *changes][-_CHANGES_SHOWN:]
        self._found = found
        self._draw(f"live, {_clock(found['as_of'])} UTC")

    def lost(self, error: CommandError) -> None:
        """Keep the last picture, and say that it is old."""
        self._draw(f"{error.why.partition(':')[0]}: trying again")

    def _draw(self, live: str) -> None:
        if self._found is None:
            return
        screen = self._screen()
        lines = rollout_lines(self._found, screen, live=live)
        for change in self._latest:
            said = f"{screen.mark(change.mark)} {change}"
            lines += screen.field(_clock(change.at), [said], indent=_CLOCK_COLUMNS)
        if ended(self._found) is None:
            lines += screen.field("Ctrl-C", ["detaches; it goes on", self._pause])
        # What is above the terminal's first row can't be drawn over.
        lines = lines[: max(shutil.get_terminal_size().lines - 1, 1)]
        sys.stdout.write(screen.over(self._drawn))
        show(lines)
        sys.stdout.flush()
        self._drawn = len(lines)


def _of_rollout(found: Mapping[str, Any]) -> Change:
    state, cause = found["state"], found["cause"]
    why = "" if cause is None else cause["sentence"]
    return Change(at=found["as_of"], subject=found["id"], state=state, mark=MARKS[state], why=why)


def _of_waves(held: Mapping[int, str], found: Mapping[str, Any]) -> Iterator[Change]:
    for wave in found["waves"]:
        state, judged = wave["state"], wave["judgement"]
        if held.get(wave["number"], "waiting") == state:
            continue
        yield Change(
            at=found["as_of"],
            subject=f"wave {wave['number']}",
            state=state,
            mark=MARKS[state],
            why="" if judged is None else judged["because"]["sentence"],
        )


def _of_targets(before: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Change]:
    held = {target["target"]: target for target in before["targets"]}
    for target in found["targets"]:
        was = held.get(target["target"])
        if was is None or (was["state"], was["set_aside"]) == (
            target["state"],
            target["set_aside"],
        ):
            continue
        aside = target["set_aside"]
        state = target["state"] if aside is None else f"{target['state']}, {wording.kept_by(aside)}"
        if aside is None and was["set_aside"] is not None and was["state"] == target["state"]:
            state = f"{state}, back"
        yield Change(
            at=found["as_of"],
            subject=target["name"],
            state=state,
            mark=mark_of(target),
            why=_reason(target),
        )


def _reason(target: Mapping[str, Any]) -> str:
    """Return why a target is where it is: what went wrong before explains no good end."""
    if target["state"] == "superseded":
        return target["overtaken_by"] or ""
    if target["state"] == "returned" and target["reason"]:
        return f"after {target['reason']}"
    return "" if target["state"] == "committed" else target["reason"] or ""


def _clock(at: str) -> str:
    """Return the time of day of a written time."""
    return at[11:19]
