"""Killed between any two steps, for real: old or new serves, never neither, and it gets there."""

import asyncio
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agent import facts
from agent.fetch.job import Credentials, FetchJob
from agent.home import Home as Folder
from agent.identity import load
from agent.ledger import open_ledger
from agent.wire import codec, v1
from agent.wire.phases import Phase
from models import bundle
from models.layout import Layout
from models.limits import MANIFEST_LIMIT_BYTES
from tests.agent.device.world import HARDWARE, Deployed, Home, Publish, Registry

ROOT = Path(__file__).parents[3]

WALK = (
    "accepted", "fetching", "verifying", "staging", "testing", "activating", "probation",
)  # fmt: skip
COMMITS = (*WALK, "committed")
ROLLS_BACK = (*WALK, "rolling-back", "rolled-back")


@dataclass
class Lives:
    """One device through many lives, each of which ends at its n-th moment."""

    home: Home
    machine: dict[str, Any]
    when: str
    deaths: list[str] = field(default_factory=list)

    def lead(
        self, revision: int, wanted: v1.Deployment, *, crashes: bool = False, dies: bool = True
    ) -> list[Any]:
        """Let it live and die until a revision is settled; return what served at each start."""
        envelope = self.home.path / "envelope"
        envelope.write_bytes(self.home.envelope(revision, wanted))
        job = {
            "home": str(self.home.path),
            "machine": self.machine,
            "envelope": str(envelope),
            "revision": revision,
            "moments": {"after": 2, "before": 3}[self.when] if dies else 0,
            "crashes": revision if crashes else None,
        }
        served: list[Any] = []
        for _ in range(2 * len(ROLLS_BACK)):
            lines = live(job)
            served += [line["serves"] for line in lines if "starts" in line]
            [last] = [line for line in lines if {"dies", "ends"} & set(line)]
            if "ends" in last:
                return [*served, last["serves"]]
            self.deaths.append(" ".join(last["dies"]))
        raise AssertionError(f"it gets nowhere: {self.deaths[-8:]}")


def live(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the lines of one life."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.agent.device.mortal"],
        check=False,
        input=json.dumps(job).encode(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        timeout=60,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines, done.stderr.decode()[-3000:]
    assert done.returncode == (0 if "ends" in lines[-1] else -9), done.stderr.decode()[-3000:]
    assert b"Traceback" not in done.stderr, done.stderr.decode()[-3000:]
    return lines


@pytest.fixture(params=["after", "before"])
def lives(request: pytest.FixtureRequest, home: Home) -> Lives:
    """Dies after each write, or before the next one: what it did since is nowhere written."""
    found = asyncio.run(facts.machine(None))
    machine = {"architecture": found.architecture, "library": found.library}
    machine["library_version"] = found.library_version
    return Lives(home, machine, request.param)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_killed_between_any_two_steps_the_old_or_the_new_serves(
    lives: Lives, publish: Publish, deployed: Deployed
) -> None:
    """A first model, a second one with a trial, and a third that fails its own and goes back."""
    nobody_knows = lives.when == "before"  # with nothing before it, one way of dying is enough
    first = lives.lead(1, deployed(publish("1.0.0")), dies=not nobody_knows)
    second = lives.lead(2, deployed(publish("2.0.0", padding=1), 2, probation_s=0.2))
    bad = publish("3.0.0", padding=2)
    third = lives.lead(3, deployed(bad, 3, probation_s=60), crashes=True)

    # Never neither, and once the new one serves for good, never the old one again.
    assert (first[0], first[-1]) == (None, "1.0.0")
    assert (second[0], second[-1]) == ("1.0.0", "2.0.0")
    assert set(second) == {"1.0.0", "2.0.0"}
    assert second == sorted(second, key=str)
    assert (third[0], third[-1]) == ("2.0.0", "2.0.0")
    assert set(third) == {"2.0.0", "3.0.0"}

    # It was killed at every boundary. (Before a document is held is after all went before.)
    every = [
        f"{phase} {revision}"
        for revision, walk in {
            1: () if nobody_knows else COMMITS,
            2: COMMITS,
            3: ROLLS_BACK,
        }.items()
        for phase in (walk if nobody_knows else ("desired", *walk))
    ]
    assert [f"{lives.when} {what}" for what in every] == lives.deaths

    # A bounded number of transitions, none told twice, and the store is whole.
    ledger = open_ledger(lives.home.path / "ledger.db", fleet="f", device="d-1")
    events = [codec.decode(each.body, v1.Event) for each in ledger.pending()]
    record = ledger.records["digits"]
    quarantined = set(ledger.quarantined)
    ledger.close()
    told = [(each.phase, each.revision) for each in events if each.kind is v1.EventKind.PHASE]
    assert record.phase is Phase.ROLLED_BACK
    assert record.proven
    assert record.current is not None
    assert record.current.revision == 2
    assert quarantined == {bad.digest}
    assert len(told) == len(set(told))


FETCH = """
import os, signal, sys
from models import durable

left = int(sys.argv.pop())

def mortal(write):
    def wrapped(*given, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        write(*given, **named)
    return wrapped

durable.write, durable.adopt = mortal(durable.write), mortal(durable.adopt)
from agent.fetch.__main__ import main
sys.exit(main())
"""


@pytest.mark.slow
def test_a_fetch_killed_at_any_of_its_writes_leaves_a_store_that_the_next_one_completes(
    publish: Publish, registry: Registry, home: Home, tmp_path: Path
) -> None:
    """What came before each write is there: what is named can be read, and the rest follows."""
    made = publish(padding=1)
    deaths = 0
    while True:
        store = tmp_path / f"store-{deaths}"
        job = FetchJob(
            store=str(store),
            registry_url=registry.url,
            name=made.ref.name,
            digest=made.digest,
            keys=load(Folder(home.path)).keys("bundle"),
            credentials=Credentials(key="none", certificate="none", ca="none"),
            hardware=HARDWARE,
            reserve_bytes=0,
        )
        if fetch(job, before=deaths + 1) == 0:
            break
        deaths += 1
        if (store / "index.json").exists():
            for entry in Layout(store).entries():
                Layout(store).read(entry.digest, MANIFEST_LIMIT_BYTES)
        assert fetch(job, before=0) == 0
        assert bundle.read(Layout(store), made.digest) == made
    assert deaths >= 8  # the marker, the index, the parts, the manifest, the signature


def fetch(job: FetchJob, *, before: int) -> int:
    """Fetch, and die before a write (0: before none); return the status."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", FETCH, str(os.getpid()), str(before)],
        check=False,
        input=json.dumps(job.to_json()).encode(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert done.returncode in {0, -9}, done.stderr.decode()[-3000:]
    assert (b"done" in done.stdout) == (done.returncode == 0)
    return done.returncode
