"""Alerts on the page: what is wrong is seen first, said once, and a person can say a word on it."""

from dataclasses import replace
from html import unescape

import httpx2 as httpx
import pytest

from agent.wire import v1
from agent.wire.reasons import Reason
from fleet.alerts.cause import Cause, Key, Scope
from fleet.clock import written
from fleet.store import alerts, audit
from fleet.store.engine import Store
from tests.fleet.centre.served import Served
from tests.fleet.deciding.paper import NOW
from tests.fleet.screens.village import VILLAGE, settle
from tests.page.alarms import HEAT, OPEN, opened, over
from tests.page.conftest import Visit
from tests.page.scene import fill


async def read(person: httpx.AsyncClient, path: str) -> str:
    answer = await person.get(path)
    assert 200 == answer.status_code, answer.text
    return unescape(answer.text)


def rows(text: str) -> list[str]:
    """Return the alerts of a list, as they stand."""
    return [part.partition('"')[0] for part in text.split('<tr id="')[1:]]


def needs(text: str) -> str:
    return text.partition('id="needs"')[2].partition("</section>")[0]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/alerts", ["a-golden", "a-undecided", "a-heat", "a-away"]),
        ("/alerts?state=ended", ["a-over"]),
        ("/alerts?state=all&site=bergen", ["a-heat", "a-over"]),
        ("/alerts?rule=SkerryDevicesAway", ["a-away"]),
        ("/alerts?rule=SkerryNothing", []),
    ],
)
async def test_a_list_of_alerts_is_its_address(
    person: httpx.AsyncClient, path: str, expected: list[str]
) -> None:
    """Those that are open by default, the most severe first, then the latest news."""
    assert expected == rows(await read(person, path))


async def test_a_row_says_what_and_where_and_who_is_on_it(person: httpx.AsyncClient) -> None:
    """In words, with the mark of its severity; and what is kept quiet, until when."""
    text = await read(person, "/alerts")
    row = {name: text.partition(f'<tr id="{name}"')[2].partition("</tr>")[0] for name in OPEN}

    assert '#m-failing"/></svg><span>critical' in row["a-golden"]
    assert "Golden vectors are missed: digits 1.5.0, on porto-cam-07." in row["a-golden"]
    assert "1 of 22" in row["a-golden"]
    assert "operator is on it: <q>driving</q>" in row["a-away"]
    assert "silenced, ends" in row["a-heat"]
    assert "1 silence holds" in text


async def test_those_that_are_over_come_a_page_at_a_time(
    person: httpx.AsyncClient, store: Store
) -> None:
    """By a cursor: none twice, none left out."""
    with store.write() as connection:
        for number in range(150):
            alerts.put(connection, over(f"a-{number:03}", HEAT, 1000 + number))
    first = await read(person, "/alerts?state=ended")
    onward = first.partition('">Older</a>')[0].rpartition('href="')[2]
    second = await read(person, onward)
    found = [*rows(first), *rows(second)]

    assert (100, 51) == (len(rows(first)), len(rows(second)))
    assert 151 == len(set(found))
    assert ">Older</a>" not in second


async def test_who_is_not_told_is_said_on_top(person: httpx.AsyncClient, served: Served) -> None:
    """A file of receivers that can't be read: nobody hears of alerts."""
    assert "Receivers that fail" not in await read(person, "/alerts")
    served.home.receivers.write_text("[[")
    served.alerting.delivery.receivers()
    text = await read(person, "/alerts")

    assert "Alerts are not taken by receivers.toml" in text
    assert text.index("Receivers that fail") < text.index('role="search"')


