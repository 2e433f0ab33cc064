"""When the world moved, a person is told how."""

from agent.wire.v1 import DeploymentSettings
from fleet.rollouts.difference import difference
from tests.fleet.deciding.paper import Paper


def test_equal_plans_do_not_differ(paper: Paper) -> None:
    """Nothing to say, exactly when the digests are equal."""
    inventory = paper.inventory(*paper.targets(2))

    assert difference(paper.plan(inventory), paper.plan(inventory)) == ()


def test_each_target_that_is_decided_otherwise_is_named(paper: Paper) -> None:
    """Who joined, who left, who went offline, who is left out now: in the order of their ids."""
    before = paper.plan(paper.inventory(*paper.targets(4)))
    after = paper.plan(
        paper.inventory(
            paper.target(1),
            paper.target(2, online=False),
            paper.target(3, facts={}),
            paper.target(5),
        )
    )
    to_get = "to get revision 1 as 0.1, litert 2.3.0, x86_64, cpu, int8"

    assert [str(change) for change in difference(before, after)] == [
        f"buoy-2: was online, {to_get}, is offline, {to_get}",
        f"buoy-3: was online, {to_get}, is left out (FACTS_UNKNOWN)",
        f"buoy-4: was online, {to_get}, is not asked for",
        f"buoy-5: was not asked for, is online, {to_get}",
    ]


def test_another_request_is_told_by_its_part(paper: Paper) -> None:
    """What a person typed otherwise comes first, cut to a line."""
    inventory = paper.inventory(paper.target())
    wordy = DeploymentSettings(values={"labels": "x" * 200})
    before, after = (
        paper.plan(inventory),
        paper.plan(inventory, paper.request(settings=wordy, deployment="wake")),
    )
    changes = difference(before, after)

    assert ["deployment", "settings"] == [change.subject for change in changes[:2]]
    assert ('"digits"', '"wake"') == (changes[0].before, changes[0].after)
    assert ("null", 120, "…") == (
        changes[1].before,
        len(changes[1].after),
        changes[1].after[-1],
    )
