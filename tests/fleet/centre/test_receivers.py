"""Receivers are told all, once each, whatever they answer, and none waits for another."""

import asyncio
import datetime as dt
import email
import email.policy
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from fleet import clock
from fleet.alerts.messages import message
from fleet.identity.places import Home
from fleet.ports import BrokerError
from fleet.receivers import delivery, ways
from fleet.receivers.configured import Mail, ReceiverError, parse, read, secret
from fleet.receivers.delivery import Delivery, Shown
from fleet.receivers.mail import Line, mail
from fleet.store.engine import Store
from fleet.store.errors import NotFoundError
from tests.fleet.centre.listeners import SECRET, hook, post
from tests.fleet.centre.outlook import Outlook
from tests.fleet.centre.test_centre_process import free_port

WAIT_S = 20.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is tried again be tried again soon."""
    monkeypatch.setattr(delivery, "FIRST_S", 0.05)
    monkeypatch.setattr(delivery, "LOOK_S", 0.05)
    monkeypatch.setattr(ways, "LIMIT_S", 1.0)


@pytest.fixture
def outlook(store: Store) -> Outlook:
    made = Outlook(store)
    made.settle(lerwick=4, porto=4)
    made.feel(*made.sessions)
    made.look()
    return made


@pytest.fixture
def file(tmp_path: Path) -> Path:
    key = tmp_path / "key"
    key.write_bytes(SECRET + b"\n")
    key.chmod(0o600)
    return tmp_path / "receivers.toml"


def write(file: Path, text: str) -> None:
    """Let a person write who is to be told."""
    file.write_text(text)


def webhook(name: str, url: str, more: str = "") -> str:
    return f'[receiver.{name}]\nkind = "webhook"\nurl = "{url}"\nsecret_file = "key"\n{more}\n'


@asynccontextmanager
async def telling(
    outlook: Outlook,
    file: Path,
    broken: str | Exception = "",
    told_at: Callable[[], dt.datetime] | None = None,
) -> AsyncIterator[tuple[Delivery, list[tuple[str, bytes]]]]:
    """Tell whoever the file names until the block ends; `broken`: why the broker takes nothing."""
    published: list[tuple[str, bytes]] = []

    async def publish(topic: str, payload: bytes) -> None:
        if isinstance(broken, Exception):
            raise broken
        if broken:
            raise BrokerError(broken)
        published.append((topic, payload))

    made = Delivery(
        fleet="north-sea",
        store=outlook.store,
        clock=told_at or (lambda: outlook.now),
        file=file,
        publish=publish,
    )
    task = asyncio.get_running_loop().create_task(made.run())
    try:
        yield made, published
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(claim: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(WAIT_S):
        while not claim():  # noqa: ASYNC110  # nothing says when a server was told
            await asyncio.sleep(0.02)


async def standing(made: Delivery, name: str) -> Shown:
    found = await asyncio.to_thread(made.receivers)
    return next(each for each in found.shown if each.receiver.name == name)


async def looked(made: Delivery) -> None:
    """Let everybody be told what there is to tell now."""
    made.wake()
    news = made._news
    await until(
        lambda: not made._busy and all(each.news >= news for each in made._standing.values())
    )


async def written_down(made: Delivery, name: str) -> None:
    """Wait until what a receiver has taken is kept: before that, it may be told twice."""
    async with asyncio.timeout(WAIT_S):
        while (await standing(made, name)).waiting:  # noqa: ASYNC110  # nothing says when
            await asyncio.sleep(0.02)


def fail(outlook: Outlook) -> None:
    """Let a bundle miss its golden vectors, and be seen."""
    outlook.refuse("d-1", "d-2")
    outlook.look()


def mend(outlook: Outlook) -> None:
    """Let all be well again, and for long enough."""
    outlook.refuse("d-1", "d-2", reason=None)
    outlook.look()
    outlook.all_speak(300)
    outlook.look()


async def test_a_webhook_is_told_each_news_once_and_can_prove_it(
    outlook: Outlook, file: Path
) -> None:
    """Opened and cleared, each signed over its exact bytes, time and id; nothing in between."""
    async with hook() as ours, telling(outlook, file) as (made, _):
        write(file, webhook("ops", ours.url))
        fail(outlook)
        made.wake()
        await until(lambda: ours.news == ["opened"])
        for _ in range(3):
            outlook.look(5)
            await looked(made)
        mend(outlook)
        made.wake()
        await until(lambda: len(ours.news) > 1)
        await looked(made)

    assert ["opened", "cleared"] == ours.news
    first = ours.took[0]
    assert ("skerry.alert-news/1", "north-sea") == (first["schema"], first["fleet"])
    assert ("SkerryGoldenFailing", 2) == (first["alert"]["rule"], first["alert"]["devices"])
    assert "Golden vectors are missed: digits 1.4.0, on 2 devices." == first["alert"]["title"]
    assert [True, False] == [told["alert"]["open"] for told in ours.took]
    assert 2 == ours.asked == len(set(ours.ids))


async def test_what_is_not_taken_is_told_again_with_the_same_id(
    outlook: Outlook, file: Path
) -> None:
    """Until it is; meanwhile its failure is shown, and afterwards no more."""
    async with hook(always=500) as ours, telling(outlook, file) as (made, _):
        write(file, webhook("ops", ours.url))
        fail(outlook)
        await until(lambda: ours.asked >= 3)
        shown = await standing(made, "ops")
        assert ["ops"] == made.failing()
        assert ("it answered 500", 1) == (shown.standing.error, shown.waiting)
        ours.always = None
        await until(lambda: ours.news == ["opened"])
        await until(lambda: made.failing() == [])
        assert 0 == (await standing(made, "ops")).waiting


async def test_nobody_waits_for_another(outlook: Outlook, file: Path) -> None:
    """One hangs, one errs, one redirects, one is not there: the last is told at once."""
    async with (
        hook(always=0) as hangs,
        hook(always=500) as errs,
        hook() as elsewhere,
        hook(always=302, location=elsewhere.url) as redirects,
        post(hangs=True) as mute,
        hook() as good,
        telling(outlook, file, "the broker refused it") as (made, _),
    ):
        write(
            file,
            webhook("a-hangs", hangs.url)
            + webhook("b-errs", errs.url)
            + webhook("c-redirects", redirects.url)
            + webhook("d-nowhere", f"http://127.0.0.1:{free_port()}/")
            + '[receiver.e-mqtt]\nkind = "mqtt"\n'
            + '[receiver.f-mute]\nkind = "mail"\nhost = "127.0.0.1"\nsecurity = "none"\n'
            + f'port = {mute.port}\nfrom = "a@b.example"\nto = "c@d.example"\n'
            + webhook("z-good", good.url),
        )
        fail(outlook)
        await until(lambda: good.news == ["opened"])
        await until(lambda: len(made.failing()) == 6)
        errors = {
            each.receiver.name: each.standing.error
            for each in (await asyncio.to_thread(made.receivers)).shown
        }

    assert "it did not answer within 1 s" == errors["a-hangs"]
    assert "it answered 302: give the address that it leads to" == errors["c-redirects"]
    assert "it can't be reached" in errors["d-nowhere"]
    assert "the broker refused it" == errors["e-mqtt"]
    assert 0 == elsewhere.asked
    assert ["opened"] == good.news


async def test_an_alertmanager_that_hangs_or_is_not_there_holds_up_nobody(
    outlook: Outlook, file: Path
) -> None:
    """It is told when it is back, of what is open then; the others are told at once."""
    async with hook(always=0) as hangs, hook() as good, telling(outlook, file) as (made, _):
        away = free_port()
        write(
            file,
            f'[receiver.a-hangs]\nkind = "alertmanager"\nurl = "http://127.0.0.1:{hangs.port}"\n'
            f'[receiver.b-away]\nkind = "alertmanager"\nurl = "http://127.0.0.1:{away}"\n'
            + webhook("z-good", good.url),
        )
        fail(outlook)
        made.wake()
        await until(lambda: good.news == ["opened"])
        await until(lambda: made.failing() == ["a-hangs", "b-away"])
        hangs.always = 200
        await until(lambda: made.failing() == ["b-away"])
        errors = [(await standing(made, name)).standing.error for name in ("a-hangs", "b-away")]

    assert "" == errors[0]
    assert "it can't be reached" in errors[1]


async def test_a_restart_loses_nothing_and_repeats_nothing(outlook: Outlook, file: Path) -> None:
    """What was taken stays taken; what happened while nobody could tell is told."""
    async with hook() as ours:
        write(file, webhook("ops", ours.url))
        fail(outlook)
        async with telling(outlook, file) as (made, _):
            await until(lambda: ours.news == ["opened"])
            await written_down(made, "ops")
        outlook.feel("d-3", restarts=9)
        outlook.look()
        async with telling(outlook, file):
            await until(lambda: len(ours.news) > 1)

    assert ["SkerryGoldenFailing", "SkerryCrashLoop"] == [t["alert"]["rule"] for t in ours.took]


async def test_who_was_away_is_told_how_things_are(outlook: Outlook, file: Path) -> None:
    """An alert that came and went meanwhile is one message; what a new one missed, none."""
    async with hook() as old, hook() as new:
        write(file, webhook("old", old.url))
        async with telling(outlook, file) as (made, _):
            await until(lambda: bool(made._standing))
        fail(outlook)
        mend(outlook)
        outlook.feel("d-3", restarts=9)
        outlook.look()
        write(file, webhook("old", old.url) + webhook("new", new.url))
        async with telling(outlook, file):
            await until(lambda: len(old.news) > 1 and bool(new.news))

    assert ["cleared", "opened"] == old.news
    assert ["SkerryCrashLoop"] == [told["alert"]["rule"] for told in new.took]


async def test_silenced_and_acknowledged_alerts_are_kept_quiet(
    outlook: Outlook, file: Path
) -> None:
    """A silence keeps back what opens until it ends; an acknowledgement only that it grows."""
    async with hook() as ours, telling(outlook, file) as (made, _):
        write(file, webhook("ops", ours.url))
        quiet = outlook.lookout.silence(
            rule=None, site=None, bundle="digits", for_s=3600, actor="anna", reason="I know"
        )
        outlook.refuse("d-1")
        outlook.look()
        outlook.feel("d-3", disk_free_bytes=1, disk_total_bytes=1 << 40)
        outlook.look()
        outlook.look(60)
        made.wake()
        await until(lambda: len(ours.took) == 1)
        assert "SkerryDiskFilling" == ours.took[0]["alert"]["rule"]
        outlook.lookout.end_silence(quiet.id, actor="anna", reason="done")
        made.wake()
        await until(lambda: len(ours.took) == 2)
        golden = ours.took[1]["alert"]["id"]
        outlook.lookout.ack(golden, actor="anna", reason="on it")
        outlook.refuse("d-2", "d-4")
        outlook.look(61)
        (alert,) = [each for each in outlook.kept() if each.id == golden]
        assert "grew" == str(alert.news)
        await looked(made)
        outlook.refuse("d-1", "d-2", "d-4", reason=None)
        outlook.look()
        outlook.all_speak(300)
        outlook.look()
        made.wake()
        await until(lambda: "cleared" in ours.news)

    assert "grew" not in ours.news


async def test_least_is_the_least_that_a_receiver_hears(outlook: Outlook, file: Path) -> None:
    """A pager hears of what is critical, the log of everything."""
    async with hook() as pager, hook() as log:
        write(file, webhook("pager", pager.url, 'least = "critical"') + webhook("log", log.url))
        outlook.feel("d-3", disk_free_bytes=1, disk_total_bytes=1 << 40)
        outlook.look()
        outlook.look(60)
        fail(outlook)
        async with telling(outlook, file):
            await until(lambda: len(log.took) == 2 and len(pager.took) == 1)

    assert "critical" == pager.took[0]["alert"]["severity"]


async def test_a_mail_says_it_in_words(outlook: Outlook, file: Path) -> None:
    """For everybody named; who is refused is shown; a name can't end a header's line."""
    async with post(unknown={"no@ops.example"}) as ours, telling(outlook, file) as (made, _):
        text = (
            '[receiver.ops]\nkind = "mail"\nhost = "127.0.0.1"\nsecurity = "none"\n'
            f'port = {ours.port}\nfrom = "skerry@sea.example"\n'
        )
        write(file, text + 'to = ["a@ops.example", "b@ops.example"]\n')
        fail(outlook)
        await until(lambda: len(ours.letters) == 1)
        sender, to, raw = ours.letters[0]
        write(file, text + 'to = "no@ops.example"\n')
        error = await made.test("ops", actor="anna")

    letter = email.message_from_string(raw, policy=email.policy.default)
    assert ("skerry@sea.example", ["a@ops.example", "b@ops.example"]) == (sender, to)
    assert (
        "[north-sea] critical opened: Golden vectors are missed: digits 1.4.0, on 2 devices."
        == (letter["Subject"])
    )
    assert "skerry device show lerwick-1" in letter.get_content()
    assert "nobody here" in error


def mails(port: int) -> str:
    return (
        '[receiver.ops]\nkind = "mail"\nhost = "127.0.0.1"\nsecurity = "none"\n'
        f'port = {port}\nfrom = "skerry@sea.example"\nto = "a@ops.example"\n'
    )


async def test_what_a_device_says_adds_no_line_to_a_mail(outlook: Outlook) -> None:
    """Neither by words that a header decodes, nor by characters that end a line."""
    fail(outlook)
    (before,) = outlook.kept()
    evil = "digits =?utf-8?q?=0aReply-To:evil@x.y=0a=0aCall?= x\r\nBcc: evil@x.y\n\nCall\x1b[2J"
    alert = replace(before, cause=replace(before.cause, key=replace(before.key, subject=evil)))
    plain = replace(before, cause=replace(before.cause, key=replace(before.key, subject="x")))
    (ops,) = parse(mails(1), Path())
    assert isinstance(ops.way, Mail)
    letters = []
    for each in (alert, plain):
        async with post() as ours:
            told = message(each, fleet="north-sea", receiver="ops")
            way, line = replace(ops.way, port=ours.port), Line()
            sending = partial(mail, way, told, date=outlook.now, limit_s=5, line=line)
            await asyncio.to_thread(sending)
            line.cut()
        [(_, _, raw)] = ours.letters
        letters.append(email.message_from_string(raw, policy=email.policy.SMTP))

    bad, good = letters
    assert good.keys() == bad.keys()
    assert "\n" not in bad["Subject"]
    assert "\x1b" not in bad["Subject"]
    texts = [each.get_content() for each in letters]
    assert len(texts[1].splitlines()) == len(texts[0].splitlines())
    assert "\x1b" not in texts[0]


async def test_every_test_is_another_message(outlook: Outlook, file: Path) -> None:
    """A receiver that knows what it has taken takes the second one, too."""
    async with hook() as ours, telling(outlook, file) as (made, _):
        write(file, webhook("ops", ours.url))
        for _ in range(2):
            assert "" == await made.test("ops", actor="anna")

    assert 2 == len(set(ours.ids))


async def test_a_test_that_nobody_thought_of_is_said_and_no_stack_trace(
    outlook: Outlook, file: Path
) -> None:
    """Who asks for a test is told why it was not taken, whatever that was; the others go on."""
    async with hook() as good, telling(outlook, file, RuntimeError("a bug")) as (made, _):
        write(file, '[receiver.a-mqtt]\nkind = "mqtt"\n' + webhook("z-good", good.url))
        assert "it could not be told: RuntimeError('a bug')" == await made.test("a-mqtt", actor="a")
        assert "" == await made.test("z-good", actor="anna")
        with pytest.raises(NotFoundError):
            await made.test("nobody", actor="anna")
        write(file, "[receiver.x\n")
        assert "receivers.toml" in await made.test("x", actor="anna")


async def test_what_nobody_thought_of_is_one_receiver_s_failure(
    outlook: Outlook, file: Path
) -> None:
    """It is shown and tried again; others are told, and the centre goes on."""
    async with hook() as good, telling(outlook, file, RuntimeError("a bug")) as (made, _):
        write(file, '[receiver.a-mqtt]\nkind = "mqtt"\n' + webhook("z-good", good.url))
        fail(outlook)
        await until(lambda: good.news == ["opened"])
        async with asyncio.timeout(WAIT_S):
            while (await standing(made, "a-mqtt")).standing.attempts < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert "a bug" in (await standing(made, "a-mqtt")).standing.error
        assert ["a-mqtt"] == made.failing()


@pytest.mark.parametrize(
    ("greets", "why"),
    [
        (b"2", "it did not answer within 1 s"),
        (b"220-x\r\n", "it did not answer within 1 s"),
        (b"220-x\r\n" * 10_000, "it says more than 65536 bytes"),
    ],
)
async def test_a_mail_server_that_never_ends_its_answer_holds_nothing(
    outlook: Outlook, file: Path, greets: bytes, why: str
) -> None:
    """The message fails within its deadline, and the thread that waited ends."""
    async with post(greets=greets) as ours, telling(outlook, file) as (made, _):
        write(file, mails(ours.port))
        async with asyncio.timeout(10):
            assert why in await made.test("ops", actor="anna")
            await until(made._ways._mailing["ops"].done)


async def test_the_broker_carries_it(outlook: Outlook, file: Path) -> None:
    """On one topic of the centre's, the same document as a webhook gets."""
    write(file, '[receiver.site]\nkind = "mqtt"\n')
    fail(outlook)
    async with telling(outlook, file) as (_, published):
        await until(lambda: bool(published))

    (topic, payload) = published[0]
    assert "skerry/v1/north-sea/centre/alert" == topic
    assert "opened" == json.loads(payload)["news"]