async def test_an_alert_says_why_who_what_happened_and_what_to_do(
    person: httpx.AsyncClient,
) -> None:
    """Each of its devices is a link, and all of them are one; the command says the same."""
    golden = await read(person, "/alerts/a-golden")
    away = await read(person, "/alerts/a-away")
    ended = await read(person, "/alerts/a-over")

    assert '<a href="/devices/porto-cam-07">porto-cam-07</a>' in golden
    assert "GOLDEN_MISMATCH" in golden
    assert "skerry alert show a-golden" in golden
    assert "opened" in golden.partition("What happened")[2]
    assert "6 more" in away
    assert '/devices?field=alert%3DSkerryDevicesAway%2Csite%3Dlerwick"' in away
    assert "Check their power and their network." in away
    assert "cleared" in ended
    assert "Acknowledge" not in ended
    assert 404 == (await person.get("/alerts/a-none")).status_code
    assert 422 == (await person.get("/alerts?state=some")).status_code


async def test_a_person_says_that_they_are_on_it(person: httpx.AsyncClient, store: Store) -> None:
    """It is audited, and stands on the page and in the list."""
    answer = await person.post("/alerts/a-golden/ack", data={"reason": " on my way "})
    with store.read() as connection:
        kept = alerts.named(connection, "a-golden")
        (told,) = audit.latest(connection, limit=10, about="a-golden")

    assert (303, "/alerts/a-golden") == (answer.status_code, answer.headers["location"])
    assert kept.ack is not None
    assert ("operator", "on my way") == (kept.ack.by, kept.ack.reason)
    assert ("alert.ack", "on my way") == (told.action, told.reason)
    assert "operator is on it: <q>on my way</q>" in await read(person, "/alerts/a-golden")


@pytest.mark.parametrize(
    ("alert", "rule", "site", "bundle"),
    [
        ("a-golden", "SkerryGoldenFailing", None, "digits:1.5.0"),
        ("a-away", "SkerryDevicesAway", "lerwick", None),
        ("a-undecided", "SkerryRolloutInconclusive", None, None),
    ],
)
async def test_a_silence_is_of_the_alert_it_was_asked_for(
    person: httpx.AsyncClient, store: Store, *, alert: str, rule: str, site: str, bundle: str
) -> None:
    """Its rule at its place, with an end; the page says which, and that it holds."""
    form = {"for_s": "14400", "reason": "known"}
    answer = await person.post(f"/alerts/{alert}/silence", data=form)
    with store.read() as connection:
        holding = alerts.silences_after(connection, "")
    (made,) = [each for each in holding if each.id != "q-1"]

    assert 303 == answer.status_code
    assert (rule, site, bundle, "known") == (made.rule, made.site, made.bundle, made.reason)
    assert "2026-03-01T16:00:00" == made.until[:19]
    assert "nobody is told of it: silenced, ends" in await read(person, f"/alerts/{alert}")


@pytest.mark.parametrize(
    ("path", "form", "status", "told"),
    [
        ("a-over/ack", {}, 409, "a-over is over"),
        ("a-golden/ack", {"reason": "x" * 1001}, 422, "reason"),
        ("a-none/ack", {}, 404, "no alert 'a-none'"),
        ("a-golden/silence", {"reason": "known"}, 422, "for_s"),
        ("a-golden/silence", {"for_s": "59", "reason": "known"}, 422, "for_s"),
        ("a-golden/silence", {"for_s": "9999999", "reason": "known"}, 422, "for_s"),
        ("a-golden/silence", {"for_s": "3600", "reason": "  "}, 422, "reason"),
        ("a-none/silence", {"for_s": "3600", "reason": "known"}, 404, "no alert 'a-none'"),
    ],
)
async def test_a_word_that_can_not_be_taken_changes_nothing(
    person: httpx.AsyncClient,
    store: Store,
    *,
    path: str,
    form: dict[str, str],
    status: int,
    told: str,
) -> None:
    """It says why, where it was asked."""
    answer = await person.post(f"/alerts/{path}", data=form)
    with store.read() as connection:
        holding = alerts.silences_after(connection, "")
        kept = alerts.named(connection, "a-golden")
        said = audit.latest(connection, limit=10)

    assert status == answer.status_code
    assert told in unescape(answer.text)
    assert (["q-1"], None) == ([each.id for each in holding], kept.ack)
    assert [] == [each for each in said if each.action.startswith("alert.")]


