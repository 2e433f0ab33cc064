"""The demo's steps: what each is called, what it does, and which must be over before it begins."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fleet.demo.stage import Stage
from fleet.demo.steps.cable import cable
from fleet.demo.steps.health import health
from fleet.demo.steps.rolling import bad_model, deploy, waves
from fleet.demo.steps.setting import bundles, centre, join, models, publish
from fleet.marks import Mark


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Does one thing, checks its claim and returns what was seen. Its name is its claim's."""

    name: str
    take: Callable[[Stage], Awaitable[str]]
    after: tuple[str, ...] = ()
    mark: Mark = Mark.OK


STEPS = (
    Step(name="centre", take=centre),
    Step(name="models", take=models),
    Step(name="bundles", take=bundles, after=("centre", "models")),
    Step(name="publish", take=publish, after=("bundles",)),
    Step(name="join", take=join, after=("centre",)),
    Step(name="deploy", take=deploy, after=("publish", "join")),
    Step(name="waves", take=waves, after=("deploy",)),
    Step(name="bad model", take=bad_model, after=("waves",), mark=Mark.ROLLED_BACK),
    Step(name="cable", take=cable, after=("bad model",)),
    Step(name="health", take=health, after=("cable",)),
)
"""In the order in which they are shown. Some run beside each other, so their times don't add up."""
