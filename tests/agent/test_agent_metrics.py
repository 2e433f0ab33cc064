"""A device's own `/metrics`: true, cheap, and readable whatever things are called."""

import subprocess
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from agent.meter import Meter
from agent.page.exposition import FAMILIES, escaped, exposition
from agent.page.seen import Seen, Work
from agent.ports import Tally
from agent.sketch import Sketch
from agent.state import Compared
from tests.agent.looks import LOOKS

BUSY = Work(
    requests=12,
    errors=2,
    restarts=1,
    bins=(*(0,) * 10, 6, 4, *(0,) * 7),
    seconds=0.5,
    workers=2,
    queue=3,
)
DIGEST = "sha256:" + "a" * 64


def read(raw: bytes) -> Mapping[str, Mapping[tuple[str, ...], float]]:
    """Return every sample by name and label values, as Prometheus's own parser reads it."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(raw.decode()):
        for sample in family.samples:
            key = tuple(sample.labels.values())
            assert key not in found.setdefault(sample.name, {}), f"twice: {sample}"
            found[sample.name][key] = sample.value
    return found


@pytest.mark.real("promtool")
@pytest.mark.parametrize("look", LOOKS)
def test_every_look_at_a_device_is_metrics_that_promtool_takes(look: str) -> None:
    """A device in any trouble, or with nothing on it, is still scraped; names follow the rules."""
    seen = LOOKS[look]
    names = [each.name for each in seen.reported.deployments]
    raw = exposition(seen, dict.fromkeys(names, BUSY))
    linted = subprocess.run(
        ["promtool", "check", "metrics"],  # noqa: S607  # wherever it is installed
        input=raw,
        capture_output=True,
        check=False,
        timeout=30,
    )

    found = read(raw)
    assert (0, b"") == (linted.returncode, linted.stderr)
    assert seen.outbox == found["skerry_agent_outbox_events"][()]
    assert set(names) == {name for (name,) in found.get("skerry_agent_queue", {})}
    assert (seen.vitals is None) == ("skerry_agent_memory_used_bytes" not in found)
    for name in names:
        assert 10 == found["skerry_agent_requests_total"][name, "ok"]
        assert 10 == found["skerry_agent_latency_seconds_bucket"][name, "+Inf"]


def test_what_is_not_measured_is_left_out() -> None:
    """A machine without a sensor is not at 0 degrees."""
    well = LOOKS["well"]
    assert well.vitals is not None
    blind = replace(well, vitals=replace(well.vitals, temperature_c=None), health=None)

    found = read(exposition(blind, {}))

    assert "skerry_agent_temperature_celsius" not in found
    assert "skerry_agent_throttled" not in found
    assert found["skerry_agent_disk_free_bytes"]


@given(st.text(st.characters(codec=None), max_size=20))
def test_whatever_a_name_is_its_line_ends_where_it_ends(name: str) -> None:
    """Quotes, backslashes, newlines and lone surrogates make no line and no label."""
    seen: Seen = LOOKS["well"]

    found = read(exposition(seen, {name: BUSY}))

    readable = name.encode(errors="replace").decode()
    assert {(readable,): 3} == found["skerry_agent_queue"]


def test_escaping_is_prometheus_s_own() -> None:
    """Backslash, quote and newline, as the text format has it; nothing else."""
    assert r"a \"b\" \\n\n" == escaped('a "b" \\n\n')


def test_a_counter_goes_on_over_revisions_and_readers() -> None:
    """Health takes its period's counts away, and the totals have them all the same."""
    told: list[Tally] = []

    class Requests:
        def take(self) -> tuple[Tally, ...]:
            taken = tuple(told)
            told.clear()
            return taken

        def compared(self) -> dict[str, Compared]:
            return {}

    def come(revision: int, *seconds: float) -> None:
        sketch = Sketch()
        for each in seconds:
            sketch.add(each)
        told.append(
            Tally(
                deployment="digits",
                revision=revision,
                digest=DIGEST,
                requests=len(seconds) + 1,
                errors=1,
                restarts=1,
                latency=sketch.to_wire(),
            )
        )

    meter = Meter(Requests())
    come(1, 0.01, 0.02)
    meter.take_period()
    come(2, 0.03)
    total = meter.totals(["digits", "idle"])["digits"]
    again = meter.totals(["digits"])

    assert (5, 2, 2, 3) == (total.requests, total.errors, total.restarts, sum(total.bins))
    assert total.seconds == pytest.approx(0.06, rel=0.05)
    assert {"digits": total} == again
    assert 0 == meter.totals(["digits", "idle"])["idle"].requests
    meter.totals([])
    assert 0 == meter.totals(["digits"])["digits"].requests


def test_no_name_is_given_twice() -> None:
    """A metric that was there twice would end every scrape."""
    assert len({each.name for each in FAMILIES}) == len(FAMILIES)
