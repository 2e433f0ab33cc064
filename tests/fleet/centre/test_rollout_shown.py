"""A plan is shown with what was measured: of the variants its targets get, alike with alike."""

from dataclasses import replace

from agent.wire import v1
from agent.wire.phases import Phase
from fleet import wording
from fleet.api.plan_shown import MeasuredShown, plan_shown
from fleet.rollouts.plan import Plan, plan
from fleet.rollouts.policy import ALL_AT_ONCE, RolloutRequest
from models.card import Card, Metric
from tests.fleet.deciding.paper import NOW, Paper

METRIC = Metric(
    name="accuracy",
    value=0.961,
    dataset="digits-test",
    samples=500,
    runtime="litert 2.3.0",
    architecture="x86_64",
)


def measured(paper: Paper, version: str, *metrics: Metric) -> Card:
    """Return a bundle's card with measurements of its one variant."""
    card = paper.card(paper.bundle(version))
    return replace(card, variants=(replace(card.variants[0], metrics=metrics),))


def planned(paper: Paper, cards: dict[str, Card]) -> Plan:
    """Plan 1.1.0 for two devices that serve 1.0.0."""
    first = paper.inventory(*paper.targets(2))
    held = paper.carried_out(first, paper.plan(first))
    for device in ("d-1", "d-2"):
        held = paper.says(held, device, Phase.COMMITTED)
    request: RolloutRequest = paper.request("1.1.0")
    return plan(request, ALL_AT_ONCE, held, cards, NOW)


def shown(*before: Metric, after: tuple[Metric, ...]) -> list[MeasuredShown]:
    paper = Paper()
    cards = {
        paper.bundle("1.0.0").digest: measured(paper, "1.0.0", *before),
        paper.bundle("1.1.0").digest: measured(paper, "1.1.0", *after),
    }
    return plan_shown(planned(paper, cards), cards).measured


def test_what_was_measured_alike_is_compared() -> None:
    """The same metric on the same rows, of the same format, by the same runtime."""
    better = replace(METRIC, value=0.968)
    (one,) = shown(METRIC, after=(better,))

    assert (0.961, 0.968) == (one.before, one.after)
    told = wording.measured(one.model_dump())
    assert "accuracy 96.1 -> 96.8 % (int8, digits-test, n 500) on litert 2.3.0" == told
    assert ("accuracy", "int8", "digits-test", 500) == (
        one.name,
        one.format,
        one.dataset,
        one.samples,
    )


def test_what_was_measured_otherwise_is_not() -> None:
    """No number is invented: there is none before, and nothing where nothing was measured."""
    for other in (replace(METRIC, dataset="night"), replace(METRIC, runtime="tflite 2.14.0")):
        (one,) = shown(other, after=(METRIC,))
        assert one.before is None
        assert "accuracy 96.1 % (int8, digits-test, n 500) on litert 2.3.0" == wording.measured(
            one.model_dump()
        )
    assert [] == shown(METRIC, after=())


def test_a_variant_that_nobody_gets_is_not_told() -> None:
    """Only of what is rolled out."""
    paper = Paper()
    card = measured(paper, "1.1.0", METRIC)
    cards = {paper.bundle("1.1.0").digest: card}
    made = planned(paper, cards)
    nobody = replace(made, steps=())

    assert [None] == [each.before for each in plan_shown(made, cards).measured]
    assert [] == plan_shown(nobody, cards).measured


SHADOW = v1.DeploymentSettings(shadow=v1.ShadowSettings(requests=50))
DEFAULTS = v1.DeploymentSettings()


def served(settings: v1.DeploymentSettings | None) -> list[tuple[v1.DeploymentSettings, bool, int]]:
    """Plan 1.1.0 for three devices with a shadow, four without and two without anything."""
    paper = Paper()
    first = paper.inventory(*paper.targets(9))
    chosen = {"d-1": SHADOW, "d-2": SHADOW, "d-3": SHADOW}
    for device in ("d-4", "d-5", "d-6", "d-7"):
        chosen[device] = DEFAULTS
    held = paper.written(
        first, {name: replace(paper.deployment(), settings=each) for name, each in chosen.items()}
    )
    for device in chosen:
        parted = device == "d-3"  # it goes back to nothing, and has its settings all the same
        held = paper.says(held, device, Phase.REFUSED if parted else Phase.COMMITTED)
    request = paper.request("1.1.0", settings=settings)
    made = plan(request, ALL_AT_ONCE, held, paper.cards(request.bundle), NOW)
    assert made.steps[2].replaces is None
    return [(each.settings, each.kept, each.targets) for each in plan_shown(made, {}).serving]


def test_a_plan_says_the_settings_that_devices_keep() -> None:
    """Where it gives none, an old shadow is not silently there."""
    assert [(DEFAULTS, True, 4), (SHADOW, True, 3), (DEFAULTS, False, 2)] == served(None)


def test_a_plan_says_the_settings_that_devices_get() -> None:
    """And who had them; given defaults take a shadow away."""
    assert [(SHADOW, False, 7), (SHADOW, True, 2)] == served(SHADOW)
    assert [(DEFAULTS, False, 5), (DEFAULTS, True, 4)] == served(DEFAULTS)
    slower = replace(SHADOW, timeout_s=20.0)
    assert [(slower, False, 9)] == served(slower)
