"""A doctor asks a centre that runs, or should: how it is judged, and who is really sent."""

import datetime as dt
import fcntl
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet.checkup import centre as of_centre
from fleet.checkup import devices, store
from fleet.checkup.centre import Asked
from fleet.checkup.finding import Finding, Verdict
from fleet.identity import authority as identity
from fleet.identity.places import Home

TODAY = dt.datetime.now(dt.UTC)  # noqa: TID251  # certificates go by the clock
NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def init(path: Path) -> Home:
    identity.init(path, fleet="harbour", hosts=[], now=TODAY)
    return Home(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with keys and certificates."""
    return init(tmp_path_factory.mktemp("whole") / "home")


def test_many_certificates_are_counted_and_some_named() -> None:
    """Nobody reads four thousand names."""
    kept = store.Kept(bundles=(), devices=4000, expiring=[f"pi-{n}" for n in range(1000)])

    [told] = devices.judge(kept, None)

    assert (Verdict.WARNING, True) == (told.verdict, told.what.startswith("1,000 of 4,000 "))
    assert told.what.endswith("pi-0, pi-1, pi-2 and 997 more")


def asked(**changes: Any) -> Asked:  # noqa: ANN401  # fields of what is asked
    fields: dict[str, Any] = {
        "url": "http://c",
        "where": "",
        "took_s": 0.012,
        "now": NOW,
        "version": "1",
        "as_of": NOW,
        "connected": True,
        "devices": 2,
        "unheard": (),
        **changes,
    }
    return Asked(**fields)


def whole_store(*expiring: str) -> store.Kept:
    return store.Kept(bundles=(), devices=2, expiring=expiring)


HOUR = dt.timedelta(hours=1)


@pytest.mark.parametrize(
    ("kept", "answered", "verdicts", "said"),
    [
        (None, None, [Verdict.NOT_TRIED], "it needs the store or the centre"),
        (whole_store(), None, [Verdict.OK], "2 joined; no certificate ends within 30 d"),
        (
            whole_store(), asked(), [Verdict.OK],
            "2 joined, each was heard; no certificate ends within 30 d",
        ),
        (
            None, asked(), [Verdict.OK],
            "2 joined, each was heard; when certificates end is known beside the home only",
        ),
        (
            whole_store(), asked(unheard=[("pi-1", NOW - HOUR)]), [Verdict.OK],
            "2 joined, 1 not heard yet; no certificate ends within 30 d",
        ),
        (
            whole_store(), asked(unheard=[("pi-1", NOW - 2 * HOUR)]), [Verdict.WARNING],
            "1 of 2 joined more than an hour ago and were never heard: pi-1",
        ),
        (
            whole_store("pi-2"), asked(unheard=[("pi-1", NOW - 2 * HOUR)]), [Verdict.WARNING] * 2,
            "1 of 2 certificates have ended or end within 30 d: pi-2",
        ),
    ],
)  # fmt: skip
def test_devices_that_can_not_tell_are_told_of(
    kept: store.Kept | None, answered: Asked | None, verdicts: list[Verdict], said: str
) -> None:
    """Never heard for an hour, or with a certificate that ends: each by whoever knows it."""
    told = list(devices.judge(kept, answered))

    assert verdicts == [each.verdict for each in told]
    assert said == told[0].what


def test_a_next_step_names_the_centre_that_was_asked() -> None:
    """It can be copied as it stands."""
    words = asked(where=" --home /srv/h", unheard=[("pi-1", NOW - 2 * HOUR)])
    [told] = devices.judge(None, words)

    assert "skerry device ls --state unknown --home /srv/h;" in told.hint


@pytest.mark.parametrize(
    ("changes", "verdicts", "why"),
    [
        ({}, [Verdict.OK], ""),
        ({"version": "2"}, [Verdict.WARNING], "this program is version 1"),
        ({"now": NOW + dt.timedelta(seconds=90)}, [Verdict.WARNING], "90 s behind"),
        ({"now": NOW - dt.timedelta(seconds=90)}, [Verdict.WARNING], "90 s ahead of"),
        ({"now": NOW - 2 * HOUR, "version": "2"}, [Verdict.WARNING] * 2, "7200 s ahead of"),
        ({"now": NOW + dt.timedelta(seconds=9)}, [Verdict.OK], ""),
    ],
)
def test_a_centre_of_another_time_or_version_is_told(
    changes: dict[str, object], verdicts: list[Verdict], why: str
) -> None:
    """What it is answers either way; one does not hide the other."""
    judged = list(of_centre.centre(asked(**changes), "1"))

    assert verdicts == [each.verdict for each in judged]
    assert why in judged[0].why
    assert "answers in 12 ms" in judged[0].what


FLEET = {"as_of": "2026-03-01T12:00:00Z", "broker": {"connected": True}, "devices": 1}
UNHEARD = {"devices": [{"name": "pi-1", "joined_at": "2026-03-01T11:00:00Z"}]}
OURS = {"url": "http://c", "where": "", "took_s": 0.012, "now": NOW}


def test_a_centre_s_answers_are_read() -> None:
    """As the API's reference describes them."""
    read = Asked.read(healthy={"version": "1"}, fleet=FLEET, unheard=UNHEARD, **OURS)

    assert asked(devices=1, unheard=[("pi-1", NOW - HOUR)]) == read


@pytest.mark.parametrize(
    "odd",
    [
        {"healthy": {}},
        {"healthy": []},
        {"healthy": None},
        {"fleet": {**FLEET, "broker": None}},
        {"fleet": {**FLEET, "as_of": "today"}},
        {"fleet": {**FLEET, "as_of": "2026-03-01T12:00:00"}},
        {"fleet": {**FLEET, "as_of": 12}},
        {"fleet": {**FLEET, "devices": "many"}},
        {"unheard": {"devices": [1]}},
    ],
)
def test_who_answers_otherwise_is_no_centre(odd: dict[str, Any]) -> None:
    """One error, whatever is odd about it."""
    with pytest.raises(ValueError, match=r".+"):
        Asked.read(
            **{"healthy": {"version": "1"}, "fleet": FLEET, "unheard": UNHEARD, **OURS, **odd}
        )


def test_a_broker_is_judged_by_the_centre_and_by_a_stranger() -> None:
    """Not connected, open to strangers, shut to them, on loopback, or not known."""
    url = "mqtts://c:8884"

    def judge(where: str | None, strangers: bool | None, **changes: object) -> Finding:  # noqa: FBT001  # a test's data
        return of_centre.broker(asked(**changes), where, strangers_in=strangers)

    lost = judge(url, None, connected=False)
    assert (Verdict.WRONG, True) == (lost.verdict, "ss -ltnp 'sport = :8884'" in lost.hint)
    assert Verdict.WRONG is judge(url, True).verdict  # noqa: FBT003  # as above
    shut = judge(url, False)  # noqa: FBT003  # as above
    assert (Verdict.OK, True) == (shut.verdict, "without a certificate is refused" in shut.what)
    assert "on loopback" in judge("mqtt://127.0.0.1:1", None).what
    assert "connected" == judge(None, None).what


def test_a_centre_that_hangs_is_told_from_one_that_was_killed(tmp_path: Path) -> None:
    """By the lock on its home, which the kernel takes from whoever is gone."""
    home = Home(tmp_path)
    assert of_centre.runs(home.lock) is False
    home.lock.touch()
    with home.lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert of_centre.runs(home.lock) is True
    assert of_centre.runs(home.lock) is False

    def judge(*, running: bool, pid: int | None) -> Finding | None:
        return of_centre.unanswered(tmp_path, "UNREACHABLE: it", running=running, pid=pid)

    hangs, starts, killed = (
        judge(running=True, pid=7), judge(running=True, pid=None), judge(running=False, pid=7),
    )  # fmt: skip
    assert hangs is not None
    assert starts is not None
    assert killed is not None
    assert "kill 7; then start it: skerry up" in hangs.hint
    assert "kill" not in starts.hint
    assert "ended without a word" in killed.what
    assert judge(running=False, pid=None) is None


@pytest.fixture
def listener(whole: Home) -> Iterator[Callable[[ssl.VerifyMode], str]]:
    """Start a TLS server that never speaks, as a broker that waits; return its URL."""
    bound: list[socket.socket] = []
    threads: list[threading.Thread] = []
    done = threading.Event()

    def start(mode: ssl.VerifyMode) -> str:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(whole.ca))
        context.load_cert_chain(whole.server, whole.server_key)
        context.verify_mode = mode
        server = socket.create_server(("127.0.0.1", 0))
        bound.append(server)

        def serve() -> None:
            plain, _ = server.accept()
            try:
                with context.wrap_socket(plain, server_side=True):
                    done.wait(10)
            except OSError:
                plain.close()

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return f"mqtts://127.0.0.1:{server.getsockname()[1]}"

    yield start
    done.set()
    for thread in threads:
        thread.join(10)
    for each in bound:
        each.close()


def test_a_stranger_is_really_sent(
    listener: Callable[[ssl.VerifyMode], str], whole: Home, tmp_path: Path
) -> None:
    """Let in, refused, nobody there, and a server of another fleet's."""
    ca = str(whole.ca)
    other = str(init(tmp_path / "other").ca)

    assert of_centre.strangers(listener(ssl.CERT_NONE), ca) is True
    assert of_centre.strangers(listener(ssl.CERT_REQUIRED), ca) is False
    assert of_centre.strangers(listener(ssl.CERT_REQUIRED), other) is None
    assert of_centre.strangers("mqtts://127.0.0.1:9", ca) is None
    assert of_centre.strangers("mqtt://127.0.0.1:9", ca) is None
    assert of_centre.strangers("mqtts://127.0.0.1:9", str(tmp_path / "none")) is None
