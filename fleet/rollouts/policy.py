"""What people ask for: a rollout of a bundle to targets, under a policy. Values only. Pure.

A policy is a list of waves, each with a size and, if its start is to protect
the next one, a gate. Sizes in percent are of all that matched when the rollout
began, and add up: 10 then 50 reaches a tenth and then half. Whoever no size
reached forms a last wave: nobody is skipped silently.

A policy that begins with one target of each class is *stratified* throughout: no
class goes in numbers before so many of it have committed (`Policy.canaries`). So is
one that says how many (`Policy.per_class`), whatever its waves are.

A *budget* bounds how many of a group (a site, a line, a shop) are under way or down
at once; *retry* asks again who failed for a reason that may pass; `on_failure` says what a
gate that failed leads to.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

from agent.wire.v1 import BundleRef, DeploymentSettings
from agent.wire.v1.checks import check_device, check_name, check_unique
from fleet.rollouts.expression import Comparison, parse
from fleet.rollouts.measures import MEASURES
from fleet.selector import Selector, check_key


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRequest:
    """Serve `bundle` as `deployment` on the targets that `selector` matches, and on those named.

    A request that names nobody is refused: to reach everything, say so with the
    empty selector. `settings` None keeps what each target has (the defaults
    where it has none). `soak_s` None keeps what the policy's gates say. `own_policy`
    is the policy itself, where `policy` is the name of none that is built in.
    """

    bundle: BundleRef
    deployment: str
    selector: Selector | None = None
    targets: tuple[str, ...] = ()
    settings: DeploymentSettings | None = None
    policy: str = "careful"
    soak_s: float | None = None
    own_policy: "Policy | None" = field(default=None, compare=False)  # a plan has it as `policy`

    def __post_init__(self) -> None:
        check_name(self.deployment)
        if self.soak_s is not None:
            _check_soak(self.soak_s)
        check_unique("target", self.targets)
        for target in self.targets:
            check_device(target)
        if self.selector is None and not self.targets:
            raise ValueError("a rollout needs a selector or named targets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """So many targets."""

    targets: int

    def __post_init__(self) -> None:
        if self.targets < 1:
            raise ValueError(f"a wave of {self.targets} targets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Percent:
    """As many as bring the rollout up to this share of all that matched when it began."""

    percent: int

    def __post_init__(self) -> None:
        if not 1 <= self.percent <= 100:  # noqa: PLR2004  # a share
            raise ValueError(f"{self.percent} percent; it must be between 1 and 100")


@dataclass(frozen=True, slots=True, kw_only=True)
class Matching:
    """Those of the rollout's targets that this selector matches."""

    selector: Selector


@dataclass(frozen=True, slots=True, kw_only=True)
class EachClass:
    """So many reachable targets of every class (runtime, architecture, accelerator, variant)."""

    per_class: int = 1

    def __post_init__(self) -> None:
        if self.per_class < 1:
            raise ValueError(f"{self.per_class} targets of each class")


Size = Count | Percent | Matching | EachClass


SOAK_LIMIT_S = 30 * 86400.0
"""A month: whoever waits longer wants two rollouts."""


def _check_soak(soak_s: float) -> None:
    if not 0 <= soak_s <= SOAK_LIMIT_S:
        raise ValueError(f"soak_s is {soak_s}; it must be between 0 and 30 days")


class Inconclusive(StrEnum):
    """What to do when a gate has too little to decide on."""

    PAUSE = "pause"  # until a person resumes
    SKIP = "skip"  # go on; the plan names the gate beforehand
    APPROVE = "approve"  # wait for a person's word about this wave; the rollout still runs


