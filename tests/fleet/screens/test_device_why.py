"""`skerry device why`: every reason in one place; the exit code says if somebody has to look."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from fleet.api import device_why
from fleet.api import rollouts as rollouts_of_api
from fleet.clock import written
from fleet.identity.places import Home
from fleet.sentences import REASONS
from fleet.store import alerts, arrivals
from fleet.store.engine import Store
from fleet.whys import QUIET
from tests.fleet.centre import parties
from tests.fleet.centre.parties import NOW
from tests.fleet.screens.conftest import Village
from tests.fleet.screens.quay import AWAY, FLEET, HERE, Quay, quay_of
from tests.fleet.screens.test_rollout_screens import same
from tests.fleet.screens.test_screens import golden, rows
from tests.page.alarms import AWAY as CUT
from tests.page.alarms import GOLDEN, opened

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
FAILING = ("device", "why", "porto-cam-07")
HEAD = "ROLLOUT  r-aaaaaaaaaaaaaaaa (running), digits 1.0.0 -> 1.1.0:"
DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
async def quay(home: Home, store: Store, tmp_path: Path) -> AsyncIterator[Quay]:
    async with quay_of(home, store, tmp_path) as served:
        yield served


async def said(quay: Quay, device: str) -> Any:  # noqa: ANN401  # JSON
    ended = await quay.people.skerry("device", "why", device, "-o", "json")
    assert "" == ended.err
    return json.loads(ended.out)


async def lines(quay: Quay, device: str, rollout: str) -> list[str]:
    """Return what a pipe gets, a line a reason, without the heading."""
    ended = await quay.people.skerry("device", "why", device)
    assert "" == ended.err
    return same(ended.out, rollout).splitlines()[1:]


def alarmed(store: Store) -> None:
    """Let it be part of one alert and not of the other, and have told in which trace it refused."""
    event = v1.Event(
        fleet="north-sea",
        device="d-4",
        ledger="l-1",
        number=2,
        kind=v1.EventKind.PHASE,
        at=written(NOW),
        deployment="digits",
        revision=3,
        phase=Phase.REFUSED,
        reason=Reason.GOLDEN_MISMATCH,
        trace_id=TRACE,
    )
    with store.write() as connection:
        alerts.put(connection, opened("a-golden", GOLDEN, 1))
        alerts.put(connection, opened("a-away", CUT, 2))
        arrivals.commit(connection, [event], now=written(NOW))


@pytest.mark.parametrize("columns", [60, 80, 92])
async def test_all_that_is_wrong_is_on_one_screen(village: Village, columns: int) -> None:
    """State, what is wanted and serves, alert, last transition and trace; no row wraps."""
    alarmed(village.store)
    shown = rows(await village.screen(*FAILING, columns=columns, code=1))

    assert all(len(row) <= columns for row in shown)
    if columns == 92:
        text = "\n".join(shown) + "\n"
        assert golden("device-why.txt", text) == text
        assert f"$ skerry {' '.join(FAILING)}\n{text}```" in (DOCS / "health.md").read_text()


async def test_json_is_what_it_was(village: Village) -> None:
    """A script that reads it today reads it tomorrow; the exit code is the same."""
    alarmed(village.store)
    ended = await village.skerry(*FAILING, "-o", "json")

    assert (1, "") == (ended.code, ended.err)
    assert "skerry.device.why/1" == json.loads(ended.out)["schema"]
    assert golden("skerry.device.why.json", ended.out) == ended.out


@pytest.mark.parametrize(
    ("device", "code", "told"),
    [
        ("porto-cam-01", 0, "WANT     digits: digits 1.4.0 (revision 3) is wanted, and serves."),
        ("porto-cam-08", 1, "WHY      digits: Of its last 400 requests, 40 failed. (ERRORS_HIGH)"),
        ("lerwick-2", 0, "digits 1.4.0 serves; revision 3 is fetching. (ON_THE_WAY)"),
        ("lerwick-3", 0, "Next     Ask them to release it on the device."),
        ("lerwick-4", 1, "WHY      offline 3 d 4 h; was ok; holds digits 1.4.0"),
        ("lerwick-5", 1, "Next     Start its agent: skerry-agent run."),
        ("nobody", 3, ""),
    ],
)
async def test_the_exit_code_says_if_a_person_has_to_look(
    village: Village, device: str, code: int, told: str
) -> None:
    """What nobody has heard of is not well; what is on its way, or held by somebody, is."""
    ended = await village.skerry("device", "why", device)

    assert code == ended.code
    assert told in ended.out
    assert bool(ended.err) == (code == 3)


async def test_what_it_waits_for_in_a_rollout_is_said_with_it(quay: Quay) -> None:
    """The wave before its own, and what that one waits for, by the gate's own reason."""
    await quay.serve_all()
    rollout = await quay.start("1.1.0", "--soak", "90")
    asked = await lines(quay, "d-1", rollout)
    later = await lines(quay, "d-2", rollout)
    await quay.say("d-1", "d-4")
    soaking = await said(quay, "d-2")

    assert f"{HEAD} asked in wave 1 of 3, which is running." == asked[3]
    assert "(NO_WORD_YET)" in asked[4]
    assert f"TRACE    {TRACE}" == asked[-1]
    assert later[2:] == [
        f"{HEAD} planned in wave 2 of 3, which is waiting.",
        "         It is in wave 2, and waits until wave 1 has passed. (WAITS_FOR_WAVE)",
        "         Wave 1 waits for 2 on the way: name-d-1, name-d-4. (TARGETS_UNDER_WAY)",
        "Next     Wait. For one of them: skerry rollout why ID DEVICE.",
        f"TRACE    {TRACE}",
    ]
    (entry,) = soaking["rollouts"]
    assert (2, 3, "waiting") == (entry["wave"], entry["wave_count"], entry["wave_state"])
    assert ["WAITS_FOR_WAVE"] == [each["code"] for each in entry["because"]]
    assert ["SOAKING"] == [each["code"] for each in entry["waits_for"]]


