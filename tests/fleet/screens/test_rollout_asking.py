"""How a person is asked, and how patiently a rollout is watched: in a test's own time."""

import io
import sys
from collections.abc import Callable, Mapping, Sequence

import pytest

from fleet.cli.consent import agree
from fleet.cli.rollout_watch import Change, watch
from fleet.cli.screen import CommandError, ExitCode

AWAY = CommandError("no answer", "UNREACHABLE: gone", "wait", ExitCode.UNREACHABLE)
RUNNING: dict[str, object] = {
    "id": "r-1",
    "as_of": "2026-03-01T12:00:00Z",
    "state": "running",
    "counts": {},
    "cause": None,
    "waves": [],
    "targets": [],
}
DONE = {**RUNNING, "state": "done"}


class Terminal(io.StringIO):
    """A terminal on which a person has typed."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def types(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Terminal]:
    def type_(answer: str) -> Terminal:
        said = Terminal()
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        monkeypatch.setattr(sys, "stderr", said)
        return said

    return type_


class Clock:
    """Time that passes where somebody waits, or where the centre takes it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


class Seen:
    """What a person saw."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def show(self, found: Mapping[str, object], changes: Sequence[Change]) -> None:
        self.said += [str(change) for change in changes] or [f"{found['state']}, as before"]

    def lost(self, error: CommandError) -> None:
        self.said.append(error.what)


def looking(clock: Clock, *answers: object, took_s: float = 0.0) -> Callable[[], object]:
    """Return looks with these answers in turn; the last one stays."""
    left = list(answers)

    def look() -> object:
        clock.now += took_s
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return look


@pytest.mark.parametrize("answer", ["y\n", "Y\n", "yes\n"])
def test_a_yes_is_a_yes(types: Callable[[str], Terminal], answer: str) -> None:
    """And who has agreed just now is told apart from who said so beforehand."""
    types(answer)
    assert agree("Start it?", 100, yes=False, unattended=True)
    assert not agree("Start it?", 100, yes=True, unattended=True)


@pytest.mark.parametrize(("answer", "agreed"), [("y\n", False), ("101\n", True), ("1010\n", False)])
def test_many_devices_need_their_number(
    types: Callable[[str], Terminal], *, answer: str, agreed: bool
) -> None:
    """A `y` is too easily typed for a hundred devices and more."""
    said = types(answer)
    if agreed:
        assert agree("101 devices?", 101, yes=False, unattended=False)
    else:
        with pytest.raises(CommandError, match="nothing has been done"):
            agree("101 devices?", 101, yes=False, unattended=False)
    assert "101 devices? [type 101 to go on] " == said.getvalue()


def test_a_centre_that_is_back_in_time_is_forgiven() -> None:
    """Said once, however often it is tried; and the watch goes on to its end."""
    clock, seen = Clock(), Seen()
    look = looking(clock, RUNNING, *[AWAY] * 200, RUNNING, DONE)
    code = watch(look, seen, timeout_s=None, pause=clock.wait, clock=clock)

    assert ExitCode.DONE is code
    assert ["r-1 running", "no answer", "running, as before", "r-1 done"] == seen.said


def test_a_centre_that_stays_away_is_given_up() -> None:
    """After two minutes, with the error of the last try."""
    clock, seen = Clock(), Seen()
    with pytest.raises(CommandError) as raised:
        watch(looking(clock, RUNNING, AWAY), seen, timeout_s=None, pause=clock.wait, clock=clock)

    assert ExitCode.UNREACHABLE is raised.value.exit_code
    assert 120 <= clock.now < 121
    assert ["r-1 running", "no answer"] == seen.said


def test_what_is_no_absence_ends_it_at_once() -> None:
    """A wrong token is not waited out, nor is a centre that never answered."""
    refused = CommandError("no", "TOKEN_UNKNOWN", "another", ExitCode.NOT_ALLOWED)
    for first in ([RUNNING, refused], [AWAY]):
        clock, seen = Clock(), Seen()
        with pytest.raises(CommandError):
            watch(looking(clock, *first), seen, timeout_s=None, pause=clock.wait, clock=clock)
        assert clock.now < 1
        assert "no answer" not in seen.said


def test_a_slow_centre_is_asked_less_often() -> None:
    """At most a fifth of the time is spent on answers, and twice a second is enough."""
    quick, slow = Clock(), Clock()
    for clock, took_s in ((quick, 0.01), (slow, 2.0)):
        look = looking(clock, *[RUNNING] * 5, DONE, took_s=took_s)
        watch(look, Seen(), timeout_s=None, pause=clock.wait, clock=clock)

    assert [0.5] * 5 == quick.waits
    assert [8.0] * 5 == slow.waits


def test_the_time_is_kept_to() -> None:
    """The last look is at the end of it, not a period later."""
    clock = Clock()
    code = watch(looking(clock, RUNNING), Seen(), timeout_s=1.2, pause=clock.wait, clock=clock)

    assert (ExitCode.STILL_RUNNING, 1.2) == (code, clock.now)