@contextmanager
def alertmanager(folder: Path, secured: Home | None = None) -> Iterator[str]:
    """Run a real Alertmanager; `secured`: with the certificate of this home."""
    port = free_port()
    (folder / "am.yml").write_text("route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n")
    if secured is not None:
        files = f"{{cert_file: {secured.server}, key_file: {secured.server_key}}}"
        (folder / "web.yml").write_text(f"tls_server_config: {files}\n")
    process = subprocess.Popen(
        [
            str(shutil.which("prometheus-alertmanager")),
            f"--config.file={folder / 'am.yml'}",
            f"--storage.path={folder / 'am'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
            *([f"--web.config.file={folder / 'web.yml'}"] if secured else []),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"{'http' if secured is None else 'https'}://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


async def at(url: str, rules: set[str]) -> list[dict[str, Any]]:
    """Wait until alerts of these rules fire there and no others, and return them."""
    async with asyncio.timeout(WAIT_S), httpx.AsyncClient(trust_env=False) as client:
        while True:
            await asyncio.sleep(0.1)
            try:
                found = list((await client.get(f"{url}/api/v2/alerts")).json())
            except (httpx.HTTPError, ValueError):
                continue
            if rules == {each["labels"]["alertname"] for each in found}:
                return found


@pytest.mark.real("prometheus-alertmanager")
async def test_a_real_alertmanager_fires_and_resolves(
    outlook: Outlook, file: Path, tmp_path: Path
) -> None:
    """One alert with its labels; gone when it is over; and told again when it has forgotten."""
    # Its clock is real: to it all this was a while ago, and what is told is told now.
    outlook.now = clock.now().replace(microsecond=0) - dt.timedelta(seconds=400)
    outlook.feel(*outlook.sessions)
    outlook.look()
    with alertmanager(tmp_path) as url:
        write(file, f'[receiver.am]\nkind = "alertmanager"\nurl = "{url}"\n')
        fail(outlook)
        async with telling(outlook, file, told_at=clock.now) as (made, _):
            found = await at(url, {"SkerryGoldenFailing"})
            assert "" == await made.test("am", actor="anna")
            mend(outlook)
            made.wake()
            await at(url, {"SkerryTest"})

    labels = found[0]["labels"]
    assert {
        "alertname": "SkerryGoldenFailing",
        "severity": "critical",
        "fleet": "north-sea",
        "scope": "bundle",
        "bundle": "digits 1.4.0",
    } == labels


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("receiver = 5", "[receiver.NAME]"),
        ("[other]\n", "unknown: other"),
        ("[receiver.A]\nkind = 'mqtt'", "a name has"),
        ("[receiver.a]\nkind = 'pigeon'", "there are webhook, mail, mqtt, alertmanager"),
        ("[receiver.a]\n", "kind is wanted"),
        ("[receiver.a]\nkind = 'mqtt'\nleast = 'bad'", "there are critical, warning, info"),
        ("[receiver.a]\nkind = 'mqtt'\nsecret = 'x'", "name a file that holds it"),
        ("[receiver.a]\nkind = 'mqtt'\nfoo = 'x'", "unknown: foo"),
        ("[receiver.a]\nkind = 'webhook'\nurl = 'ftp://x'\nsecret_file = 'k'", "https://"),
        ("[receiver.a]\nkind = 'webhook'\nurl = 'http://u:p@x'\nsecret_file = 'k'", "no secret"),
        ("[receiver.a]\nkind = 'webhook'\nurl = 'http://x'", "secret_file is wanted"),
        ("[receiver.a]\nkind='webhook'\nurl='http://x'\nsecret_file='k'\nca='c'", "ca is of TLS"),
        ("[receiver.a]\nkind='alertmanager'\nurl='http://x'\nca='c'", "ca is of TLS"),
        ("[receiver.a]\nkind='alertmanager'\nurl='https://x'\nca=''", "ca is wanted, as a text"),
        ("[receiver.a]\nkind='mqtt'\nca='c'", "unknown: ca"),
        (
            "[receiver.a]\nkind='mail'\nhost='h'\nfrom='a@b'\nto='b@c'\nsecurity='none'\nca='c'",
            "ca is of TLS",
        ),
        (
            "[receiver.a]\nkind='mail'\nhost='h'\nfrom='a'\nto='b@c'",
            "from is an address",
        ),
        (
            "[receiver.a]\nkind='mail'\nhost='h'\nfrom='a@b'\nto=\"b@c\\nBcc: d@e\"",
            "to is an address",
        ),
        (
            "[receiver.a]\nkind='mail'\nhost='h'\nfrom='a@b'\nto='b@c'\nsecurity='none'\nuser='u'",
            "a password is not sent",
        ),
        ("[receiver.a]\nkind='mail'\nhost='h'\nfrom='a@b'\nto='b@c'\nport=70000", "65535"),
        *(
            (f"[receiver.a]\nkind='mail'\nhost='h'\nfrom='a@b'\nto='{to}'", "to is an address")
            for to in (
                "c@[d",
                "c@d]",
                "c@",
                "@d",
                "(c@d",
                "c.@d",
                "c@d.",
                "c:@d",
                "=?x?=@d",
                "c@d\\",
            )
        ),
        ("".join(f"[receiver.a{n}]\nkind='mqtt'\n" for n in range(21)), "at most 20"),
        ("not toml", ""),
    ],
)
def test_what_can_t_be_meant_is_refused_with_its_place(text: str, why: str) -> None:
    """Every mistake in the file is said in words, and no secret may stand in it."""
    with pytest.raises(ValueError, match=r".") as refused:
        parse(text, Path())
    assert why in str(refused.value)


