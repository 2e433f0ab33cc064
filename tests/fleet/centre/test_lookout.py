"""What devices say becomes alerts in the store: one a cause, and the same after a restart."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import update

from agent.wire import v1
from fleet.clock import written
from fleet.kept import move
from fleet.metrics.census import Named
from fleet.metrics.courses import Courses
from fleet.roll import Roll
from fleet.rollouts.policy import Gate
from fleet.rollouts.progress import Cause as RolloutCause
from fleet.rollouts.states import RolloutState, WaveState
from fleet.store import alerts, audit, bundles, tables, words
from fleet.store.engine import Store
from fleet.store.errors import ConflictError, NotFoundError
from models import card_codec
from models.card import Card, DriftReference
from tests.fleet.centre.outlook import Outlook
from tests.fleet.deciding.paper import NOW, Paper
from tests.fleet.screens.village import FLEET, OLD, keep

LERWICK = [f"d-{n}" for n in range(1, 9)]
ODD: dict[str, Any] = {"throttled": True}
FULL: dict[str, Any] = {"disk_free_bytes": 1 << 20, "disk_total_bytes": 1 << 35}
FEELINGS: list[dict[str, Any]] = [ODD, FULL, {"period_s": 600.0}, {}]


@pytest.fixture
def outlook(store: Store) -> Outlook:
    made = Outlook(store)
    made.settle(lerwick=8, porto=6)
    made.feel(*made.sessions)
    made.look()
    return made


def test_a_cut_site_is_one_alert_and_ends_when_it_is_back(outlook: Outlook) -> None:
    """Eight devices leave: one alert after a minute; they come back: it is over."""
    outlook.go(*LERWICK)
    assert [] == outlook.look()
    assert [] == outlook.look(59)
    assert [("SkerrySiteCut", "lerwick", "opened")] == outlook.look(1)
    (cut,) = outlook.kept()
    assert (8, 8) == (cut.cause.devices, cut.cause.of)
    outlook.come(*LERWICK)
    outlook.look(5)
    assert [("SkerrySiteCut", "lerwick", "opened")] == outlook.look(119)
    assert [("SkerrySiteCut", "lerwick", "cleared")] == outlook.look(1)
    assert 2 == outlook.told


def test_devices_that_fall_silent_are_seen_by_time_alone(outlook: Outlook) -> None:
    """Nothing is committed: the notes that are kept say when somebody should have spoken."""
    for _ in range(10):
        outlook.wait(60)
        outlook.feel(*(each for each in outlook.sessions if each not in LERWICK))
        outlook.look()

    assert [("SkerrySiteCut", "lerwick", "opened")] == outlook.told_of()


def test_a_crash_loop_on_all_sites_is_one_alert(outlook: Outlook) -> None:
    """Workers that are started again and again, on devices of two sites: one bundle, one alert."""
    outlook.feel(*outlook.sessions, restarts=4)
    assert [("SkerryCrashLoop", "digits 1.4.0", "opened")] == outlook.look()
    (crash,) = outlook.kept()
    assert 14 == crash.cause.devices
    outlook.all_speak(60)
    outlook.look()
    for _ in range(10):
        outlook.all_speak(60)
        outlook.look()
    assert [("SkerryCrashLoop", "digits 1.4.0", "cleared")] == outlook.told_of()


def test_a_full_disk_and_a_hot_room_are_alerts_of_their_sites(outlook: Outlook) -> None:
    """Each cause has its own, with who it is, why, and since when."""
    for _ in range(4):
        outlook.all_speak(60)
        outlook.feel("d-9", **FULL)
        outlook.feel("d-1", "d-2", **ODD)
        outlook.look()
    found = {each.key.rule: each.cause for each in outlook.kept()}

    assert {"SkerryDiskFilling", "SkerryThrottling"} == set(found)
    assert ("porto-1",) == found["SkerryDiskFilling"].names
    assert (2, 8) == (found["SkerryThrottling"].devices, found["SkerryThrottling"].of)


def test_a_restart_tells_nothing_twice(outlook: Outlook) -> None:
    """A centre that comes back goes on with the alerts there are; a gap alone ends none."""
    outlook.refuse("d-1", "d-2")
    golden = [("SkerryGoldenFailing", "digits 1.4.0", "opened")]
    assert golden == outlook.look()
    outlook.lookout = outlook.another()
    assert golden == outlook.look(5)
    outlook.hears = False
    assert golden == outlook.look(30)
    outlook.hears = True
    outlook.refuse("d-1", "d-2", reason=None)
    outlook.look(30)
    outlook.all_speak(300)
    assert [(*golden[0][:2], "cleared")] == outlook.look()
    assert 2 == outlook.told


def test_a_centre_that_was_away_takes_nobody_for_silent(outlook: Outlook) -> None:
    """After a night without a centre, it waits as long as a device may be silent."""
    outlook.lookout = outlook.another()
    outlook.look(86400)
    outlook.look(240)
    outlook.all_speak()

    assert [] == outlook.look(120)


@pytest.mark.parametrize("restarted", [False, True])
def test_who_was_silent_is_not_back_because_the_centre_is(
    outlook: Outlook,
    restarted: bool,  # noqa: FBT001  # a case
) -> None:
    """A broker that is gone for 5 s, or a restart: the alert stays, with who is on it; no news."""
    lively = [each for each in outlook.sessions if each not in LERWICK]
    for minute in range(50):
        outlook.wait(60)
        outlook.feel(*lively)
        outlook.look()
        if minute == 10:
            (cut,) = outlook.kept()
            outlook.lookout.ack(cut.id, actor="anna", reason="a digger")
        if minute == 20:
            outlook.hears = restarted
            outlook.lookout = outlook.another() if restarted else outlook.lookout
            outlook.look(5)
            outlook.hears = True
            outlook.look(5)

    (cut,) = outlook.kept()
    assert ("SkerrySiteCut", "firing", 8) == (cut.key.rule, cut.state, cut.cause.devices)
    assert cut.ack is not None
    assert (1, ["opened"]) == (outlook.told, [each.news for each in cut.history])
    outlook.all_speak(60)
    outlook.look()
    outlook.all_speak(120)
    assert [("SkerrySiteCut", "lerwick", "cleared")] == outlook.look()


def test_a_rollout_that_went_back_is_told_until_one_of_its_deployment_follows(
    outlook: Outlook,
) -> None:
    """Of other deployments there may be as many as there are; and its end is counted."""
    paper = Paper()
    inventory = paper.inventory(*paper.targets(3))
    begun, _ = paper.started(inventory, paper.plan(inventory))
    courses = Courses(Named())

    def counted() -> float:
        with outlook.store.read() as connection:
            numbers = courses.look(connection, outlook.now)["skerry_rollouts_finished_total"]
        return sum(each for each in numbers.values() if isinstance(each, (int, float)))

    keep(outlook.store, begun, written(NOW))
    counted()
    for number in range(2, 30):
        other = replace(begun, id=f"r-{number}", deployment=f"o-{number}")
        keep(outlook.store, replace(other, state=RolloutState.DONE), written(NOW))
        if number == 5:
            back = replace(begun, state=RolloutState.FAILED, cause=RolloutCause(code="MISSED"))
            with outlook.store.write() as connection:
                move(connection, begun, back)
                connection.execute(update(tables.rollouts).values(is_open=False))
        outlook.look(5)
    outlook.look(120)
    assert [("SkerryRolloutRolledBack", "r-1", "opened")] == outlook.told_of()
    assert 21 == counted()
    following = replace(begun, id="r-30", state=RolloutState.DONE)
    keep(outlook.store, following, written(NOW))
    outlook.look()
    assert [("SkerryRolloutRolledBack", "r-1", "cleared")] == outlook.look(60)
    for number in range(31, 55):
        new = replace(begun, id=f"r-{number}", deployment="o", state=RolloutState.DONE)
        keep(outlook.store, new, written(NOW))
    assert [("SkerryRolloutRolledBack", "r-1", "cleared")] == outlook.look(5)


def test_a_soak_moves_until_its_end(outlook: Outlook) -> None:
    """As Prometheus is told: three hours of nothing but time are no standstill."""
    paper = Paper()
    inventory = paper.inventory(*paper.targets(3))
    begun, _ = paper.started(inventory, paper.plan(inventory))
    gate = Gate(success_percent=100, error_percent=0, soak_s=3 * 3600.0)
    wave = replace(begun.waves[0], state=WaveState.SOAKING, since=NOW, gate=gate)
    keep(outlook.store, replace(begun, waves=(wave,)), written(NOW))
    courses = Courses(Named())
    since = []
    for _ in range(5):
        with outlook.store.read() as connection:
            found = courses.look(connection, outlook.now)
        moved = found["skerry_rollout_last_progress_timestamp_seconds"][("r-1",)]
        assert isinstance(moved, (int, float))
        since.append(outlook.now.timestamp() - moved)
        outlook.wait(3600)

    assert [0, 0, 0, 0, 3600] == since


def test_a_lost_broker_is_the_only_alert(outlook: Outlook) -> None:
    """Of devices nothing can be said meanwhile, and nothing is."""
    outlook.hears = False
    outlook.look()

    assert [("SkerryBrokerDisconnected", "broker", "opened")] == outlook.look(3600)


def test_a_look_that_finds_nothing_new_writes_nothing(outlook: Outlook) -> None:
    """The page looks again when something was committed: a look alone is no reason."""
    outlook.refuse("d-1")
    outlook.look()
    before = outlook.store.changes()
    for _ in range(5):
        outlook.look()

    assert before == outlook.store.changes()


@pytest.mark.parametrize("restarted", [True, False])
def test_where_the_centre_heard_nothing_nobody_is_said_to_have_been_away(
    outlook: Outlook,
    restarted: bool,  # noqa: FBT001  # a case
) -> None:
    """After a stop, or a broker that was gone: silence was ours, until they had time to speak."""
    outlook.look()
    if restarted:
        outlook.wait(600)
        outlook.lookout = outlook.another()
    else:
        outlook.hears = False
        outlook.look(300)
        outlook.look(300)
        outlook.hears = True
    outlook.look()
    outlook.all_speak(60)
    outlook.look()
    with outlook.store.read() as connection:
        told = [words.of_device(connection, each) for each in outlook.sessions]
    assert {"ok"} == {each.word.state for spoken in told for each in spoken}
    outlook.feel(*LERWICK)
    outlook.look(400)  # these had their time, the others did not speak
    outlook.feel(*LERWICK)
    outlook.look()
    with outlook.store.read() as connection:
        (*_, last) = words.of_device(connection, "d-14")
        (*_, here) = words.of_device(connection, LERWICK[0])

    assert ("offline", "SILENT") == (last.word.state, last.word.reason)
    assert "ok" == here.word.state


def test_a_second_word_within_a_second_is_heard(outlook: Outlook) -> None:
    """Times have whole seconds: what came in the second of a look is looked at again."""
    outlook.wait(60)
    outlook.refuse("d-1", reason=None)
    outlook.feel("d-2")
    assert [] == outlook.look()
    outlook.refuse("d-1")
    outlook.feel("d-2", restarts=9)

    assert {"SkerryGoldenFailing", "SkerryCrashLoop"} == {rule for rule, _, _ in outlook.look()}


def test_an_acknowledged_alert_has_a_name_on_it_and_the_audit_knows(outlook: Outlook) -> None:
    """Who, why and when; one that is over can't be acknowledged, nor one that is not there."""
    outlook.refuse("d-1")
    outlook.look()
    (alert,) = outlook.kept()
    outlook.lookout.ack(alert.id, actor="anna", reason="a new variant is on its way")
    (acked,) = outlook.kept()

    assert acked.ack is not None
    assert ("anna", "a new variant is on its way") == (acked.ack.by, acked.ack.reason)
    with outlook.store.read() as connection:
        (entry,) = audit.latest(connection, limit=1, about=alert.id)
    assert ("alert.ack", "anna") == (entry.action, entry.actor)
    with pytest.raises(NotFoundError):
        outlook.lookout.ack("a-nothing", actor="anna", reason="")
    outlook.refuse("d-1", reason=None)
    outlook.look()
    outlook.look(300)
    with pytest.raises(ConflictError):
        outlook.lookout.ack(alert.id, actor="anna", reason="")


