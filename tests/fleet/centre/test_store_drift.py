"""Drift outlives the document that told it, counts once, and never says more than it knows."""

import json
from dataclasses import replace
from typing import Any

import pytest

from agent.wire import codec, v1
from agent.wire.limits import DEPLOYMENTS_LIMIT, DRIFT_COUNT_LIMIT
from agent.wire.reasons import Reason
from fleet.clock import written
from fleet.health.drift import Drift, Level
from fleet.health.tellings import KEPT
from fleet.identity.join import new_id
from fleet.link.intake import Refusal, admit
from fleet.ports import Received
from fleet.store import arrivals, bundles, drift
from fleet.store.engine import Store
from models import card_codec
from models.card import DriftReference
from tests.fleet.centre.parties import NOW, add_devices
from tests.fleet.centre.test_store_waiting import birth, waited
from tests.fleet.deciding.paper import Paper

ONE = "d-one"
PAPER = Paper()
BUNDLE = PAPER.bundle("1.4.0")
REFERENCE = DriftReference(
    subject="input-0-mean", edges=(1.0, 2.0, 3.0), shares=(0.25,) * 4, samples=1000
)
AS_EVER = (100, 100, 100, 100, 0)
STUCK = (0, 400, 0, 0, 0)
Says = v1.Birth | v1.Health | v1.Event


@pytest.fixture(autouse=True)
def world(store: Store) -> None:
    """One device, and a bundle whose card has a reference."""
    add_devices(store, [ONE])
    card = replace(PAPER.card(BUNDLE), drift=(REFERENCE,))
    with store.write() as connection:
        bundles.add(
            connection,
            bundles.PublishedBundle(
                digest=BUNDLE.digest,
                name=BUNDLE.name,
                version=BUNDLE.version,
                card=card_codec.render(card),
                published_at=written(NOW),
            ),
        )
    commit(store, birth(1), at=0)


def feels(
    told: int,
    counts: tuple[int, ...] | None = AS_EVER,
    *,
    at: str = "2026-03-01T12:00:00Z",
    subject: str = "input-0-mean",
    names: tuple[str, ...] = ("digits",),
    **changes: Any,  # noqa: ANN401  # of a deployment
) -> v1.Health:
    told_of = () if counts is None else (v1.DriftSketch(subject=subject, counts=counts),)
    fields = {"revision": 1, "digest": BUNDLE.digest, "requests": 400, "errors": 0, **changes}
    return v1.Health(
        fleet="harbour",
        device=ONE,
        session=1,
        at=at,
        period_s=60.0,
        told=told,
        deployments=tuple(
            v1.DeploymentHealth(name=name, drift=told_of, **fields) for name in names
        ),
    )


def commit(store: Store, *batch: Says, at: int) -> None:
    with store.write() as connection:
        arrivals.commit(connection, batch, now=moment(at))


def moment(hour: int) -> str:
    return f"2026-03-{1 + hour // 24:02}T{hour % 24:02}:00:00Z"


def held(store: Store) -> Drift:
    (found,) = every(store)
    return found


def every(store: Store) -> list[Drift]:
    with store.read() as connection:
        found = list(drift.held(connection, ONE))
        assert found == list(drift.among(connection, [ONE, "d-two"]).get(ONE, ()))
    return found


def counts(store: Store) -> list[int]:
    return list(held(store).counts["input-0-mean"])


def test_it_stays_when_the_next_document_tells_none(store: Store) -> None:
    """A minute later health is replaced; what the hour told is kept, and judged."""
    commit(store, feels(0), feels(0, None), at=1)
    commit(store, feels(0, None), at=2)
    found = held(store)

    assert (Level.OK, moment(1), moment(1)) == (found.level, found.told_at, found.since)
    assert AS_EVER == tuple(counts(store))
    assert ("digits", 1, BUNDLE.digest) == (found.deployment, found.revision, found.digest)


def test_a_planted_drift_is_found_and_dated(store: Store) -> None:
    """A sensor sticks: within some hours it is an alarm, since then; and it passes a day later."""
    for hour in range(KEPT):
        commit(store, feels(hour), at=hour)
    assert Level.OK is held(store).level
    levels = []
    for hour in range(KEPT, 2 * KEPT):
        commit(store, feels(hour, STUCK), at=hour)
        levels.append(held(store).level)
    began = levels.index(Level.ALARM)

    assert 3 <= began <= 9
    assert {Level.ALARM} == set(levels[began:])
    assert moment(KEPT + began) == held(store).since
    assert moment(2 * KEPT - 1) == held(store).told_at
    for hour in range(2 * KEPT, 3 * KEPT):
        commit(store, feels(hour), at=hour)
    assert Level.OK is held(store).level


def test_a_night_without_traffic_is_not_drift(store: Store) -> None:
    """Nothing was told, or of a few requests that are alike: too few, and nothing is forgotten."""
    commit(store, feels(0, (0, 3, 0, 0, 0)), at=1)
    night = held(store)

    assert (Level.TOO_FEW, 3, 80) == (
        night.level,
        night.judged[0].requests,
        night.judged[0].least,
    )
    commit(store, *(feels(number, None) for number in range(1, 9)), at=9)
    assert night == held(store)
    for hour in range(10, 10 + KEPT):
        commit(store, feels(hour), at=hour)
    commit(store, feels(99, (0, 3, 0, 0, 0)), at=40)
    assert Level.OK is held(store).level