def test_a_secret_is_its_owner_s_alone(tmp_path: Path) -> None:
    """One that others can read, that is empty, too long or not there is none."""
    key = tmp_path / "key"
    with pytest.raises(ReceiverError):
        secret(key)
    for content, mode in ((b"x", 0o644), (b" \n", 0o600), (b"x" * 5000, 0o600)):
        key.write_bytes(content)
        key.chmod(mode)
        with pytest.raises(ReceiverError):
            secret(key)
    key.write_bytes(b"good\n")
    assert b"good" == secret(key)


async def test_a_file_that_can_t_be_read_is_shown_and_changes_nothing(
    outlook: Outlook, file: Path
) -> None:
    """Whoever was told before is told on, until somebody has mended it."""
    async with hook() as ours, telling(outlook, file) as (made, _):
        write(file, webhook("ops", ours.url))
        await until(lambda: bool(made._standing))
        write(file, "[receiver.ops\n")
        fail(outlook)
        made.wake()
        await until(lambda: ours.news == ["opened"])
        found = await asyncio.to_thread(made.receivers)

    assert "receivers.toml" in found.error
    assert ["receivers.toml"] == made.failing()
    assert () == read(file.with_name("nothing.toml"))


async def test_a_socket_that_answers_nonsense_is_a_failure(outlook: Outlook, file: Path) -> None:
    """Whatever listens there: it is shown, and ends nothing."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        write(file, webhook("ops", f"http://127.0.0.1:{closed.getsockname()[1]}/"))
        async with telling(outlook, file) as (made, _):
            assert "can't be reached" in await made.test("ops", actor="anna")
