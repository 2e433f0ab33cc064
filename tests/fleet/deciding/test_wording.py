"""What is worded once for the terminal and the page agrees with what is decided."""

import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest

from agent.wire import v1
from fleet import wording
from fleet.api.rollout_shown import returns
from fleet.execute import _AUDITED
from fleet.marks import MARKS, VERDICT_MARKS
from fleet.rollouts.gate import Verdict
from fleet.rollouts.progress import Progress
from fleet.rollouts.states import TO_RETURN, RolloutState, TargetState, WaveState
from tests.fleet.deciding.paper import Paper

ROOT = Path(__file__).parents[3]


def found(targets: list[Progress]) -> dict[str, object]:
    """Return what the API says of a return."""
    return {"deployment": "digits", "returns": returns(targets).model_dump()}


def test_a_rollback_names_everybody_who_goes_back() -> None:
    """Exactly those whom the tables bring back; nobody who was never asked."""
    had = Paper().deployment()
    targets = [
        Progress(target=f"d-{state}", deployment=had, replaces=had, state=state)
        for state in TargetState
    ]

    said, affected = wording.consequence("rollback", found(targets))
    assert (len(TO_RETURN), f"{len(TO_RETURN)} devices go back to digits:1.0.0.") == (
        affected,
        said,
    )


def test_whoever_asks_for_a_return_hears_what_is_lost() -> None:
    """Where nothing was before, nothing will answer; who is away goes back later."""
    older = Paper().deployment()
    new = Progress(target="d-1", deployment=older, state=TargetState.COMMITTED)
    away = replace(new, state=TargetState.UPDATING, replaces=older, online=False)
    planned = replace(new, state=TargetState.PLANNED)

    assert wording.consequence("rollback", found([new, new, away, planned])) == (
        (
            "1 device goes back to digits:1.0.0. 2 devices will serve no digits: nothing was there "
            "before. Of them 1 can't be reached now, and goes when back."
        ),
        3,
    )
    nobody = found([planned])
    assert ("No device goes back: none has it.", 0) == wording.consequence("rollback", nobody)


def test_every_action_of_the_audit_has_words() -> None:
    """On the page nobody reads `desired.put`."""
    written = "".join(path.read_text() for path in (ROOT / "fleet").rglob("*.py"))
    actions = {*re.findall(r'action="([^"]+)"', written), *_AUDITED.values()}

    assert "desired.put" in actions
    assert not [action for action in actions if wording.asked(action) == action]


def test_how_far_a_comparison_is_is_said_of_what_is_heard_now() -> None:
    """Not where it waited, nor of another deployment."""
    done = {"compared": 37, "agreed": 36, "wanted": 100}
    parts = [{"name": "other", "shadow": None}, {"name": "digits", "shadow": done}]
    found = {"health_late": False, "health": {"deployments": parts}}

    assert "37 of 100 compared, 36 agreed" == wording.so_far(found, "digits")
    assert "" == wording.so_far(found, "other")
    assert "" == wording.so_far({**found, "health_late": True}, "digits")
    assert "" == wording.so_far({"health_late": False, "health": None}, "digits")


def test_every_state_has_a_mark() -> None:
    """No rollout, wave, target or verdict is shown without its shape."""
    states = [*RolloutState, *WaveState, *TargetState]

    assert [] == [state for state in states if state not in MARKS]
    assert set(Verdict) == set(VERDICT_MARKS)


def how(targets: int, *, kept: bool = False, **settings: object) -> dict[str, object]:
    """Return how so many targets serve, as the API answers it."""
    said = asdict(v1.DeploymentSettings(**settings))  # type: ignore[arg-type]
    return {"settings": said, "kept": kept, "targets": targets}


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (how(97, kept=True), "97 keep the default settings"),
        (how(1), "1 gets the default settings"),
        (how(1, kept=True, threads=1, probation_s=600.0), "1 keeps 1 thread; on trial for 10 min"),
        (
            how(3, shadow=v1.ShadowSettings(share=0.07, requests=5000, tolerance=0.01)),
            (
                "3 get a shadow: before it serves, it is compared on 7 % of live requests with "
                "what does; of 5,000, 95 % must agree within 0.01, in at most 1 h"
            ),
        ),
        (
            how(3, latency_budget_s=0.02, memory_budget_bytes=50_000_000, workers=2),
            "3 get 2 workers; refused above 20.0 ms a call; refused above 50.0 MB of memory",
        ),
        (
            how(
                2,
                kept=True,
                values={"d": 1, "c": v1.SecretRef(secret="pin"), "b": "x" * 99, "a": 0.5},
            ),
            f'2 keep values a = 0.5, b = "{"x" * 35}, c = {{"secret": "pin"}} and 1 more',
        ),
    ],
)
def test_settings_are_told_where_they_are_not_the_defaults(
    found: dict[str, object], said: str
) -> None:
    """In words, and no longer than a person reads."""
    assert said == wording.serving(found)
    assert ("default" not in said) is wording.special([how(1, kept=True), found])


def test_every_setting_has_words() -> None:
    """A new one is not passed over in a plan."""
    assert {each.name for each in fields(v1.DeploymentSettings)} == wording.SETTINGS.keys()
