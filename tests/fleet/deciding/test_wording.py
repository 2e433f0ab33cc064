"""What is worded once for the terminal and the page agrees with what is decided."""

from fleet import wording
from fleet.marks import MARKS, VERDICT_MARKS
from fleet.rollouts.gate import Verdict
from fleet.rollouts.states import TO_RETURN, RolloutState, TargetState, WaveState


def test_a_rollback_names_everybody_who_goes_back() -> None:
    """Exactly those whom the tables bring back; nobody who was never asked."""
    counts = {str(state): 1 for state in TargetState}

    said, affected = wording.consequence("rollback", {"counts": counts})

    assert (len(TO_RETURN), f"{len(TO_RETURN)} devices go back to what they had.") == (
        affected,
        said,
    )


def test_every_state_has_a_mark() -> None:
    """No rollout, wave, target or verdict is shown without its shape."""
    states = [*RolloutState, *WaveState, *TargetState]

    assert [] == [state for state in states if state not in MARKS]
    assert set(Verdict) == set(VERDICT_MARKS)
