"""What a rollout does, told line by line: who was asked when, what came of it, what it led to.

A story drives a world and writes down what changes, at the time since it began.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from fleet.rollouts.policy import CAREFUL, Policy
from fleet.rollouts.progress import Rollout
from fleet.rollouts.states import RolloutHappening, TargetState
from tests.fleet.deciding.world import World

_UNTOLD = frozenset({TargetState.PLANNED, TargetState.UPDATING})


class Story:
    """A world in which one thing is rolled out after another, and its tale."""

    def __init__(self, title: str, world: World) -> None:
        self.world = world
        self._began = world.now
        self._version = ""  # of the rollout that began last
        self._told: dict[str, Rollout] = {}
        fleet = ", ".join(f"{each.id} {each.runtime}" for each in world.devices.values())
        self._lines = [title, "", f"fleet: {fleet}"]

    def serves(self, version: str) -> None:
        """Let everybody serve a version before the story begins."""
        self.world.start(version)
        self.world.runs()
        self._began = self.world.now
        self._told = dict(self.world.rollouts)
        self._lines.append(f"all serve {version}")

    def starts(self, version: str, policy: Policy = CAREFUL) -> str:
        """Start a rollout, and tell what its plan says beforehand."""
        self._version = version
        made = self.world.plan(version, "digits", policy)
        waves = "; ".join(f"{each.number}: {_names(each.targets)}" for each in made.waves)
        self._does(f"somebody starts {version}, {policy.name}")
        self._lines.append(f"           waves {waves}")
        self._lines.append(f"           blast radius {made.blast_radius}")
        for each in made.obstacles:
            where = "" if each.wave is None else f" in wave {each.wave}"
            self._lines.append(f"           foretold {each.reason}{where}")
        name = self.world.start(version, "digits", policy)
        self._tell()
        return name

    def says(self, name: str, word: RolloutHappening) -> None:
        """Let a person say something of a rollout."""
        self._does(f"somebody says of {name}: {word}")
        self.world.say(name, word)
        self._tell()

    def go(self, *numbers: int) -> None:
        """Let devices go away."""
        self._does(f"{_numbers(numbers)} away")
        for number in numbers:
            self.world.goes(number)

    def come(self, *numbers: int) -> None:
        """Let devices come back."""
        self._does(f"{_numbers(numbers)} back")
        for number in numbers:
            self.world.returns(number)

    def shut(self, *numbers: int, shut: bool = True) -> None:
        """Let the download windows of devices close, or open."""
        self._does(f"{_numbers(numbers)} {'outside' if shut else 'within'} the download window")
        for number in numbers:
            self.world.device(number).cut = shut

    def goes_on(self, minutes: float, every_s: float = 20.0) -> None:
        """Let everybody work and the centre look, for so long."""
        for _ in range(int(minutes * 60 / every_s)):
            self._look()
            self.world.works(1)
            self.world.now += timedelta(seconds=every_s)
            self._look()

    def text(self) -> str:
        """Return the tale so far, and who serves what now."""
        served: dict[str, list[str]] = {}
        for device in self.world.devices.values():
            served.setdefault(device.serves() or "nothing", []).append(device.id)
        ends = [f"{version} {_names(ids)}" for version, ids in sorted(served.items())]
        heard = [each.id for each in self.world.devices.values() if self._version in each.took]
        tail = ["", *(f"served at the end: {each}" for each in ends)]
        told = f"who ever heard of {self._version}: {_names(heard)}"
        return "\n".join([*self._lines, *tail, told]) + "\n"

    def _look(self) -> None:
        """Let the centre pass until nothing changes, and tell of each pass."""
        for name in self.world.opened():
            while self.world._pass(name):
                self._tell()

    def _does(self, what: str) -> None:
        self._lines.append(f"{self._time()}  * {what}")

    def _time(self) -> str:
        seconds = int((self.world.now - self._began).total_seconds())
        return f"{seconds // 3600:3}:{seconds // 60 % 60:02}:{seconds % 60:02}"

    def _tell(self) -> None:
        for name, rollout in self.world.rollouts.items():
            before = self._told.get(name)
            if before is not rollout:
                self._lines += [f"{self._time()}  {line}" for line in _changes(before, rollout)]
        self._told = dict(self.world.rollouts)


def _changes(before: Rollout | None, after: Rollout) -> Iterator[str]:
    """Yield what is otherwise: targets, then waves, then the rollout."""
    were = {} if before is None else {each.target: each for each in before.targets}
    changed: dict[str, list[str]] = {}
    for each in after.targets:
        old = were.get(each.target)
        if each.reason and (old is None or old.reason != each.reason):
            changed.setdefault(f"said {each.reason}", []).append(each.target)
        if each.state not in _UNTOLD and (old is None or old.state is not each.state):
            changed.setdefault(each.state, []).append(each.target)
        if each.again_at is not None and (old is None or old.again_at is None):
            changed.setdefault("to be asked again", []).append(each.target)
        if each.set_aside is not (old is not None and old.set_aside):
            aside = "set aside" if each.set_aside else "no longer set aside"
            changed.setdefault(aside, []).append(each.target)
    yield from (f"{after.id}: {_names(targets)} {what}" for what, targets in changed.items())
    waves = {} if before is None else {wave.number: wave.state for wave in before.waves}
    for wave in after.waves:
        if wave.state is not waves.get(wave.number) and not (before is None and wave.number > 1):
            yield f"{after.id}: wave {wave.number} {wave.state}"
    if before is None or before.state is not after.state:
        cause = "" if after.cause is None else f" ({after.cause.code})"
        yield f"{after.id}: {after.state}{cause}"


def _numbers(numbers: Sequence[int]) -> str:
    return _names([f"d-{number}" for number in numbers])


def _names(targets: Sequence[str]) -> str:
    return " ".join(targets) or "nobody"
