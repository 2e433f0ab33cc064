"""What a device wants and serves under each name, and why these differ: one reason, and true."""

from dataclasses import replace

import pytest

from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from agent.wire.v1 import Hold, Order, Problem
from fleet.health.heard import Heard
from fleet.health.standing import Standing, standings
from fleet.health.states import HealthReason
from fleet.sentences import REASONS
from tests.fleet.deciding.test_health_states import (
    BAD,
    LATER,
    NEXT,
    NOW,
    PAPER,
    ago,
    heard,
    told,
    wants,
)

NEWER = wants("1.5.0", 3)
FETCHING = told(Phase.FETCHING, revision=3, digest=NEXT.digest)
PUT_OFF = told(Phase.ACCEPTED, revision=3, digest=NEXT.digest, last_error=LATER)
CLOSED = replace(PUT_OFF, last_error=Problem(reason=Reason.DOWNLOAD_WINDOW_CLOSED))
READY = replace(
    CLOSED, phase=Phase.TESTING, last_error=Problem(reason=Reason.MAINTENANCE_WINDOW_CLOSED)
)
REFUSED = told(Phase.REFUSED, revision=3, digest=NEXT.digest, last_error=BAD)
SEEN = Order(epoch=0, generation=2)
HOLD = Hold(reason="lens is off", since=ago(400))

CASES = {
    "it serves what is wanted": (heard(), None),
    "it serves it, and is away": (heard(online=False), None),
    "it serves it, and is held": (heard(hold=HOLD), None),
    "it has not answered": (heard(desired=NEWER), HealthReason.NOT_ANSWERED),
    "it is away": (heard(desired=NEWER, online=False), HealthReason.DISCONNECTED),
    "it says nothing": (
        heard(desired=NEWER, reported_at=ago(301), health_at=ago(301)),
        HealthReason.SILENT,
    ),
    "it refuses the document": (
        heard(desired=NEWER, last_error=Problem(reason=Reason.SIGNATURE_INVALID)),
        Reason.SIGNATURE_INVALID,
    ),
    "it is held": (heard(desired=NEWER, hold=HOLD), Reason.HELD_BY_OWNER),
    "it is held on its way": (
        heard(FETCHING, desired=NEWER, observed=SEEN, hold=HOLD),
        Reason.HELD_BY_OWNER,
    ),
    "it was put off": (heard(PUT_OFF, desired=NEWER, observed=SEEN), Reason.REGISTRY_UNREACHABLE),
    "its window is closed": (
        heard(CLOSED, desired=NEWER, observed=SEEN),
        Reason.DOWNLOAD_WINDOW_CLOSED,
    ),
    "it is ready, and its window is closed": (
        heard(READY, desired=NEWER, observed=SEEN),
        Reason.MAINTENANCE_WINDOW_CLOSED,
    ),
    "it is on its way": (heard(FETCHING, desired=NEWER, observed=SEEN), HealthReason.ON_THE_WAY),
    "it is compared": (
        heard(replace(FETCHING, phase=Phase.SHADOWING), desired=NEWER, observed=SEEN),
        HealthReason.COMPARED,
    ),
    "it is on trial": (
        heard(replace(FETCHING, phase=Phase.PROBATION), desired=NEWER, observed=SEEN),
        HealthReason.ON_THE_WAY,
    ),
    "it refused it": (heard(REFUSED, desired=NEWER, observed=SEEN), Reason.GOLDEN_MISMATCH),
    "it refused it, and is away": (
        heard(REFUSED, desired=NEWER, observed=SEEN, online=False),
        Reason.GOLDEN_MISMATCH,
    ),
    "it refused the one before": (
        heard(REFUSED, desired=wants("1.5.0", 4, 3), observed=SEEN),
        HealthReason.NOT_ANSWERED,
    ),
    "it is on its way to the one before": (
        heard(FETCHING, desired=wants("1.5.0", 4, 3), observed=SEEN),
        HealthReason.NOT_ANSWERED,
    ),
    "the store is older": (
        heard(told(revision=4, digest=NEXT.digest), observed=Order(epoch=0, generation=9)),
        HealthReason.AHEAD_OF_STORE,
    ),
    "it is to go": (
        heard(desired=PAPER.desired("d-1", generation=2)),
        HealthReason.NOT_ANSWERED,
    ),
    "it is to go, and it knows": (
        heard(desired=PAPER.desired("d-1", generation=2), observed=SEEN),
        Reason.REMOVED,
    ),
    "it serves it, and it fails": (heard(told(last_error=BAD)), Reason.GOLDEN_MISMATCH),
}


def only(device: Heard) -> Standing:
    (standing,) = standings(device, NOW)
    return standing


@pytest.mark.parametrize("name", CASES)
def test_one_reason_for_what_differs(name: str) -> None:
    """The one that has to go away first; what was said of another revision is none."""
    device, reason = CASES[name]
    found = only(device).finding

    assert reason == (None if found is None else found.reason)
    assert found is None or found.reason in REASONS


def test_each_deployment_has_its_own_reason() -> None:
    """What holds one up is no reason for the other, and neither is left out."""
    lamp = PAPER.deployment("lamp", 1, "1.4.0")
    digits = PAPER.deployment("digits", 3, "1.5.0")
    desired = PAPER.desired("d-1", digits, lamp, generation=2)
    serves = told(name="lamp", active=None, digest=lamp.bundle.digest)
    found = list(standings(heard(REFUSED, serves, desired=desired, observed=SEEN), NOW))

    assert ["digits", "lamp"] == [each.name for each in found]
    assert [Reason.GOLDEN_MISMATCH, None] == [
        each.finding and each.finding.reason for each in found
    ]
    assert ["1.5.0", "1.4.0"] == [each.wanted and each.wanted.bundle.version for each in found]
    assert ["1.4.0", "1.4.0"] == [each.serves and each.serves.version for each in found]


def test_what_it_never_spoke_of_is_there() -> None:
    """It acts on the document, and its report had no room: no reason is made up."""
    desired = PAPER.desired("d-1", PAPER.deployment("lamp", 1), PAPER.deployment(), generation=2)
    found = {each.name: each for each in standings(heard(desired=desired, observed=SEEN), NOW)}

    assert found["lamp"].finding is not None
    assert HealthReason.NOT_BEGUN == found["lamp"].finding.reason
    assert found["lamp"].serves is None


def test_nothing_wanted_and_nothing_said_is_nothing() -> None:
    """A device that has just joined has no deployment to tell of."""
    assert [] == list(standings(heard(reports=False, desired=None), NOW))
