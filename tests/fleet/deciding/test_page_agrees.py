"""Before the device and at the centre the same is said: one word for one device."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.page.seen import Seen
from agent.page.verdict import findings
from agent.state import Record, accepted
from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from fleet.health.heard import Heard
from fleet.health.states import verdict
from fleet.inventory import Target
from tests.agent.looks import (
    HOLD,
    LOOKS,
    NOW,
    VERDICT,
    at,
    health,
    installed,
    seen,
    wanted,
)

NOT_THE_SAME = {
    "starting": "only the device knows that a process is not there yet",
    "given up": "the device says so in its next report",
    "fullest": "a document that was refused is the centre's to judge: it may hold a newer one",
}
"""Looks on which the device may say more than the centre knows."""


def at_the_centre(look: Seen) -> str:
    """Return what the centre says of a device that is connected and has just said all this."""
    assert look.reported.observed is not None
    desired = v1.Desired(
        fleet=look.reported.fleet,
        target=look.reported.device,
        order=look.reported.observed,
        issued_at=at("07:00:00"),
        deployments=tuple(record.wanted for record in look.records.values()),
    )
    target = Target(
        device=look.reported.device,
        name="porto-cam-07",
        facts={},
        online=True,
        last_seen=NOW,
        desired=desired,
        reported=look.reported,
    )
    heard = Heard(
        target=target,
        joined_at=at("00:00:00"),
        reported_at=NOW,
        health=look.health,
        health_at=NOW,
    )
    return verdict(heard, datetime.fromisoformat(NOW).astimezone(UTC)).state.value


@pytest.mark.parametrize("name", [name for name in LOOKS if name not in NOT_THE_SAME])
def test_each_look_has_the_same_word_at_the_centre(name: str) -> None:
    """Well, in trouble, empty: whoever asks, wherever."""
    assert at_the_centre(LOOKS[name]) == findings(LOOKS[name])[0].state


def _record(phase: Phase, *, problem: bool, serves: bool, fallback: str) -> Record:
    deployment = wanted("digits", "1.5.0", 2)
    before = wanted("digits", "1.4.0", 1)
    serving = phase in {Phase.PROBATION, Phase.COMMITTED}
    current = installed(deployment if serving else before, fallback=fallback)
    return replace(
        accepted(deployment, at("11:00:00")),
        phase=phase,
        problem=v1.Problem(reason=Reason.TIMED_OUT) if problem else None,
        current=current if serving or serves else None,
    )


records = st.builds(
    _record,
    st.sampled_from([phase for phase in Phase if phase is not Phase.RETIRED]),
    problem=st.booleans(),
    serves=st.booleans(),
    fallback=st.sampled_from(["", "no device is connected"]),
)


@given(
    record=records,
    held=st.booleans(),
    condemned=st.booleans(),
    errors=st.sampled_from([0, 1, 8, 9]),
    throttled=st.booleans(),
    free=st.sampled_from([None, 10 << 20, 2 << 30]),
)
def test_whatever_a_device_reports_the_word_is_the_same(
    record: Record, *, held: bool, condemned: bool, errors: int, throttled: bool, free: int | None
) -> None:
    """Over every phase, with and without trouble, hold, quarantine and bad numbers."""
    bad = {record.current.digest: VERDICT} if condemned and record.current else {}
    look = seen(
        record,
        hold=HOLD if held else None,
        quarantined={digest: replace(verdict_, digest=digest) for digest, verdict_ in bad.items()},
        health=health(
            [record],
            errors=errors,
            throttled=throttled,
            disk_free_bytes=free,
            disk_total_bytes=1 << 36,
        ),
    )
    assert at_the_centre(look) == findings(look)[0].state
