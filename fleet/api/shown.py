"""How the API shows health: a device's state in words, and numbers with their quantiles."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, Field

from agent.wire.words import age
from fleet.clock import written
from fleet.health.heard import Heard, words
from fleet.health.states import State, Verdict
from fleet.health.sums import Numbers, Served
from fleet.sentences import explain


class StateShown(BaseModel):
    """How a device is, why, since when, and what to do."""

    word: State
    reason: str = Field(description="A code: docs/reference/states.md and reasons.md.")
    since: str = Field(description="By the centre's clock, as far as that can be known.")
    sentence: str
    next: str = Field(description="What to do next.")
    was: State | None = Field(description="What an offline device was when it was last heard.")

    @classmethod
    def of(cls, heard: Heard, verdict: Verdict, now: str) -> Self:
        """Return a verdict in words."""
        found = verdict.finding
        return cls(
            word=verdict.state,
            reason=found.reason,
            since=found.since,
            sentence=_sentence(heard, verdict, now),
            next=explain(found.reason, found.parameters).next_step,
            was=verdict.was,
        )


class NumbersShown(BaseModel):
    """Requests in the last period. Quantiles are of merged sketches, within 5 %."""

    devices: int
    requests: int
    per_s: float = Field(description="Requests a second, over the last period of each device.")
    errors: int
    restarts: int = Field(description="Workers that had to be started again.")
    p50_s: float | None = Field(description="Null: no request was answered.")
    p95_s: float | None
    p99_s: float | None

    @classmethod
    def of(cls, numbers: Numbers) -> Self:
        """Return numbers with their quantiles read off."""
        return cls(
            devices=numbers.devices,
            requests=numbers.requests,
            per_s=numbers.per_s,
            errors=numbers.errors,
            restarts=numbers.restarts,
            p50_s=numbers.quantile(0.5),
            p95_s=numbers.quantile(0.95),
            p99_s=numbers.quantile(0.99),
        )


class ServedNumbers(NumbersShown):
    """The numbers of one bundle under one name, on one class of devices."""

    deployment: str
    bundle: str
    version: str
    digest: str
    class_name: str = Field(description="Runtime and version, architecture, accelerator.")

    @classmethod
    def of_served(cls, served: Served, numbers: Numbers) -> Self:
        """Return numbers with what they are of."""
        return cls(
            **dict(NumbersShown.of(numbers)),
            deployment=served.deployment,
            bundle=served.bundle,
            version=served.version,
            digest=served.digest,
            class_name=served.class_name,
        )


def shown_at(now: datetime) -> str:
    """Return the time that an answer is as of: ages are counted from it, by one clock."""
    return written(now)


def _sentence(heard: Heard, verdict: Verdict, now: str) -> str:
    found = verdict.finding
    serving = ", ".join(map(words, heard.serving()))
    meaning = explain(found.reason, found.parameters).meaning
    match verdict.state:
        case State.OFFLINE:
            holds = f"holds {serving}, may be serving it" if serving else "serves nothing"
            return f"offline {age(found.since, now)}; was {verdict.was}; {holds}"
        case State.OK if serving:
            return f"serves {serving}"
        case State.FAILING:
            meanwhile = f"It serves {serving}." if serving else "Nothing serves."
            return _about(found.subject, f"{meaning} {meanwhile}")
        case _:
            return _about(found.subject, meaning)


def _about(subject: str, text: str) -> str:
    return f"{subject}: {text}" if subject else text
