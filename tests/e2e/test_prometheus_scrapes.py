"""A real Prometheus scrapes a running centre and its device: every query of ours has an answer."""

import importlib.resources
import json
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.wire.reasons import Reason
from models.layout import Layout
from tests.e2e.scene import LIMIT_S, Centre, Device, Load, free_port, until
from tests.e2e.wares import Model, damaged, packed

pytestmark = [
    pytest.mark.real("mosquitto", "prometheus"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]

BOARDS = Path(str(importlib.resources.files("fleet.metrics"))) / "files" / "dashboards"
NO_SENSOR = {
    "skerry_agent_temperature_celsius",
    "skerry_agent_accelerator_temperature_celsius",
    "skerry_agent_throttled",
}
"""What a device says only where its kernel does."""

NOT_IN_THIS_SCENE = {"skerry_device_rollbacks_total"}
"""No revision of this scene fails in its probation."""


@dataclass(frozen=True)
class Watched:
    """A Prometheus that scrapes."""

    url: str

    def ask(self, path: str, **query: str) -> Any:  # noqa: ANN401  # JSON
        asked = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(asked, timeout=20) as answer:  # noqa: S310  # our own
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return found

    def up(self) -> set[str]:
        try:
            return {each["metric"]["job"] for each in self.query("up == 1")}
        except OSError:
            return set()


@contextmanager
def prometheus(folder: Path) -> Iterator[Watched]:
    port = free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [  # noqa: S607  # wherever it is installed
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Watched(f"http://127.0.0.1:{port}")
    finally:
        process.terminate()
        process.wait(LIMIT_S)


def panels() -> Iterator[tuple[str, str, str]]:
    """Return each query of the dashboards, as it is asked with every device chosen."""
    for path in sorted(BOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                asked = target["expr"].replace("$instance", ".*")
                yield path.stem, panel["title"], asked.replace("$__rate_interval", "1m")


def metrics_of(device: Device) -> set[str]:
    with urllib.request.urlopen(
        f"http://127.0.0.1:{device.port}/metrics", timeout=20
    ) as answer:  # our own
        families = text_string_to_metric_families(answer.read().decode())
        return {sample.name for family in families for sample in family.samples}


def test_every_panel_has_data_and_a_cause_is_one_alert(
    island: Centre,
    make_device: Callable[..., Device],
    tmp_path: Path,
    old: Model,
    new: Model,
) -> None:
    """From `skerry monitoring export` to numbers: a rollout, a shadow, a bad bundle, an alert."""
    layout = Layout.create(tmp_path / "more")
    island.publish(layout, packed(old, "1.1.0", layout, key=island.key))
    device = make_device(island)
    device.start()
    assert 0 == island.skerry("device", "set", device.name, "--health-period", "1").returncode
    folder = tmp_path / "watching"
    written = island.skerry(
        "monitoring", "export", folder, "--site-device", f"127.0.0.1:{device.port}"
    )
    assert 0 == written.returncode, written.stderr
    configuration = folder / "prometheus.yml"
    configuration.write_text(configuration.read_text().replace("15s", "1s"))

    with prometheus(folder) as watched:
        until(lambda: watched.up() == {"skerry", "skerry-site"}, what="both scrapes")
        island.deliver("1.0.0", device)
        with Load(device, old) as load:
            load.more(50)
            shadowed = {"shadow": {"share": 1.0, "requests": 20, "agreement": 1.0}}
            wish = {"bundle": "digits:1.1.0", "deployment": "digits", "targets": [device.id]}
            island.ask(
                "POST",
                "/api/v1/rollouts",
                {**wish, "policy": "careful", "soak_s": 1.0, "settings": shadowed},
            )
            island.settled(device, "1.1.0")
            until(lambda: watched.query("skerry_rollout_gate_verdict"), what="a verdict")
            island.publish(layout, damaged(new, "3.0.0", layout, key=island.key))
            until(
                lambda: watched.query('skerry_model_golden_failures_total{version="3.0.0"}'),
                what="a zero before it happens",
            )
            island.roll("3.0.0", device)
            until(
                lambda: Reason.GOLDEN_MISMATCH in island.reasons(device),
                what="the bad bundle's end",
            )
            until(
                lambda: watched.query('ALERTS{alertname="SkerryGoldenFailing"}'),
                what="the alert",
            )
            until(lambda: watched.query("skerry_rollout_duration_seconds_count"), what="a duration")
            load.more(200)
            there = metrics_of(device)
            unseen = {
                (board, title, query): set(re.findall(r"skerry_[a-z_]+", query))
                for board, title, query in panels()
                if not watched.query(query)
            }
            (alert,) = [
                each
                for each in watched.ask("alerts")["alerts"]
                if each["labels"]["alertname"] == "SkerryGoldenFailing"
            ]
            rules = [each for group in watched.ask("rules")["groups"] for each in group["rules"]]
        assert [] == load.failed

    excused = NOT_IN_THIS_SCENE | (NO_SENSOR - there)
    assert {} == {where: names for where, names in unseen.items() if not names <= excused}
    assert {"ok"} == {rule["health"] for rule in rules}, [rule.get("lastError") for rule in rules]
    assert "digits 3.0.0 answers wrongly" in alert["annotations"]["description"]
    assert 200 == island.http("GET", "/api/v1/fleet")[0]  # nobody scrapes any more: as before
