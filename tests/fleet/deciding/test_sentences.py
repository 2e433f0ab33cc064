"""Whatever a device or the planner says has a sentence for people, and a next step."""

from string import Formatter

import pytest

from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from fleet.health.states import HealthReason, State
from fleet.rollouts.errors import PlanReason
from fleet.rollouts.foresee import ObstacleReason
from fleet.rollouts.gate import GateReason
from fleet.rollouts.progress import PersonReason
from fleet.rollouts.states import RolloutState, TargetState, WaveState
from fleet.rollouts.why import WhyReason
from fleet.sentences import (
    PHASES,
    REASONS,
    ROLLOUTS,
    STATES,
    TARGETS,
    UNKNOWN_NEXT,
    WAVES,
    Sentence,
    explain,
)

CODES = [
    *Reason,
    *PlanReason,
    *GateReason,
    *ObstacleReason,
    *PersonReason,
    *WhyReason,
    *HealthReason,
]


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_sentence_and_a_next_step(code: str) -> None:
    """Both end like sentences, and can be formatted with nothing known."""
    said = explain(code)

    for text in (said.meaning, said.next_step):
        assert text[0].isupper()
        assert text.endswith(".")
        assert code not in text


def test_no_sentence_is_for_a_code_that_does_not_exist() -> None:
    """A code that went takes its sentence with it."""
    assert set(REASONS) == set(CODES)


def test_no_two_codes_mean_the_same() -> None:
    """One word for one thing."""
    meanings = [sentence.meaning for sentence in REASONS.values()]

    assert sorted(set(meanings)) == sorted(meanings)


def test_parameters_are_put_in_and_the_others_follow() -> None:
    """Nothing that was said is dropped."""
    said = explain(PlanReason.DEPLOYMENTS_LIMIT, {"limit": "16", "have": "16"})

    assert said.meaning == "It has 16 deployments, the most a device may have. (have 16)"


def test_a_missing_parameter_shows_as_a_question_mark() -> None:
    """An older device says less."""
    assert "document ?," in explain(PlanReason.TARGET_AHEAD).meaning


def test_a_parameter_is_never_read_as_a_format() -> None:
    """Devices write parameters; a brace in one is a brace."""
    said = explain(PlanReason.TARGET_AHEAD, {"observed": "{0.__class__}{limit}"})

    assert "{0.__class__}{limit}" in said.meaning


def test_an_unknown_code_shows_itself() -> None:
    """With what came beside it."""
    assert explain("SUN_TOO_BRIGHT", {"lux": "9"}) == Sentence(
        "SUN_TOO_BRIGHT (lux 9)", UNKNOWN_NEXT
    )
    assert explain("{limit}").meaning == "{limit}"


def test_every_phase_and_state_has_its_words() -> None:
    """And nothing else has."""
    assert (set(PHASES), set(TARGETS), set(WAVES), set(ROLLOUTS), set(STATES)) == (
        set(Phase),
        set(TargetState),
        set(WaveState),
        set(RolloutState),
        set(State),
    )


def test_sentences_ask_only_for_named_parameters() -> None:
    """No position, no attribute: what a device sends is only ever text."""
    for sentence in REASONS.values():
        for text in (sentence.meaning, sentence.next_step):
            for _, name, spec, conversion in Formatter().parse(text):
                assert name is None or name.isidentifier()
                assert not spec
                assert not conversion