async def test_a_class_waits_for_its_first_one(quay: Quay) -> None:
    """A device that is asked only when another one of its class has committed says so."""
    rollout = await quay.start("1.0.0")
    held = {
        device: [each["code"] for each in (await said(quay, device))["rollouts"][0]["because"]]
        for device in HERE
    }
    of_the_api = {
        device: [
            each["code"]
            for each in (await quay.ask(f"/why?target={device}", of=rollout))["because"]
        ]
        for device in HERE
    }

    assert of_the_api == held
    assert {"NO_WORD_YET", "WAITS_FOR_WAVE"} <= {code for codes in held.values() for code in codes}


async def test_who_is_set_aside_says_what_keeps_it(quay: Quay) -> None:
    """Away, held and before its window: each is said, with what to do, and is no failure."""
    await quay.serve_all()
    await quay.start("1.1.0", "--policy", "all-at-once")
    parties.say(quay.served.store, FLEET, "d-1", phase=Phase.ACCEPTED, hold="lens is off")
    await quay.say(
        "d-2",
        phase=Phase.ACCEPTED,
        reason=Reason.DOWNLOAD_WINDOW_CLOSED,
        numbers={"opens": "22:00 UTC"},
    )
    found = {device: await said(quay, device) for device in ("d-1", "d-2", AWAY)}
    aside = {name: each["rollouts"][0]["set_aside"] for name, each in found.items()}
    standing = {
        name: [each["code"] for one in each["deployments"] for each in one["because"]]
        for name, each in found.items()
    }

    assert {"d-1": "held", "d-2": "window", AWAY: "offline"} == aside
    assert ["HELD_BY_OWNER"] == standing["d-1"]
    assert ["DOWNLOAD_WINDOW_CLOSED"] == standing["d-2"]
    assert "unknown" == found[AWAY]["state"]["word"]
    assert "AWAY" == found[AWAY]["rollouts"][0]["because"][0]["code"]


async def test_a_rollout_that_left_it_out_says_why(quay: Quay) -> None:
    """It is open, and the device asks what it has to do with it: nothing, and for which reason."""
    parties.add_devices(quay.served.store, ["d-9"], {})
    parties.come(quay.served.store, FLEET, "d-9", known={})
    rollout = await quay.start("1.0.0")
    (entry,) = (await said(quay, "d-9"))["rollouts"]
    shown = await lines(quay, "d-9", rollout)

    assert entry["wave"] is None
    assert entry["target_state"] is None
    assert any("digits 1.0.0: it is left out." in line for line in shown)
    assert any(f"({entry['because'][0]['code']})" in line for line in shown)


