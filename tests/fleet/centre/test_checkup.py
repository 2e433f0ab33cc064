"""A doctor finds what is wrong with a centre's home, that alone, and changes nothing."""

import datetime as dt
import hashlib
import os
import shutil
import socket
import sqlite3
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fleet.checkup import centre as of_centre
from fleet.checkup import disk, store
from fleet.checkup.centre import Asked
from fleet.checkup.finding import Finding, Verdict, ok, warning
from fleet.cli import main
from fleet.cli.doctor import examine, lines, summary
from fleet.cli.marks import Screen
from fleet.cli.options import CentreOptions
from fleet.identity import authority as identity
from fleet.identity.places import Home
from fleet.store import bundles
from fleet.store.engine import Store
from models import bundle, card_codec, keys
from models.layout import Layout
from tests.fleet.centre.parties import add_devices
from tests.models.files.conftest import GOLDEN, card_of, small_model

TODAY = dt.datetime.now(dt.UTC)  # noqa: TID251  # certificates go by the clock
NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)


def init(path: Path, *, ago: dt.timedelta = dt.timedelta(0)) -> Home:
    identity.init(path, fleet="harbour", hosts=[], now=TODAY - ago)
    return Home(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a store, a device and a published bundle; no centre runs on it."""
    home = init(tmp_path_factory.mktemp("whole") / "home")
    opened = Store.open(home.store)
    add_devices(opened, ["d-one"])
    layout = Layout.create(home.registry)
    model = small_model()
    card = card_of(model)
    made = bundle.write(layout, card, {card.variants[0].digest: model}, GOLDEN)
    bundle.sign(layout, made, keys.SigningKey.load(home.bundle_key))
    with opened.write() as connection:
        connection.exec_driver_sql(
            "UPDATE devices SET certificate_expires_at = '2099-01-01T00:00:00Z'"
        )
        published = bundles.PublishedBundle(
            digest=made.digest,
            name=made.ref.name,
            version=made.ref.version,
            card=card_codec.render(made.card),
            published_at="2026-03-01T12:00:00Z",
        )
        bundles.add(connection, published)
    opened.close()
    return home


@pytest.fixture
def home(whole: Home, tmp_path: Path) -> Home:
    """A copy to be harmed."""
    return Home(Path(shutil.copytree(whole.path, tmp_path / "home")))


def found(home: Home, *, url: str | None = None) -> list[Finding]:
    options = CentreOptions(home=home.path, url=url, token_file=None, ca=None)
    return list(examine(options))


def bad(findings: list[Finding]) -> dict[str, str]:
    """Return what is not well, but that no centre runs: that is so in all of these."""
    return {
        each.check: f"{each.verdict}: {each.what} ({each.why})"
        for each in findings
        if each.verdict in {Verdict.WRONG, Verdict.WARNING} and each.check != "centre"
    }


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))  # of whoever reads, too
    }


def test_a_whole_home_has_nothing_wrong(home: Home) -> None:
    """Only that no centre runs; each thing that was looked at is named."""
    findings = found(home)

    assert {} == bad(findings)
    assert ["disk", "trust", "store", "registry", "devices", "centre", "broker"] == [
        each.check for each in findings
    ]
    [registry] = [each for each in findings if each.check == "registry"]
    assert registry.what.startswith("1 bundle whole and signed: ")


def largest_blob(home: Home) -> Path:
    return max((home.registry / "blobs" / "sha256").iterdir(), key=lambda each: each.stat().st_size)


def damage(path: Path, *, at: int | None = None, size: int = 64) -> None:
    content = bytearray(path.read_bytes())
    begin = len(content) // 2 if at is None else at
    content[begin : begin + size] = bytes(each ^ 0xFF for each in content[begin : begin + size])
    path.chmod(0o644)
    path.write_bytes(content)


def sql(home: Home, text: str) -> None:
    with closing(sqlite3.connect(home.store)) as database:
        database.execute(text)
        database.commit()


def foreign(home: Home, *names: str) -> None:
    """Put files of another fleet's in the place of ours."""
    other = init(home.path.parent / "other")
    for name in names:
        shutil.copy(other.trust / name, home.trust / name)


Harm = Callable[[Home], object]
HARMS: dict[str, tuple[Harm, str, str]] = {
    "a key others can read": (
        lambda home: home.desired_key.chmod(0o644), "trust", "others on this machine can read",
    ),
    "a key is gone": (lambda home: home.desired_key.unlink(), "trust", "can't be used"),
    "the authority is gone": (lambda home: home.ca_key.unlink(), "trust", "can't be used"),
    "a key that isn't one": (
        lambda home: home.ca_key.write_text("none"), "trust", "can't be used",
    ),
    "keys of two fleets": (
        lambda home: foreign(home, "desired.key"), "trust", "don't belong together",
    ),
    "a certificate of another fleet": (
        lambda home: foreign(home, "server.pem", "server.key"), "trust",
        "the server certificate can't be used",
    ),
    "a certificate with another key": (
        lambda home: foreign(home, "centre.key"), "trust", "the centre certificate can't be used",
    ),
    "no operator token": (
        lambda home: home.operator_token.write_text("\n"), "trust", "no operator token",
    ),
    "a damaged store": (
        lambda home: damage(home.store, at=4096, size=16384), "store", "is damaged",
    ),
    "no database at all": (
        lambda home: home.store.write_bytes(b"no database" * 100), "store", "is damaged",
    ),
    "a newer store": (
        lambda home: sql(home, "UPDATE alembic_version SET version_num = '9999'"),
        "store", "a newer Skerry",
    ),
    "a blob is gone": (
        lambda home: largest_blob(home).unlink(), "registry", "can't be given to devices",
    ),
    "a blob has rotted": (
        lambda home: damage(largest_blob(home)), "registry", "DIGEST_MISMATCH",
    ),
    "the registry is gone": (
        lambda home: shutil.rmtree(home.registry), "registry", "can't be given to devices",
    ),
    "another bundle key": (
        lambda home: foreign(home, "bundle.pub"), "registry", "SIGNATURE_INVALID",
    ),
    "a certificate that ends soon": (
        lambda home: sql(
            home, "UPDATE devices SET certificate_expires_at = '2026-01-01T00:00:00Z'"
        ),
        "devices", "1 of 1 certificates have ended or end soon: name-d-one",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HARMS)
def test_what_is_harmed_is_found_and_nothing_else(
    home: Home, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one finding, with its cause and what to do; the home is as it was."""
    harm, check, said = HARMS[name]
    harm(home)
    before = tree(home.path)
    findings = found(home)
    code = main(["doctor", "--home", str(home.path)])
    printed = capsys.readouterr()

    assert [check] == list(bad(findings))
    assert said in bad(findings)[check]
    assert all(
        each.why and each.hint
        for each in findings
        if each.verdict in {Verdict.WRONG, Verdict.WARNING}
    )
    assert before == tree(home.path)
    assert 1 == code, "no centre runs, at the least"
    assert ("", False) == (printed.err, "Traceback" in printed.out)


@pytest.mark.parametrize(
    ("days", "verdict", "said"),
    [
        (1700, None, ""),
        (1800, Verdict.WARNING, "expires soon"),
        (1830, Verdict.WRONG, "has expired"),
    ],
)
def test_the_end_of_certificates_is_told_before(
    tmp_path: Path, days: int, verdict: Verdict | None, said: str
) -> None:
    """A month before, both the server's and the centre's own; the authority lives twice as long."""
    home = init(tmp_path / "home", ago=dt.timedelta(days=days))
    judged = [each for each in found(home) if each.check == "trust"]

    wanted = ["the server certificate", "the centre certificate"] if verdict else ["whole"]
    assert len(wanted) == len(judged)
    for each, begins in zip(judged, wanted, strict=True):
        assert each.what.startswith(begins)
        assert said in each.what
        assert (verdict or Verdict.OK) is each.verdict


def test_a_clock_that_is_behind_is_blamed(tmp_path: Path) -> None:
    """Not the certificates."""
    home = init(tmp_path / "home", ago=dt.timedelta(days=-2))
    judged = [each for each in found(home) if each.check == "trust"]

    assert 3 == len(judged)
    assert {"set this machine's clock"} == {each.hint for each in judged}


@pytest.mark.parametrize(
    ("free_bytes", "verdict"),
    [(80_000_000_000, Verdict.OK), (600_000_000, Verdict.WARNING), (20_000_000, Verdict.WRONG)],
)
def test_room_is_judged(free_bytes: int, verdict: Verdict, tmp_path: Path) -> None:
    """A warning comes before nothing can be kept."""
    assert verdict is disk.judge(free_bytes, tmp_path).verdict


def test_a_fresh_home_is_not_ill(tmp_path: Path) -> None:
    """No store and no registry yet: the centre makes them."""
    assert {} == bad(found(init(tmp_path / "home")))


def test_another_centre_is_asked_and_no_home_is_looked_at(home: Home) -> None:
    """The home here may be another fleet's."""
    findings = found(home, url="http://127.0.0.1:9")

    assert ["home", "centre", "broker"] == [each.check for each in findings]
    assert Verdict.NOT_TRIED is findings[0].verdict
    assert "UNREACHABLE" in findings[1].why


def test_many_certificates_are_counted_and_some_named() -> None:
    """Nobody reads four thousand names."""
    kept = store.Kept(bundles=(), devices=4000, expiring=[f"pi-{n}" for n in range(1000)])

    assert "1000 of 4000" in store.devices(kept).what
    assert store.devices(kept).what.endswith("pi-0, pi-1, pi-2 and 997 more")
    assert Verdict.NOT_TRIED is store.devices(None).verdict


def asked(**changes: Any) -> Asked:  # noqa: ANN401  # fields of what is asked
    fields: dict[str, Any] = {
        "url": "http://c",
        "took_s": 0.012,
        "version": "1",
        "fleet": {"as_of": "2026-03-01T12:00:00Z", "broker": {"connected": True}},
        "now": NOW,
        **changes,
    }
    return Asked(**fields)


@pytest.mark.parametrize(
    ("changes", "verdict", "why"),
    [
        ({}, Verdict.OK, ""),
        ({"version": "2"}, Verdict.WARNING, "this program is version 1"),
        ({"now": NOW + dt.timedelta(seconds=90)}, Verdict.WARNING, "90 s behind"),
        ({"now": NOW - dt.timedelta(seconds=90)}, Verdict.WARNING, "90 s ahead of"),
        ({"now": NOW + dt.timedelta(seconds=9)}, Verdict.OK, ""),
    ],
)
def test_a_centre_of_another_time_or_version_is_told(
    changes: dict[str, object], verdict: Verdict, why: str
) -> None:
    """What it is answers either way."""
    judged = of_centre.centre(asked(**changes), "1")

    assert verdict is judged.verdict
    assert why in judged.why
    assert "answers in 12 ms" in judged.what


def test_a_broker_is_judged_by_the_centre_and_by_a_stranger() -> None:
    """Not connected, open to strangers, shut to them, on loopback, or not known."""
    lost = {"as_of": "2026-03-01T12:00:00Z", "broker": {"connected": False}}
    url = "mqtts://c:8883"

    def judge(where: str | None, strangers: bool | None, **changes: object) -> Finding:  # noqa: FBT001  # a test's data
        return of_centre.broker(asked(**changes), where, strangers_in=strangers)

    assert Verdict.WRONG is judge(url, None, fleet=lost).verdict
    assert Verdict.WRONG is judge(url, True).verdict  # noqa: FBT003  # as above
    shut = judge(url, False)  # noqa: FBT003  # as above
    assert (Verdict.OK, True) == (shut.verdict, "without a certificate is refused" in shut.what)
    assert "on loopback" in judge("mqtt://127.0.0.1:1", None).what
    assert "connected" == judge(None, None).what


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


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can become somebody else")
def test_somebody_elses_home_is_said_to_be_that(home: Home) -> None:
    """Not damaged: it can't be read by who asks, and nobody is sent to a backup."""
    with tempfile.TemporaryDirectory() as folder:
        theirs = Home(Path(shutil.copytree(home.path, Path(folder) / "home")))
        Path(folder).chmod(0o755)
        os.seteuid(65534)
        try:
            findings = found(theirs)
        finally:
            os.seteuid(0)

    assert {"trust", "store"} == bad(findings).keys()
    hints = {each.hint for each in findings if each.verdict is Verdict.WRONG}
    assert {"do it as the user that runs the centre"} <= {hint.split(";")[0] for hint in hints}
    assert not [hint for hint in hints if "backup" in hint]


def test_a_finding_without_a_next_step_can_not_be_made() -> None:
    """Whatever is not well has a cause and something to do."""
    with pytest.raises(ValueError, match="no cause or no next step"):
        warning("disk", "little room", "", "make room")
    with pytest.raises(ValueError, match="no cause or no next step"):
        warning("disk", "little room", "it is full", "")


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_screen_fits(columns: int) -> None:
    """No line is wider than the terminal; marks and words say the same."""
    findings = [
        ok("disk", "83895 MB are free at /srv/skerry"),
        warning(
            "trust", "the server certificate expires soon", "its last day is " * 9, "act " * 30
        ),
    ]
    screen = Screen(columns=columns)
    shown = [line for each in findings for line in lines(screen, each)]

    assert all(len(line) <= columns for line in shown)
    assert ["✓ disk", "! trust"] == [
        line[:12].rstrip() for line in shown if not line.startswith(" ")
    ]
    assert "Nothing is wrong." == summary(findings[:1])
    assert "1 warning." == summary(findings)
    assert "2 problems, 1 warning." == summary(
        [*findings, *(Finding(check="a", verdict=Verdict.WRONG, what="b", why="c", hint="d"),) * 2]
    )