async def test_a_silence_ends_where_it_is_listed(person: httpx.AsyncClient, store: Store) -> None:
    """By a form, audited with its reason; the alert is told again from then on."""
    before = await read(person, "/alerts")
    answer = await person.post("/alerts/silences/q-1/end", data={"reason": " the fan is here "})
    with store.read() as connection:
        (told,) = audit.latest(connection, limit=10, about="q-1")
    after = await read(person, "/alerts")

    assert "SkerryThrottling, site bergen" in before
    assert "by operator: <q>the fan is on its way</q>" in before
    assert "skerry alert silence --end q-1 --reason WHY" in before
    assert (303, "/alerts#silences") == (answer.status_code, answer.headers["location"])
    assert ("alert.silence.end", "operator", "the fan is here") == (
        told.action,
        told.actor,
        told.reason,
    )
    assert 'id="silences"' not in after
    assert "silenced, ends" not in after


@pytest.mark.parametrize(
    ("silence", "form", "status", "told"),
    [
        ("q-none", {}, 404, "no silence 'q-none'"),
        ("q-1", {"reason": "x" * 1001}, 422, "reason"),
    ],
)
async def test_a_silence_that_can_not_be_ended_says_why(
    person: httpx.AsyncClient,
    store: Store,
    *,
    silence: str,
    form: dict[str, str],
    status: int,
    told: str,
) -> None:
    """On the page where it was asked, with the others still there; nothing is changed."""
    answer = await person.post(f"/alerts/silences/{silence}/end", data=form)
    with store.read() as connection:
        holding = alerts.silences_after(connection, written(NOW))
        said = audit.latest(connection, limit=10)
    text = unescape(answer.text).partition('id="silences"')[2]

    assert status == answer.status_code
    assert told in text
    assert "SkerryThrottling, site bergen" in text
    assert ["q-1"] == [each.id for each in holding]
    assert [] == [each for each in said if each.action.startswith("alert.")]


async def test_of_many_silences_the_first_to_end_are_listed(
    person: httpx.AsyncClient, store: Store
) -> None:
    """Fifty, and how many there are beyond them."""
    with store.write() as connection:
        (one,) = alerts.silences_after(connection, "")
        for number in range(2, 61):
            until = f"2026-03-02T00:{number:02}:00Z" if number < 60 else "2026-03-03T00:00:00Z"
            alerts.silence(connection, replace(one, id=f"q-{number}", until=until))
    text = await read(person, "/alerts")

    assert "60 silences hold" in text
    assert [f"q-{number}" for number in range(1, 51)] == [
        part.partition('"')[0] for part in text.split('<li id="')[1:] if part.startswith("q-")
    ]
    assert "and 10 that end later" in text


@pytest.mark.real("chromium")
@pytest.mark.parametrize("script", [True, False])
async def test_a_silence_is_ended_by_keys_alone(
    visit: Visit, store: Store, *, script: bool
) -> None:
    """From the list to the button, with a script and without one."""
    fill(store)
    async with visit.page("/alerts", script=script) as page:
        await page.focus("#say-q-1 summary")
        await page.keyboard.press("Enter")
        await page.keyboard.press("Tab")
        await page.keyboard.type("it is here")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await page.wait_for_url("**/alerts#silences")
        left = await page.locator("#silences").count()
    with store.read() as connection:
        (told,) = audit.latest(connection, limit=10, about="q-1")

    assert ("alert.silence.end", "it is here") == (told.action, told.reason)
    assert 0 == left
    assert [] == visit.said


