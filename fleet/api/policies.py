"""A policy as people write it: a document, checked field by field, that becomes a `Policy`.

Every part is built when it is read, so that what can't be meant is refused where it stands.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fleet.api.wish import Wish
from fleet.rollouts.expression import LENGTH_LIMIT
from fleet.rollouts.policy import (
    BUDGETS_LIMIT,
    BUILT_IN,
    CHECKS_LIMIT,
    RETRIES_LIMIT,
    SOAK_LIMIT_S,
    WAVES_LIMIT,
    Budget,
    Check,
    Count,
    EachClass,
    Gate,
    Inconclusive,
    Matching,
    OnFailure,
    Percent,
    Policy,
    Retry,
    Size,
    WaveRule,
)
from fleet.selector import TEXT_LIMIT, asked

_KEY_LIMIT = 320

Whole = Annotated[int, Field(strict=True)]
Seconds = Annotated[float, Field(strict=True, ge=0, le=SOAK_LIMIT_S)]
Share = Annotated[int, Field(strict=True, ge=0, le=100)]
Yes = Annotated[bool, Field(strict=True)]
"""`yes` for a number, and a number in quotes, are mistakes more often than they are meant."""


class CheckWish(Wish):
    """Something that what is measured must show."""

    check: str = Field(
        max_length=LENGTH_LIMIT,
        description="A comparison, like `latency_p95 / control.latency_p95 <= 1.3`.",
    )
    minimum_sample: Whole | None = Field(
        None, ge=1, description="So much of each measure in it; null: what is usual for that one."
    )

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        self.rule()
        return self

    def rule(self) -> Check:
        """Return it as the planner reads it."""
        return Check(check=self.check, minimum_sample=self.minimum_sample)


class GateWish(Wish):
    """What a wave must show before the next may start."""

    success_percent: Share = Field(100, description="Of those that came to an end, so many commit.")
    error_percent: Share = Field(0, description="Above this share that did not take it, it fails.")
    minimum_sample: Whole = Field(1, ge=1, description="So many must have come to an end.")
    everyone: Yes = Field(
        default=False,
        description="All of the wave must commit, also who is away; the first failure fails.",
    )
    soak_s: Seconds = Field(60.0, description="How long it is watched once it is well.")
    deadline_s: Seconds = Field(3600.0, gt=0, description="How long a target may take, in reach.")
    inconclusive: Inconclusive = Field(
        Inconclusive.PAUSE,
        description="Too little to decide on: `pause` all, `skip` the gate, or wait for "
        "somebody to `approve` it.",
    )
    approval: Yes = Field(default=False, description="Once it has soaked, it waits for a person.")
    checks: list[CheckWish] = Field(
        [], max_length=CHECKS_LIMIT, description="What its targets must show while they serve it."
    )

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        self.gate()
        return self

    def gate(self) -> Gate:
        """Return it as the planner reads it."""
        rules = tuple(each.rule() for each in self.checks)
        return Gate(**{**dict(self), "checks": rules})


class WaveWish(Wish):
    """Who is asked together: by one of four sizes; and the gate behind them."""

    each_class: Whole | None = Field(
        None,
        ge=1,
        description="So many in reach of every class (runtime, accelerator, variant, …).",
    )
    count: Whole | None = Field(None, ge=1, description="So many targets.")
    percent: Whole | None = Field(
        None,
        ge=1,
        le=100,
        description="As many as bring it to this share of all that matched at the start.",
    )
    selector: str | None = Field(
        None, description="Those that it matches; `all` for every one.", max_length=TEXT_LIMIT
    )
    gate: GateWish | None = Field(
        None, description="Without one the next wave starts when this one has settled."
    )

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        self.rule()
        return self

    def rule(self) -> WaveRule:
        """Return it as the planner reads it."""
        sizes: list[Size] = []
        if self.each_class is not None:
            sizes.append(EachClass(per_class=self.each_class))
        if self.count is not None:
            sizes.append(Count(targets=self.count))
        if self.percent is not None:
            sizes.append(Percent(percent=self.percent))
        if self.selector is not None:
            sizes.append(Matching(selector=asked(self.selector)))
        if len(sizes) != 1:
            raise ValueError(
                "a wave has one size: each_class, count, percent or selector; "
                f"this one has {len(sizes) or 'none'}"
            )
        return WaveRule(size=sizes[0], gate=None if self.gate is None else self.gate.gate())


class BudgetWish(Wish):
    """How many of those with the same value of a label may be under way or down at once."""

    label: str = Field(
        max_length=_KEY_LIMIT, description="A label or a fact, like `line` or `skerry/site`."
    )
    targets: Whole | None = Field(None, ge=1, description="So many.")
    percent: Whole | None = Field(
        None,
        ge=1,
        le=100,
        description="Or this share of those in reach, rounded down, at least one.",
    )

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        self.budget()
        return self

    def budget(self) -> Budget:
        """Return it as the planner reads it."""
        return Budget(**dict(self))


class RetryWish(Wish):
    """Ask a target again that failed for a reason that may pass."""

    times: Whole = Field(ge=1, le=RETRIES_LIMIT, description="At the most.")
    wait_s: Seconds = Field(
        60.0, description="Before the first time; then twice as long each time."
    )
    longest_s: Seconds = Field(3600.0, description="And never longer than this.")

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        self.retry()
        return self

    def retry(self) -> Retry:
        """Return it as the planner reads it."""
        return Retry(**dict(self))


class PolicyWish(Wish):
    """How a rollout spreads, said by a document of one's own."""

    kind: Literal["policy"] = Field(description="What the document is.")
    name: str = Field(max_length=63, description="What plans and rollouts call it.")
    canaries: Whole | None = Field(
        1,
        ge=1,
        description="So many of each class must commit before more of it are asked, in whatever "
        "wave; null: as a first wave by class says, and no such rule under any other.",
    )
    waves: list[WaveWish] = Field(min_length=1, max_length=WAVES_LIMIT)
    budgets: list[BudgetWish] = Field([], max_length=BUDGETS_LIMIT)
    retry: RetryWish | None = Field(None, description="Without it nobody is asked again.")
    on_failure: OnFailure = Field(
        OnFailure.ROLL_BACK,
        description="What a gate that failed leads to: all go back at once; in the waves in which "
        "they went; or it pauses, and who has it keeps it until a newer rollout mends it.",
    )

    @model_validator(mode="after")
    def _can_be_meant(self) -> Self:
        self.policy()
        return self

    def policy(self) -> Policy:
        """Return it as the planner reads it."""
        if self.name in BUILT_IN:
            raise ValueError(f"{self.name} is built in; give yours another name")
        return Policy(
            name=self.name,
            waves=tuple(wave.rule() for wave in self.waves),
            per_class=self.canaries,
            budgets=tuple(budget.budget() for budget in self.budgets),
            retry=None if self.retry is None else self.retry.retry(),
            on_failure=self.on_failure,
        )
