"""A doctor finds what is wrong with a centre's home, that alone, and changes nothing."""

import datetime as dt
import hashlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from fleet.checkup import disk, registry, store
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
        if path.is_file()
    }


def test_a_whole_home_has_nothing_wrong(home: Home) -> None:
    """Only that no centre runs; each thing that was looked at is named."""
    findings = found(home)

    assert {} == bad(findings)
    assert ["disk", "trust", "store", "registry", "centre", "broker", "devices"] == [
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


def cut(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])


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
    "an authority whose key is another's": (
        lambda home: foreign(home, "ca.key"), "trust", "the CA certificate can't be used",
    ),
    "bundle keys of two fleets": (
        lambda home: foreign(home, "bundle.key"), "trust", "what is signed here from now on",
    ),
    "no trust at all": (lambda home: shutil.rmtree(home.trust), "trust", "trust is gone"),
    "a folder others can write in": (
        lambda home: home.trust.chmod(0o777), "trust", "others on this machine can write in",
    ),
    "a token that is no text": (
        lambda home: home.operator_token.write_bytes(b"\xff\xfe"), "trust", "no operator token",
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
    "a store that was emptied": (
        lambda home: home.store.write_bytes(b""), "store", "no such table",
    ),
    "a store without a schema": (
        lambda home: sql(home, "DELETE FROM alembic_version"), "store", "which schema it has",
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
        lambda home: shutil.rmtree(home.registry), "registry", "none of 1 bundle can be given",
    ),
    "a blob was cut off": (
        lambda home: cut(largest_blob(home)), "registry", "SIZE_MISMATCH",
    ),
    "another bundle key": (
        lambda home: foreign(home, "bundle.key", "bundle.pub"), "registry", "SIGNATURE_INVALID",
    ),
    "a certificate that ends soon": (
        lambda home: sql(
            home, "UPDATE devices SET certificate_expires_at = '2026-01-01T00:00:00Z'"
        ),
        "devices", "1 of 1 certificates have ended or end within 30 d: name-d-one",
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


def test_a_home_may_be_named_from_where_one_stands(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `skerry trust init --home home` does: the same is found."""
    monkeypatch.chdir(home.path.parent)
    near = found(Home(Path(home.path.name)))

    assert {} == bad(near)
    assert [each.check for each in found(home)] == [each.check for each in near]


def test_a_log_that_a_killed_centre_left_is_read_and_stays(home: Home) -> None:
    """What is in it counts, and is not put away: that is the centre's, when it starts again."""
    writer = sqlite3.connect(home.store)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("UPDATE alembic_version SET version_num = '9999'")
    writer.commit()
    killed = Home(Path(shutil.copytree(home.path, home.path.parent / "killed")))
    writer.close()
    log = killed.store.with_name("store.db-wal")
    before = (killed.store.read_bytes(), log.read_bytes())

    assert "a newer Skerry" in bad(found(killed))["store"]
    assert before == (killed.store.read_bytes(), log.read_bytes())


@pytest.mark.parametrize("bundles_hashed", [0, 1])
def test_past_the_limit_bundles_are_still_looked_for(home: Home, bundles_hashed: int) -> None:
    """What was not hashed is said; that a part is not there, or cut off, is found all the same."""
    _, kept = store.look(home.store, TODAY)
    assert kept is not None
    [told] = registry.look(home, kept, limit_bytes=bundles_hashed)

    said = "1 bundle whole" if bundles_hashed else "1 bundle there, the newest 0 whole"
    assert (Verdict.OK, True) == (told.verdict, told.what.startswith(said))

    damage(largest_blob(home))
    [told] = registry.look(home, kept, limit_bytes=bundles_hashed)
    assert (Verdict.WRONG if bundles_hashed else Verdict.OK) is told.verdict
    cut(largest_blob(home))
    [told] = registry.look(home, kept, limit_bytes=bundles_hashed)
    assert "SIZE_MISMATCH" in told.why


def test_of_many_that_are_harmed_some_are_told_one_by_one(home: Home) -> None:
    """A dead disk is not five hundred findings."""
    lost = store.Kept(
        bundles=[(f"wake:{n}.0.0", f"sha256:{n:064x}") for n in range(500)], devices=0, expiring=()
    )
    told = list(registry.look(home, lost, " --home /h"))

    assert 4 == len(told)
    assert told[-1].what.startswith("497 bundles more can't be given to devices: wake:3.0.0, ")
    assert all(each.hint.endswith("skerry model publish FOLDER --home /h") for each in told)


@pytest.mark.parametrize(
    ("days", "verdict", "said"),
    [
        (1700, None, ""),
        (1800, Verdict.WARNING, "expires soon"),
        (1830, Verdict.WRONG, "has expired"),
        (3660, Verdict.WRONG, "has expired"),
    ],
)
def test_the_end_of_certificates_is_told_before(
    tmp_path: Path, days: int, verdict: Verdict | None, said: str
) -> None:
    """A month before, both the server's and the centre's own; the authority lives twice as long."""
    home = init(tmp_path / "home", ago=dt.timedelta(days=days))
    judged = [each for each in found(home) if each.check == "trust"]

    wanted = ["the server certificate", "the centre certificate"] if verdict else ["whole"]
    wanted = ["the CA certificate", *wanted] if days > 3600 else wanted
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

    assert ["home", "centre", "broker", "devices"] == [each.check for each in findings]
    assert Verdict.NOT_TRIED is findings[0].verdict
    assert "UNREACHABLE" in findings[1].why


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