def test_what_waited_counts_once_and_is_not_of_now(store: Store) -> None:
    """A week behind a cut cable: its tellings count, and when it was last heard stays as it was."""
    commit(store, feels(0), at=1)
    late = [
        waited(feels(number, STUCK, at=f"1970-01-01T00:00:{number:02}Z"), number=number + 1)
        for number in range(1, 4)
    ]
    commit(store, *late, at=30)
    commit(store, *late, *late, at=31)

    assert [100, 1300, 100, 100, 0] == counts(store)
    assert (moment(1), moment(30), Level.ALARM) == (
        held(store).told_at,
        held(store).since,
        held(store).level,
    )
    # One that came at once, and was told again because nobody had confirmed it, is one.
    again = feels(9)
    commit(store, again, at=32)
    commit(store, again, waited(again, number=10), at=33)
    assert [200, 1400, 200, 200, 0] == counts(store)


def test_only_late_ones_are_of_no_now_at_all(store: Store) -> None:
    """They are kept, for what comes next; nobody says when the device last felt so."""
    commit(store, waited(feels(0, STUCK), number=1), at=5)

    assert (None, Level.ALARM) == (held(store).told_at, held(store).level)


def test_tellings_are_bounded(store: Store) -> None:
    """However many come: a day of them, in at most 16 KB."""
    full = (DRIFT_COUNT_LIMIT,) * 17
    for number in range(3 * KEPT):
        document = feels(number, full)
        (part,) = document.deployments
        sketches = tuple(
            v1.DriftSketch(subject=f"input-{number % 2}{place}-deviation", counts=full)
            for place in range(6)
        )
        fuller = replace(document, deployments=(replace(part, drift=sketches),))
        commit(store, fuller, at=number)
    with store.read() as connection:
        (row,) = connection.exec_driver_sql("SELECT * FROM drift")
        (tellings,) = connection.exec_driver_sql("SELECT json_array_length(tellings) FROM drift")

    assert (KEPT,) == tuple(tellings)
    assert sum(len(str(each)) for each in row) < 16 * 1024
    assert Level.TOO_FEW is held(store).level


@pytest.mark.parametrize(
    ("subject", "told"),
    [
        ("input-7-mean", AS_EVER),
        ("input-0-mean", (0, 400)),
        ("input-0-mean", (400,) * 17),
        ("whatever", (1,)),
    ],
)
def test_drift_that_the_card_does_not_have_is_no_verdict(
    store: Store, subject: str, told: tuple[int, ...]
) -> None:
    """It is kept as it was told, and judged by nobody."""
    commit(store, feels(0, told, subject=subject), at=1)
    found = held(store)

    assert ((), Level.TOO_FEW) == (found.judged, found.level)
    assert {subject: list(told)} == found.counts


def test_a_bundle_that_nobody_published_is_no_verdict(store: Store) -> None:
    """Until it is published: the next hour is judged, with all that was told before."""
    strange = PAPER.bundle("9.9.9").digest
    commit(store, feels(0, STUCK, digest=strange), at=1)
    assert ((), Level.TOO_FEW) == (held(store).judged, held(store).level)
    card = replace(PAPER.card(PAPER.bundle("9.9.9")), drift=(REFERENCE,))
    with store.write() as connection:
        published = bundles.PublishedBundle(
            digest=strange,
            name="digits",
            version="9.9.9",
            card=card_codec.render(card),
            published_at=written(NOW),
        )
        bundles.add(connection, published)
    commit(store, feels(1, STUCK, digest=strange), at=2)

    assert Level.ALARM is held(store).level


def test_deployments_that_are_gone_go_and_no_others_come(store: Store) -> None:
    """A device has as many as it may have; what waited brings none back beyond that."""
    names = tuple(f"n-{number}" for number in range(DEPLOYMENTS_LIMIT))
    commit(store, feels(0, names=names), at=1)
    for number in range(3):
        late = feels(number + 1, names=tuple(f"late-{number}-{name}" for name in names))
        commit(store, waited(late), at=2)
    assert sorted(names) == [each.deployment for each in every(store)]

    commit(store, feels(9, names=("n-3", "new")), at=3)

    assert ["n-3", "new"] == [each.deployment for each in every(store)]


def test_a_stranger_and_a_document_of_another_device_leave_nothing(store: Store) -> None:
    """Who never joined is passed over."""
    commit(store, replace(feels(0), device=new_id("d-")), at=1)

    assert [] == every(store)


@pytest.mark.parametrize(
    ("where", "harm"),
    [
        ("requests", -1),
        ("requests", 2**53),
        ("requests", 1e300),
        ("requests", "many"),
        ("errors", -400),
        ("drift", {"input-0-mean": "/" * 20}),
        ("drift", {"input-0-mean": "-1"}),
        ("drift", {"input-0-mean": ""}),
        ("drift", {"": "ZGRkZAA"}),
        ("at", "yesterday"),
    ],
)
def test_numbers_that_are_none_are_refused_with_a_reason(
    store: Store, where: str, harm: object
) -> None:
    """Before they reach the store: negative, huge, or no number at all. A wrong year is none."""
    topic = "skerry/v1/harbour/d-one/health"
    good = codec.encode(feels(0, at="1970-01-01T00:00:00Z"))
    admitted = admit("harbour", topic, good)
    assert isinstance(admitted, Received)
    assert isinstance(admitted.document, v1.Health)
    commit(store, admitted.document, at=1)
    assert AS_EVER == tuple(counts(store))
    bad = json.loads(good)
    of = bad if where in bad else bad["deployments"][0]
    assert where in of
    of[where] = harm
    refused = admit("harbour", topic, json.dumps(bad).encode())

    assert isinstance(refused, Refusal)
    assert Reason.MALFORMED is refused.reason