CHECKS_LIMIT = 16
_SAMPLE_LIMIT = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Something that what is measured must show (`fleet.rollouts.expression`).

    `minimum_sample` of each measure in it; None: as much as is usual for that one.
    """

    check: str
    minimum_sample: int | None = None

    def __post_init__(self) -> None:
        parse(self.check)
        if self.minimum_sample is not None and not 1 <= self.minimum_sample <= _SAMPLE_LIMIT:
            raise ValueError(
                f"minimum_sample is {self.minimum_sample}; it must be between 1 and "
                f"{_SAMPLE_LIMIT:,}: no sample decides nothing"
            )

    @property
    def read(self) -> Comparison:
        """The check as a comparison."""
        return parse(self.check)

    def least(self, measure: str) -> int:
        """Return how much must have been told of a measure."""
        usual = MEASURES[measure].least
        return usual if self.minimum_sample is None else self.minimum_sample

    def wants(self) -> tuple[int, str]:
        """Return of what it wants the most, and how much, for each class."""
        names = {name.measure for name in self.read.names()}
        return max((self.least(name), MEASURES[name].counts) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a wave must show before the next may start.

    Failure: more than `error_percent` of its reachable targets did not take it.
    Success: all of them came to an end, and at least `success_percent` committed;
    then it soaks for `soak_s`. Both only over at least `minimum_sample` ends.
    Neither: inconclusive. "All came to an end" never stands in for "enough
    succeeded". `deadline_s` runs from a target's first word about the revision
    (from its document, until it says one) and only while it can be reached.

    `everyone`: all of the wave must commit, also who is away now; one that does not
    fails it at once. `approval`: once it has soaked, it waits for a person.

    `checks` read what devices tell while they serve it. One that fails, fails the gate at once;
    until all of them hold the wave soaks on, for `deadline_s` at the most, and then is
    inconclusive.
    """

    success_percent: int
    error_percent: int
    minimum_sample: int = 1
    soak_s: float = 0.0
    deadline_s: float = 3600.0
    inconclusive: Inconclusive = Inconclusive.PAUSE
    everyone: bool = False
    approval: bool = False
    checks: tuple[Check, ...] = ()

    def __post_init__(self) -> None:
        for name, share in (("success", self.success_percent), ("error", self.error_percent)):
            if not 0 <= share <= 100:  # noqa: PLR2004  # a share
                raise ValueError(f"{name}_percent is {share}; it must be between 0 and 100")
        if self.minimum_sample < 1:
            raise ValueError("minimum_sample is at least 1: no sample decides nothing")
        _check_soak(self.soak_s)
        if not 0 < self.deadline_s <= SOAK_LIMIT_S:
            raise ValueError(
                f"deadline_s is {self.deadline_s}; it must be above 0, at most 30 days"
            )
        if self.everyone and (self.success_percent, self.error_percent) != (100, 0):
            raise ValueError(
                "everyone leaves no share to fail: success_percent is 100, error_percent 0"
            )
        if len(self.checks) > CHECKS_LIMIT:
            raise ValueError(f"a gate has at most {CHECKS_LIMIT} checks")
        check_unique("check", [each.check for each in self.checks])
        if self.approval and self.inconclusive is Inconclusive.SKIP:
            raise ValueError("a gate that waits for approval can't be skipped: pause, or approve")


class OnFailure(StrEnum):
    """What to do when a gate has failed."""

    ROLL_BACK = "roll-back"  # everybody goes back at once
    ROLL_BACK_IN_WAVES = "roll-back-in-waves"  # as they went, if they are well meanwhile
    PAUSE = "pause"  # who has it keeps it, and a newer rollout mends it


RETRIES_LIMIT = 10
"""By itself a target is asked so often anew at the most; a person may ask once more each time."""

