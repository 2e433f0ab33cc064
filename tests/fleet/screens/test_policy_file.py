"""`--policy-file FILE`: a policy of one's own, from the file to the rollout that obeys it."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2 as httpx
import pytest

from agent.wire.phases import Phase
from fleet.cli.policy_file import policy_in
from fleet.cli.screen import CommandError, ExitCode
from fleet.cli.yaml_documents import LIMIT_BYTES
from fleet.identity.places import Home
from fleet.rollouts.policy import Budget, Inconclusive, Matching
from fleet.rollouts.states import RolloutState
from fleet.store import audit
from fleet.store.engine import Store
from tests.fleet.centre.served import OPERATOR
from tests.fleet.screens.quay import Quay, quay_of

PAGE = Path(__file__).parents[3] / "docs" / "rollouts.md"
GATED = """\
kind: policy
name: mine
waves:
  - each_class: 1
    gate: {soak_s: 0, approval: true}
"""


@pytest.fixture
async def quay(home: Home, store: Store, tmp_path: Path) -> AsyncIterator[Quay]:
    async with quay_of(home, store, tmp_path) as served:
        yield served


def refused(path: Path, text: str | bytes) -> str:
    """Return why a file is no policy."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(CommandError) as found:
        policy_in(path)
    return str(found.value.why)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is empty"),
        ("- 1\n", "line 1: it is no object"),
        ("kind: policy\nname: [\n", "line 3, column 1"),
        ("kind: policy\nkind: policy\n", "line 2: it says 'kind' twice"),
        ("kind: &a policy\nname: *a\n", "line 2: an alias"),
        ("? [a]\n: b\n", "line 1: that is no name of a field"),
        ("kind: !!python/name:os.system\n", "line 1"),
        (GATED.replace("waves", "weaves"), "line 3, weaves: there is no such field, only kind"),
        (GATED.replace("soak_s", "soak"), "line 5, waves.0.gate.soak: there is no such field"),
        ("name: 2026-02-30\n", "line 1: '2026-02-30' is no"),
        ("name: !!int foo\n", "line 1: 'foo' is no"),
        ("name: !!bool foo\n", "line 1: 'foo' is no"),
        ("name: " + "9" * 5000 + "\n", "line 1: '999"),
        ('name: "\\ud800"\n', "line 1"),
        ("a: " + "[" * 4096, "it is nested too deeply"),
        (GATED.replace("soak_s: 0", "error_percent: 101"), "line 5, waves.0.gate.error_percent"),
        (GATED.replace("each_class: 1", "percent: yes"), "line 4, waves.0.percent"),
        (GATED.replace("each_class: 1", 'percent: "9"'), "line 4, waves.0.percent"),
        (GATED.replace("each_class: 1", "count: 2\n    percent: 5"), "line 4, waves.0: a wave has"),
        (GATED.replace("each_class: 1", "selector: a in"), "line 4, waves.0: selector 'a in'"),
        (GATED.replace("true", "true, inconclusive: skip"), "line 5, waves.0.gate: a gate that"),
        (GATED.replace("soak_s: 0", "everyone: true, error_percent: 5"), "no share to fail"),
        (GATED.replace("mine", "careful"), "line 1, policy: careful is built in"),
        (GATED.replace("mine", "Mine!"), "line 1, policy: not a name"),
        (GATED + "budgets: [{label: a}]\n", "line 6, budgets.0: a budget is a number"),
        (GATED + "budgets: [{label: 'a b', targets: 1}]\n", "line 6, budgets.0: not a label"),
        (GATED + "retry: {times: 99}\n", "line 6, retry.times"),
        (GATED + "retry: {times: 1, wait_s: .nan}\n", "line 6, retry.wait_s"),
        ("waves: " + "[" * 5000, ""),
        (b"name: \xff\xfe\n", ""),
    ],
)
def test_what_cannot_be_meant_is_refused_where_it_stands(
    tmp_path: Path, text: str | bytes, why: str
) -> None:
    """With line and field, by the command itself: nothing has been sent anywhere."""
    assert why in refused(tmp_path / "policy.yaml", text)


def test_a_file_that_is_no_policy_file_is_refused_unread(tmp_path: Path) -> None:
    """Too large, or not there."""
    assert "TOO_LARGE" in refused(tmp_path / "policy.yaml", "#" * (LIMIT_BYTES + 1))
    with pytest.raises(CommandError, match="can't be read as a policy"):
        policy_in(tmp_path / "none.yaml")
    assert policy_in(None) is None