async def test_what_is_over_is_not_told(quay: Quay) -> None:
    """A rollout that has ended decides nothing; one that still waits for somebody is open."""
    await quay.start("1.0.0", "--policy", "all-at-once", to="skerry/device=d-1")
    before = await said(quay, "d-1")
    other = await said(quay, "d-2")
    await quay.say("d-1")
    after = await said(quay, "d-1")

    assert ["asked"] == [each["target_state"] for each in before["rollouts"]]
    assert [] == other["rollouts"]
    assert [] == after["rollouts"]
    assert [True] == [each["as_wanted"] for each in after["deployments"]]


async def test_who_was_overtaken_is_told_by_which_rollout(quay: Quay) -> None:
    """An older one is open for another's sake; what it says here is what `rollout why` says."""
    older = await quay.start("1.0.0", "--policy", "all-at-once")
    await quay.say(*HERE)
    newer = await quay.start("1.1.0", "--policy", "all-at-once", to="skerry/device=d-1")
    first, second = (await said(quay, "d-1"))["rollouts"]
    (other,) = (await said(quay, "d-2"))["rollouts"]
    for entry, device, rollout in (
        (first, "d-1", newer),
        (second, "d-1", older),
        (other, "d-2", older),
    ):
        alone = await quay.ask(f"/why?target={device}", of=rollout)
        assert alone == {name: entry[name] for name in alone}

    assert ["OVERTAKEN_HERE"] == [each["code"] for each in second["because"]]
    assert newer in second["because"][0]["next"]
    assert ["SERVES_IT"] == [each["code"] for each in other["because"]]


async def test_of_many_rollouts_the_newest_are_told(quay: Quay) -> None:
    """Each of eleven names has one under way here: ten are told, and that there are more."""
    for number in range(11):
        words = ("--policy", "all-at-once", "--as", f"digits-{number:02}")
        await quay.start("1.0.0", *words, to="skerry/device=d-1")
    found = await said(quay, "d-1")

    assert [f"digits-{n:02}" for n in range(10, 0, -1)] == [
        each["deployment"] for each in found["rollouts"]
    ]
    assert found["more_rollouts"]
    ended = await quay.people.skerry("device", "why", "d-1")
    assert "And older rollouts that are open: skerry rollout ls." in ended.out


async def test_who_has_a_name_twice_is_asked_which(quay: Quay) -> None:
    """As every command about one device does."""
    with quay.served.store.write() as connection:
        connection.exec_driver_sql("UPDATE devices SET name = 'twin' WHERE id IN ('d-1', 'd-2')")
    ended = await quay.people.skerry("device", "why", "twin")

    assert ("", 6) == (ended.out, ended.code)
    assert 3 == len(ended.err.splitlines())


async def test_large_rollouts_are_not_all_read(quay: Quay, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest is told however large it is; that there are more is said."""
    for name in ("digits-a", "digits-b"):
        words = ("--policy", "all-at-once", "--as", name)
        await quay.start("1.0.0", *words, to="skerry/device=d-1")
    monkeypatch.setattr(rollouts_of_api, "_OF_TARGET_READ", 1)
    found = await said(quay, "d-1")

    assert ["digits-b"] == [each["deployment"] for each in found["rollouts"]]
    assert found["more_rollouts"]


async def test_what_took_long_is_kept_and_what_is_quick_is_of_now(
    quay: Quay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages look again whenever something moves: a large rollout is not read for each of them."""
    await quay.serve_all()
    quick = await said(quay, "d-1")
    quay.tide.rise(7)
    anew = await said(quay, "d-1")
    monkeypatch.setattr(device_why, "_LONG_S", 0.0)
    monkeypatch.setattr(device_why, "_REST", 1e6)
    long = await said(quay, "d-1")
    quay.tide.rise(7)
    kept, other = await said(quay, "d-1"), await said(quay, "d-2")

    assert quick["as_of"] < anew["as_of"]
    assert long == kept
    assert kept["as_of"] < other["as_of"]


def test_what_is_no_next_step_is_one_that_somebody_says() -> None:
    """A sentence that is written anew is not left standing here."""
    assert QUIET - {""} <= {each.next_step for each in REASONS.values()}