_RETRY_WAIT_LIMIT_S = 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Ask a target again that failed for a reason that may pass (`fleet.rollouts.retrying`).

    At most `times`, first after `wait_s`, then each time after twice as long, never
    longer than `longest_s`.
    """

    times: int
    wait_s: float = 60.0
    longest_s: float = 3600.0

    def __post_init__(self) -> None:
        if not 1 <= self.times <= RETRIES_LIMIT:
            raise ValueError(f"times is {self.times}; it must be between 1 and {RETRIES_LIMIT}")
        if not 1 <= self.wait_s <= self.longest_s <= _RETRY_WAIT_LIMIT_S:
            raise ValueError(
                f"wait_s is {self.wait_s} and longest_s {self.longest_s}; "
                "they must be between 1 s and a day, the longest last"
            )

    def wait_before(self, retry: int) -> float:
        """Return how long to wait before the first, second, … time that it is asked again."""
        return float(min(self.longest_s, self.wait_s * 2 ** (min(retry, RETRIES_LIMIT) - 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How many of those with the same value of `label` may be under way or down at once.

    A number of them, or a share of those that can be reached: rounded down, at least one.
    Who has no such label is of a group of their own.
    """

    label: str
    targets: int | None = None
    percent: int | None = None

    def __post_init__(self) -> None:
        check_key(self.label)
        if (self.targets is None) is (self.percent is None):
            raise ValueError("a budget is a number of targets or a percent of them: one of the two")
        if self.targets is not None:
            Count(targets=self.targets)
        if self.percent is not None:
            Percent(percent=self.percent)

    def room(self, reachable: int) -> int:
        """Return how many may be under way or down, of so many that can be reached."""
        if self.targets is not None:
            return self.targets
        return max(1, reachable * (self.percent or 0) // 100)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveRule:
    """The size of one wave, and the gate behind it. None: the next starts when this one settled."""

    size: Size
    gate: Gate | None = None


WAVES_LIMIT = 50
BUDGETS_LIMIT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a rollout spreads."""

    name: str
    waves: tuple[WaveRule, ...]
    per_class: int | None = None
    budgets: tuple[Budget, ...] = ()
    retry: Retry | None = None
    on_failure: OnFailure = OnFailure.ROLL_BACK

    def __post_init__(self) -> None:
        check_name(self.name)
        if not 1 <= len(self.waves) <= WAVES_LIMIT:
            raise ValueError(f"a policy has at least one wave, and at most {WAVES_LIMIT}")
        if self.per_class is not None:
            EachClass(per_class=self.per_class)
        if len(self.budgets) > BUDGETS_LIMIT:
            raise ValueError(f"a policy has at most {BUDGETS_LIMIT} budgets")
        check_unique("budget's label", [budget.label for budget in self.budgets])

    @property
    def canaries(self) -> int | None:
        """How many of a class must have committed before more of it are asked. None: no such rule.

        Where the policy does not say it, the rule is that of the first wave, kept up for who
        was away then.
        """
        if self.per_class is not None:
            return self.per_class
        first = self.waves[0].size
        return first.per_class if isinstance(first, EachClass) else None

    def soaking(self, soak_s: float | None) -> "Policy":
        """Return the policy with another soak in every gate; None: as it is."""
        if soak_s is None:
            return self
        waves = [
            wave if wave.gate is None else replace(wave, gate=replace(wave.gate, soak_s=soak_s))
            for wave in self.waves
        ]
        return replace(self, waves=tuple(waves))


ALL_AT_ONCE = Policy(name="all-at-once", waves=(WaveRule(size=Percent(percent=100)),))
"""One wave, no gate: everything that fits, now."""

_EVERY_ONE = Gate(success_percent=100, error_percent=0, soak_s=60.0)
_NEARLY_ALL = Gate(success_percent=95, error_percent=5, soak_s=60.0)

CAREFUL = Policy(
    name="careful",
    waves=(
        # One of each class: a model that is bad on one runtime is then seen on one device.
        WaveRule(size=EachClass(), gate=_EVERY_ONE),
        WaveRule(size=Percent(percent=50), gate=_NEARLY_ALL),
        WaveRule(size=Percent(percent=100), gate=_NEARLY_ALL),
    ),
)
"""The default: a canary of each class, then half, then all, each behind a gate."""

BUILT_IN = {policy.name: policy for policy in (ALL_AT_ONCE, CAREFUL)}
