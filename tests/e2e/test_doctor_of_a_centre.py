"""`skerry doctor` beside a real centre and its broker: well, broken, mended by what it says."""

import hashlib
import json
import shutil
import signal

import pytest

from models import bundle
from models.layout import Layout
from tests.e2e.scene import SKERRY, Centre, run

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow]


def test_a_doctor_finds_what_broke_while_the_centre_runs(island: Centre) -> None:
    """All is well; a bundle rots; publishing it again, as the doctor says, mends it."""
    well = island.skerry("doctor")
    assert (0, "") == (well.returncode, well.stderr), well.stdout
    assert "a client without a certificate is refused" in well.stdout
    assert "2 bundles whole and signed" in well.stdout
    assert well.stdout.endswith("Nothing is wrong.\n")

    blobs = island.home / "registry" / "blobs" / "sha256"
    largest = max(blobs.iterdir(), key=lambda each: each.stat().st_size)
    whole = largest.read_bytes()
    largest.chmod(0o644)
    largest.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    ill = island.skerry("doctor", "-o", "json")
    said = json.loads(ill.stdout)
    assert (1, False) == (ill.returncode, said["ok"])
    [wrong] = [each for each in said["checks"] if each["verdict"] != "ok"]
    assert "registry" == wrong["check"]
    assert wrong["why"].startswith("DIGEST_MISMATCH")
    assert "skerry model publish" in wrong["next"]

    layout = Layout(island.folder / "bundles")
    island.publish(layout, bundle.read(layout, bundle.find(layout, wrong["what"].split()[0])))
    assert 0 == island.skerry("doctor").returncode
    assert whole == largest.read_bytes()


def test_a_centre_that_was_killed_is_told_and_its_home_looked_at(island: Centre) -> None:
    """With a device that joined and did not speak yet; nothing that it left behind is put away."""
    island.make_device()
    well = island.skerry("doctor")
    assert 0 == well.returncode, well.stdout
    assert "1 joined, 1 not heard yet; no certificate ends within 30 d" in well.stdout

    island.end(signal.SIGKILL)
    before = {
        path: hashlib.sha256(path.read_bytes()).digest()
        for path in island.home.rglob("*")
        # Whoever reads a log anew makes its index anew: that file is nobody's memory.
        if path.is_file() and path.suffix != ".db-shm"
    }
    ill = island.skerry("doctor", "-o", "json")
    [wrong] = [each for each in json.loads(ill.stdout)["checks"] if each["verdict"] == "wrong"]
    assert (1, "") == (ill.returncode, ill.stderr)
    assert "ended without a word" in wrong["what"]
    assert f"skerry up --home {island.home}" in wrong["next"]
    assert before == {path: hashlib.sha256(path.read_bytes()).digest() for path in before}

    island.start()
    assert 0 == island.skerry("doctor").returncode


def test_a_key_that_is_lost_while_the_centre_runs_is_the_one_finding(island: Centre) -> None:
    """The centre has read it, and goes on; who starts it again would be surprised."""
    ca = island.home / "trust" / "ca.pem"
    away = ca.rename(island.folder / "ca.pem")
    ill = island.skerry("doctor", "-o", "json")
    away.rename(ca)
    [wrong] = [each for each in json.loads(ill.stdout)["checks"] if each["verdict"] != "ok"]

    assert (1, "") == (ill.returncode, ill.stderr)
    assert ("trust", True) == (wrong["check"], str(ca) in wrong["why"])


def test_from_afar_only_the_centre_is_asked(island: Centre) -> None:
    """With a URL and a token; a wrong token, and a centre that is gone, are told as such."""
    token = island.folder / "token"
    shutil.copy(island.home / "operator.token", token)
    where = ["--centre", str(island.where["plain_url"]), "--token-file", str(token)]
    nowhere = ["--home", str(island.folder / "none")]
    well = run(SKERRY, "doctor", *where, *nowhere)
    assert 0 == well.returncode, well.stdout
    assert "another centre is named" in well.stdout
    assert "none has joined; when certificates end is known beside the home only" in well.stdout
    token.write_text("wrong")
    wrong = run(SKERRY, "doctor", *where, *nowhere)
    assert (1, True) == (wrong.returncode, "TOKEN_UNKNOWN" in wrong.stdout)
    assert 0 == island.end()
    gone = island.skerry("doctor")
    assert (1, True) == (gone.returncode, "start it: skerry up" in gone.stdout)