def test_a_silence_ends_by_itself_or_by_word_and_is_audited(outlook: Outlook) -> None:
    """It has an end from the start; ended twice is an error."""
    hour = {"rule": None, "site": "porto", "bundle": None, "for_s": 3600, "actor": "anna"}
    quiet = outlook.lookout.silence(**hour, reason="digging")  # type: ignore[arg-type]
    later = outlook.lookout.silence(**hour, reason="digging on")  # type: ignore[arg-type]
    outlook.lookout.end_silence(later.id, actor="anna", reason="done early")

    with outlook.store.read() as connection:
        assert [quiet] == list(alerts.silences_after(connection, written(outlook.now)))
        actions = [each.action for each in audit.latest(connection, limit=3)]
    assert ["alert.silence.end", "alert.silence", "alert.silence"] == actions
    with pytest.raises(NotFoundError):
        outlook.lookout.end_silence(later.id, actor="anna", reason="")
    outlook.look(3600)
    with outlook.store.read() as connection:
        assert [] == list(alerts.silences_after(connection, written(outlook.now)))


def test_what_is_over_is_kept_within_a_bound(
    outlook: Outlook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest stay; what is open is never forgotten; and silences are few."""
    monkeypatch.setattr(alerts, "KEPT", 2)
    monkeypatch.setattr(alerts, "RETURNS_S", 1.0)
    monkeypatch.setattr(alerts, "SILENCES_LIMIT", 3)
    outlook.refuse("d-14")
    for _ in range(5):
        outlook.feel("d-1", restarts=9)
        outlook.look(60)
        outlook.feel("d-1")
        outlook.look(60)
        outlook.look(600)
        outlook.look(4 * 3600)

    told = outlook.told_of()
    assert ("SkerryGoldenFailing", "digits 1.4.0", "opened") in told
    assert 2 == sum(news == "cleared" for _, _, news in told)
    wanted = {"rule": "SkerryCrashLoop", "site": None, "bundle": None, "for_s": 60}
    for _ in range(3):
        outlook.lookout.silence(**wanted, actor="a", reason="b")  # type: ignore[arg-type]
    with pytest.raises(ConflictError):
        outlook.lookout.silence(**wanted, actor="a", reason="b")  # type: ignore[arg-type]


def test_what_has_drifted_is_one_alert_whenever_it_is_told(outlook: Outlook) -> None:
    """Drift comes once an hour, with documents that show nothing else; a roll of old sees it."""
    publish_reference(outlook.store)
    for hour, bins in enumerate(((100, 100, 100, 100, 0), (0, 3000, 0, 0, 0), (0, 3000, 0, 0, 0))):
        outlook.wait(3600)
        drift = (v1.DriftSketch(subject="input-0-mean", counts=bins),)
        outlook.commit(*(drifted(outlook, each, drift, told=hour) for each in LERWICK[:3]))
        outlook.feel(*(each for each in outlook.sessions if each not in LERWICK[:3]))
        outlook.look()

    assert [("SkerryModelDrifting", "digits 1.4.0", "opened")] == outlook.told_of()
    (drifting,) = outlook.kept()
    assert 3 == drifting.cause.devices


def test_drift_is_seen_though_an_ordinary_word_followed(outlook: Outlook) -> None:
    """An hour that alarms, 2 s later a word of nothing, and only then a look; also the other way.

    The next hour has another figure, and the look's note has it, too.
    """
    publish_reference(outlook.store)
    kept = Roll(outlook.store, FLEET)
    for hour, bins in enumerate(((100, 100, 100, 100, 0), (0, 3000, 0, 0, 0), (0, 0, 9000, 0, 0))):
        outlook.all_speak(1800)
        outlook.look()
        kept.call()
        outlook.wait(1800)
        drift = (v1.DriftSketch(subject="input-0-mean", counts=bins),)
        outlook.commit(*(drifted(outlook, each, drift, told=hour) for each in LERWICK[:3]))
        outlook.all_speak(2)
        outlook.look(2)
        assert Roll(outlook.store, FLEET).call() == kept.call()

    assert [("SkerryModelDrifting", "digits 1.4.0", "opened")] == outlook.told_of()
    (drifting,) = outlook.kept()
    assert 3 == drifting.cause.devices


def publish_reference(store: Store) -> None:
    """Let the bundle that serves have something that drift is measured against."""
    reference = DriftReference(
        subject="input-0-mean", edges=(1.0, 2.0, 3.0), shares=(0.25,) * 4, samples=1000
    )
    publish(store, replace(Paper().card(OLD), drift=(reference,)), OLD.digest)


def drifted(
    outlook: Outlook, device: str, drift: tuple[v1.DriftSketch, ...], *, told: int
) -> v1.Health:
    made = outlook.health(device, told=told)
    return replace(made, deployments=(replace(made.deployments[0], drift=drift),))


def publish(store: Store, card: Card, digest: str) -> None:
    with store.write() as connection:
        bundles.add(
            connection,
            bundles.PublishedBundle(
                digest=digest,
                name=card.ref.name,
                version=card.ref.version,
                card=card_codec.render(card),
                published_at=written(NOW),
            ),
        )


def test_a_look_keeps_how_each_device_is(outlook: Outlook, store: Store) -> None:
    """Full for a while, then well, then cut off: three words, each from the look that found it."""
    outlook.feel("d-1", **FULL)
    outlook.look(5)
    outlook.all_speak(60)
    outlook.look()
    outlook.go("d-1")
    outlook.another().look()

    with store.read() as connection:
        found = [
            (each.word.state, each.word.reason, each.until is None)
            for each in words.of_device(connection, "d-1")
        ]
        [other] = words.of_device(connection, "d-9")
    assert [
        ("ok", "AS_WANTED", False),
        ("degraded", "DISK_NEARLY_FULL", False),
        ("ok", "AS_WANTED", False),
        ("offline", "DISCONNECTED", True),
    ] == found
    assert ("ok", "digits 1.4.0") == (other.word.state, other.word.subject)