async def test_the_overview_begins_with_alerts_and_says_no_trouble_twice(
    person: httpx.AsyncClient,
) -> None:
    """A device and a rollout that an alert speaks of are not said again; others are."""
    told = needs(await read(person, "/"))

    assert '<a href="/alerts"><span class="num">4</span> open alerts</a>' in told
    assert told.index("a-golden") < told.index("a-undecided") < told.index("porto-cam-08")
    assert 'href="/rollouts/r-39"' not in told
    assert 'href="/devices/porto-cam-07"' not in told


async def test_what_no_alert_says_is_shown_however_much_they_say(
    person: httpx.AsyncClient, store: Store
) -> None:
    """Seven devices that are worse, each with its alert: the next one that needs you is there."""
    worse = [
        replace(VILLAGE[3], name=f"bad-{number}", error=v1.Problem(reason=reason))
        for number, reason in enumerate(list(Reason)[:7])
    ]
    settle(store, tuple(worse), first=100)
    with store.write() as connection:
        for number, (each, reason) in enumerate(zip(worse, Reason, strict=False), start=10):
            cause = Cause(
                key=Key("SkerryDevicesFailing", Scope.REASON, reason),
                since=written(NOW),
                names=(each.name,),
                reason=reason,
            )
            alerts.put(connection, opened(f"a-{each.name}", cause, number))
    told = needs(await read(person, "/"))

    assert "porto-cam-08" in told
    assert 'href="/devices/bad-' not in told


async def test_the_way_to_alerts_says_how_many_are_open(
    person: httpx.AsyncClient, store: Store
) -> None:
    """On every page, in its live part too; with none open there is no number."""
    live = {"skerry-live": "1"}
    for path in ("/", "/alerts", "/devices", "/rollouts/new", "/nowhere"):
        for headers in ({}, live):
            text = (await person.get(path, headers=headers)).text
            assert '4<span class="unseen"> open</span>' in text
    with store.write() as connection:
        for number, (name, cause) in enumerate(OPEN.items(), start=100):
            alerts.put(connection, over(name, cause, number))
    text = await read(person, "/")
    assert '<span class="unseen"> open</span>' not in text
    assert "open alert" not in text
    assert 'href="/rollouts/r-39"' in needs(text)


@pytest.mark.real("chromium")
async def test_the_number_of_open_alerts_follows(visit: Visit, store: Store) -> None:
    """An alert that ends is counted no more on a page that is open, without a reload."""
    fill(store)
    async with visit.page("/devices") as page:
        assert "4 open" == " ".join((await page.inner_text("#nav .open")).split())
        with store.write() as connection:
            alerts.put(connection, over("a-golden", OPEN["a-golden"], 100))
        await page.wait_for_selector("#nav .open:has-text('3')")
        title = await page.title()

    assert title.startswith("Devices")


@pytest.mark.parametrize(
    ("device", "alerts_shown"),
    [
        ("d-7", ["a-golden"]),
        ("d-15", ["a-away"]),
        ("d-14", ["a-away"]),
        ("d-1", []),
        ("d-19", ["a-heat"]),
    ],
)
async def test_a_device_shows_the_alerts_it_is_part_of(
    person: httpx.AsyncClient, device: str, alerts_shown: list[str]
) -> None:
    """Those that name it, or that have its reason at its place; no others."""
    text = await read(person, f"/devices/{device}")
    found = [part.partition('"')[0] for part in text.split('id="alert-')[1:]]

    assert alerts_shown == found


async def test_a_device_says_how_far_it_drifts(person: httpx.AsyncClient) -> None:
    """Its level, its index and of how many requests; too few are no index, and not well."""
    far = (await read(person, "/devices/d-8")).partition('id="drift"')[2]
    few = (await read(person, "/devices/d-1")).partition('id="drift"')[2]
    none = await read(person, "/devices/d-2")

    assert '#m-failing"/></svg><span>alarm' in far
    assert "input-0-mean" in far
    assert '<td class="right num">8,412</td>' in far
    assert '#m-unknown"/></svg><span>too few' in few
    assert '<td class="right num">too few</td><td class="right num">3 of 80</td>' in few
    assert 'id="drift"' not in none