async def test_the_document_on_the_page_is_a_policy_and_is_planned_as_it_says(
    quay: Quay, tmp_path: Path
) -> None:
    """Every field of it reaches the plan; the command that the plan prints names the file."""
    from fleet.api.policies import PolicyWish  # noqa: PLC0415  # as the command does

    path = tmp_path / "policy.yaml"
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (text,) = [block for block in blocks if "kind: policy" in block]
    path.write_text(text)
    policy = PolicyWish.model_validate(policy_in(path)).policy()
    lab, ten, half, _ = policy.waves
    assert isinstance(lab.size, Matching)
    assert lab.gate is not None
    assert (str(lab.size.selector), lab.gate.everyone) == ("tier=lab", True)
    assert ten.gate is not None
    assert ten.gate.inconclusive is Inconclusive.APPROVE
    assert half.gate is not None
    assert half.gate.approval
    assert policy.budgets[1] == Budget(label="line", targets=2)
    assert policy.canaries == 1

    words = ("digits:1.0.0", "--to", "all", "--policy-file", str(path))
    planned = await quay.people.skerry("rollout", "plan", *words)
    said = " ".join(planned.out.split())
    assert planned.code == 0, planned.err
    assert "as digits, lab-then-lines" in said
    assert "LIMITS at most 25 % of each skerry/site in reach under way or down at once" in said
    assert "at most 2 of each line under way or down at once" in said
    assert "asked again: up to 3 times, after 60 s, then twice as long, at most 1 h" in said
    assert f"--policy-file {path}" in said.replace(" \\ ", " ")
    assert "STOPS" in said


async def test_a_rollout_waits_for_the_approval_its_policy_wants(
    quay: Quay, tmp_path: Path
) -> None:
    """Why says so, approve lets it pass, and the audit says who did."""
    path = tmp_path / "policy.yaml"
    path.write_text(GATED)
    rollout = await quay.start("1.0.0", "--policy-file", str(path))
    await quay.say("d-1", "d-4")
    why = await quay.people.skerry("rollout", "why", rollout)
    assert "WAITS_FOR_APPROVAL" in why.out
    assert "skerry rollout approve" in " ".join(why.out.split())
    unsaid = await quay.people.skerry("rollout", "promote", rollout)
    assert (unsaid.code, "needs a reason" in unsaid.err) == (ExitCode.USAGE, True)
    none = await quay.people.skerry("rollout", "retry", rollout)
    assert none.code == ExitCode.CONFLICT
    assert "no target of it failed" in none.err

    approved = await quay.people.skerry("rollout", "approve", rollout, "--reason", "looked at it")
    assert approved.code == 0, approved.err
    shown = await quay.ask(of=rollout)
    assert shown["state"] == RolloutState.RUNNING
    assert [wave["state"] for wave in shown["waves"]] == ["passed", "running"]
    again = await quay.people.skerry("rollout", "approve", rollout)
    assert again.code == ExitCode.CONFLICT
    assert "no wave of it waits for that" in again.err
    with quay.served.store.read() as connection:
        (last, *_) = audit.latest(connection, limit=50, about=rollout)
    assert (last.action, last.reason) == ("rollout.approve", "looked at it")


async def planned(quay: Quay, wish: dict[str, object]) -> httpx.Response:
    """Ask for a plan over the API."""
    async with httpx.AsyncClient(base_url=quay.served.plain, trust_env=False) as client:
        return await client.post("/api/v1/rollouts/plan", json=wish, headers=OPERATOR)


async def test_two_policies_are_one_too_many(quay: Quay, tmp_path: Path) -> None:
    """On the command line and over the API; and an API that takes a document says where it errs."""
    path = tmp_path / "policy.yaml"
    path.write_text(GATED)
    words = ("digits:1.0.0", "--to", "all", "--policy", "all-at-once", "--policy-file", str(path))
    ended = await quay.people.skerry("rollout", "plan", *words)
    assert (ended.code, "two policies" in ended.err) == (ExitCode.USAGE, True)
    wish = {"bundle": "digits:1.0.0", "deployment": "digits", "selector": "all"}
    own = policy_in(path)
    assert own is not None
    both = await planned(quay, wish | {"own_policy": own, "policy": "all-at-once"})
    assert (both.status_code, "name two policies" in both.text) == (422, True)
    own["waves"][0]["each_class"] = 0
    wrong = await planned(quay, wish | {"own_policy": own})
    assert wrong.status_code == 422
    assert "body.own_policy.waves.0.each_class" in wrong.text


async def test_who_is_to_be_asked_again_is_shown_as_such(quay: Quay, tmp_path: Path) -> None:
    """On the terminal and on the page: it failed, and that is not its end."""
    path = tmp_path / "policy.yaml"
    path.write_text(GATED + "retry: {times: 1, wait_s: 600}\n")
    rollout = await quay.start("1.0.0", "--policy-file", str(path))
    await quay.say("d-4", phase=Phase.REFUSED, reason="DISK_FULL")
    shown = await quay.people.skerry("rollout", "show", rollout)
    assert "refused, to be asked again" in shown.out
    why = await quay.people.skerry("rollout", "why", rollout, "d-4")
    assert "ASKED_AGAIN" in why.out
    targets = {each["target"]: each for each in (await quay.ask(of=rollout))["targets"]}
    assert targets["d-4"]["again_at"] is not None
    assert targets["d-1"]["again_at"] is None
