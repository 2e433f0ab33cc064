"""Every alert fires on its cause, stays quiet on the near miss, and clears: by promtool itself."""

import importlib.resources
import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet.metrics.families import FAMILIES, Kind

FILES = Path(str(importlib.resources.files("fleet.metrics"))) / "files"
RULES = FILES / "rules"
ROOT = Path(__file__).parents[3]
Series = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Case:
    """An alert on made-up series, one number a minute: when it fires and has cleared, and when not.

    `near` is what only looks like the cause: it is watched over the same time.
    """

    cause: Series
    fires: int
    clears: int
    near: tuple[Series, ...]


def _states(**counts: str) -> Series:
    """Devices by state, on two sites: what happens on many sites at once is one alert."""
    return {
        f'skerry_fleet_devices{{state="{state}", site="{site}"}}': values
        for state, values in counts.items()
        for site in ("porto", "lerwick")
    }


def _requests(ok: str, error: str) -> Series:
    labels = 'bundle="digits", version="1", accelerator="cpu"'
    return {
        f'skerry_inference_requests_total{{{labels}, result="ok"}}': ok,
        f'skerry_inference_requests_total{{{labels}, result="error"}}': error,
    }


def _http(good: str, bad: str) -> Series:
    return {
        'skerry_http_requests_total{code="200"}': good,
        'skerry_http_requests_total{code="503"}': bad,
    }


UP, MQTT = 'up{job="skerry"}', "skerry_mqtt_connected"
REFUSED = "skerry_device_refusals_total"
DIGITS = '{bundle="digits", version="1"}'


def _drift(level: str) -> str:
    return f'skerry_model_drift_devices{{bundle="digits", version="1", level="{level}"}}'


MOVED = 'skerry_rollout_last_progress_timestamp_seconds{rollout="r-1"}'
RUNNING = 'skerry_rollout_info{rollout="r-1", state="running"}'
WAITED = 'skerry_rollout_devices{rollout="r-1", outcome="%s"}'
ASIDE = WAITED % "set-aside"
GATE = 'skerry_rollout_gate_verdict{rollout="r-1", gate="wave 1", verdict="%s"}'
ENDED = 'skerry_rollouts_finished_total{bundle="digits", outcome="%s"}'
SILENT = 'skerry_fleet_devices_silent{over="%s"}'
SITES = 'skerry_sites{state="%s"}'
EXPIRING = 'skerry_fleet_certificates_expiring{within="%s"}'
CASES = {
    "SkerryAbsent": Case(
        cause={UP: "1+0x4 0+0x10 1+0x9"}, fires=11, clears=17, near=({UP: "1+0x4 0+0x3 1+0x20"},)
    ),
    "SkerryBrokerDisconnected": Case(
        cause={MQTT: "1+0x4 0+0x6 1+0x9"}, fires=9, clears=13, near=({MQTT: "1+0x4 0+0x1 1+0x20"},)
    ),
    "SkerryIngestLagging": Case(
        cause={"skerry_ingest_lag_seconds": "61+0x20 0+0x9"},
        fires=15,
        clears=23,
        near=({"skerry_ingest_lag_seconds": "60+0x40"},),
    ),
    "SkerryIngestDropping": Case(
        cause={'skerry_ingest_dropped_total{reason="MALFORMED"}': "0+1x30 30+0x40"},
        fires=25,
        clears=55,
        near=({'skerry_ingest_dropped_total{reason="MALFORMED"}': "5+0x60"},),
    ),
    "SkerryApiErrors": Case(
        cause=_http("0+97x60", "0+3x30 90+0x30"),
        fires=25,
        clears=50,
        near=(_http("0+99x60", "0+1x60"),),
    ),
    "SkerryStoreFilling": Case(
        cause={"skerry_store_free_bytes": "100000000000-25000000x200 95000000000+0x420"},
        fires=130,
        clears=600,
        near=({"skerry_store_free_bytes": "100000000000-15000000x620"},),
    ),
    "SkerrySeriesBudgetExceeded": Case(
        cause={"skerry_metrics_series": "6001+0x50 5000+0x9"},
        fires=40,
        clears=55,
        near=({"skerry_metrics_series": "6000+0x60"},),
    ),
    "SkerryTrustMetadataExpiring": Case(
        cause={
            'skerry_trust_expiry_timestamp_seconds{role="server"}': "259000+0x70 9000000+0x20",
            'skerry_trust_expiry_timestamp_seconds{role="ca"}': "9000000+0x90",
        },
        fires=65,
        clears=75,
        near=({'skerry_trust_expiry_timestamp_seconds{role="server"}': "265000+0x90"},),
    ),
    "SkerryDeviceCertificatesExpiring": Case(
        cause={EXPIRING % "7d": "3+0x70 0+0x9"},
        fires=65,
        clears=73,
        near=({EXPIRING % "7d": "0+0x80", EXPIRING % "30d": "9+0x80"},),
    ),
    "SkerryVerificationRefusals": Case(
        cause={f'{REFUSED}{{reason="SIGNATURE_INVALID"}}': "0+0x5 1+0x40"},
        fires=8,
        clears=25,
        near=(
            {
                f'{REFUSED}{{reason="DISK_FULL"}}': "0+1x45",
                f'{REFUSED}{{reason="SIGNATURE_INVALID"}}': "7+0x45",
            },
        ),
    ),
    "SkerryMassOffline": Case(
        cause=_states(ok="99+0x70 70+0x140", offline="1+0x70 30+0x140"),
        fires=80,
        clears=140,  # those that are still away an hour later are not news any more
        near=(
            _states(ok="100+0x70 91+0x140", offline="0+0x70 9+0x140"),
            _states(ok="70+0x210", offline="30+0x210"),
        ),
    ),
    "SkerrySiteCut": Case(
        cause={SITES % "cut": "0+0x4 2+0x12 0+0x9", SITES % "whole": "9+0x30"},
        fires=12,
        clears=19,
        near=(
            {SITES % "cut": "0+0x30", SITES % "partly": "9+0x30"},
            {SITES % "cut": "0+0x4 1+0x3 0+0x20"},
        ),
    ),
    "SkerryDevicesFailing": Case(
        cause=_states(ok="98+0x40", failing="2+0x20 0+0x20"),
        fires=18,
        clears=23,
        near=(_states(ok="99+0x40", failing="1+0x40"),),
    ),
    "SkerryQuarantines": Case(
        cause={f"skerry_device_quarantines_total{DIGITS}": "0+0x5 1+0x100"},
        fires=8,
        clears=70,
        near=({f"skerry_device_quarantines_total{DIGITS}": "3+0x100"},),
    ),
    "SkerryDevicesLongSilent": Case(
        cause={SILENT % "7d": "1+0x370 0+0x9"},
        fires=365,
        clears=373,
        near=({SILENT % "1d": "9+0x380", SILENT % "7d": "0+0x380"},),
    ),
    "SkerryRolloutStalled": Case(
        cause={
            MOVED: "0+0x80 4800+0x9",
            RUNNING: "1+0x90",
            WAITED % "updating": "2+0x90",
            ASIDE: "1+0x90",
        },
        fires=70,
        clears=83,
        near=(
            {MOVED: "0+0x90", 'skerry_rollout_info{rollout="r-1", state="paused"}': "1+0x90"},
            # a soak of three hours: it moves until its end, and then the next wave does
            {MOVED: "0+60x180 10800+0x50", RUNNING: "1+0x230"},
            # all who are waited for are away
            {MOVED: "0+0x90", RUNNING: "1+0x90", WAITED % "updating": "2+0x90", ASIDE: "2+0x90"},
        ),
    ),
    "SkerryRolloutInconclusive": Case(
        cause={GATE % "inconclusive": "1+0x20 stale"},
        fires=17,
        clears=23,
        near=({GATE % "failed": "1+0x40"}, {GATE % "inconclusive": "1+0x10 stale"}),
    ),
    "SkerryRolloutRolledBack": Case(
        cause={ENDED % "rolled-back": "0+0x5 1+0x40"},
        fires=8,
        clears=25,
        near=({ENDED % "done": "0+1x45", ENDED % "rolled-back": "4+0x45"},),
    ),
    "SkerryModelErrors": Case(
        cause=_requests("0+97x70", "0+3x40 120+0x30"),
        fires=30,
        clears=50,
        near=(_requests("0+98x70", "0+2x70"),),
    ),
    "SkerryGoldenFailing": Case(
        cause={f"skerry_model_golden_failures_total{DIGITS}": "0+0x5 1+0x60"},
        fires=8,
        clears=40,
        near=({f"skerry_model_golden_failures_total{DIGITS}": "2+0x60"},),
    ),
    "SkerryModelDrifting": Case(
        cause={
            _drift("alarm"): "6+0x90 0+0x9",
            _drift("ok"): "94+0x99",
            _drift("too few"): "500+0x99",
        },
        fires=65,
        clears=95,
        near=(
            {
                _drift("alarm"): "5+0x99",
                _drift("ok"): "95+0x99",
            },
        ),
    ),
    "SkerryAcceleratorFallback": Case(
        cause={f"skerry_fleet_devices_fallback{DIGITS}": "1+0x40 0+0x9"},
        fires=35,
        clears=43,
        near=({f"skerry_fleet_devices_fallback{DIGITS}": "0+0x50"},),
    ),
}


def rules() -> list[dict[str, Any]]:
    files = [yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yml"))]
    return [rule for file in files for group in file["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def scene(alert: str, series: Series, firing: Mapping[int, int]) -> dict[str, Any]:
    """Return a test: how many alerts of this name fire at each minute."""
    query = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)'
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": query,
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": number}],
            }
            for minute, number in firing.items()
        ],
    }


def promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *map(str, words)],  # noqa: S607  # wherever it is installed
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def run(folder: Path, *scenes: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    file = folder / "scenes.yml"
    paths = [str(path) for path in sorted(RULES.glob("*.yml"))]
    file.write_text(json.dumps({"rule_files": paths, "evaluation_interval": "1m", "tests": scenes}))
    return promtool("test", "rules", file)


@pytest.mark.real("promtool")
def test_the_rules_are_rules() -> None:
    """Prometheus's own checker reads them all, and there is none that is not tested here."""
    checked = promtool("check", "rules", *sorted(RULES.glob("*.yml")))

    assert 0 == checked.returncode, checked.stdout + checked.stderr
    assert f"{len(CASES)} rules found" in checked.stdout


def test_every_alert_has_its_case() -> None:
    """No rule is trusted that was never seen to fire."""
    assert alerts().keys() == CASES.keys()


@pytest.mark.real("promtool")
@pytest.mark.parametrize("alert", CASES)
def test_it_fires_stays_quiet_on_the_near_miss_and_clears(alert: str, tmp_path: Path) -> None:
    """Once for its cause, never for what only looks like it, and not for longer than that."""
    case = CASES[alert]
    told = run(
        tmp_path,
        scene(alert, case.cause, {0: 0, case.fires: 1, case.clears: 0}),
        *(scene(alert, near, dict.fromkeys(range(case.clears + 1), 0)) for near in case.near),
    )

    assert 0 == told.returncode, told.stdout + told.stderr


@pytest.mark.real("promtool")
def test_a_case_that_is_wrong_is_noticed(tmp_path: Path) -> None:
    """The judge of all the others is one: a broker that is there is told to be missed."""
    told = run(tmp_path, scene("SkerryBrokerDisconnected", {MQTT: "1+0x20"}, {10: 1}))

    assert 0 != told.returncode


@pytest.mark.real("promtool")
def test_recorded_numbers_are_what_their_names_say(tmp_path: Path) -> None:
    """The p95 over the devices is read off their bins; a share without requests is none."""
    served = 'bundle="digits", version="1", accelerator="cpu"'
    bins = {
        f'skerry_inference_latency_seconds_bucket{{{served}, le="{le}"}}': f"0+{each}x20"
        for le, each in {"0.01": 90, "0.02": 100, "+Inf": 100}.items()
    }
    told = run(
        tmp_path,
        {
            "interval": "1m",
            "input_series": [
                {"series": name, "values": values}
                for name, values in {**bins, **_requests("0+98x20", "0+2x20")}.items()
            ],
            "promql_expr_test": [
                {
                    "expr": "round(skerry:inference_latency:p95_5m, 0.001)",
                    "eval_time": "15m",
                    "exp_samples": [{"labels": f"{{{served}}}", "value": 0.015}],
                },
                {
                    "expr": "round(skerry:inference_errors:ratio_rate5m, 0.001)",
                    "eval_time": "15m",
                    "exp_samples": [{"labels": '{bundle="digits", version="1"}', "value": 0.02}],
                },
            ],
        },
    )

    assert 0 == told.returncode, told.stdout + told.stderr


def names_in(expression: str) -> set[str]:
    """Return the metrics of ours that an expression asks for."""
    return set(re.findall(r"\b(?:skerry_|skerry:)[a-z0-9_:]+", expression))


def known() -> set[str]:
    """Return every name that can be asked for."""
    found = {rule["record"] for rule in rules() if "record" in rule}
    for each in FAMILIES:
        ends = ("_bucket", "_sum", "_count") if each.kind is Kind.HISTOGRAM else ("",)
        found |= {f"{each.name}{end}" for end in ends}
    return found


def test_rules_ask_only_for_what_there_is() -> None:
    """An alert on a metric that nobody sends would be quiet for ever."""
    asked = {name for rule in rules() for name in names_in(rule["expr"])}

    assert asked
    assert asked <= known()


def test_every_alert_says_what_to_do_and_where_that_is_written() -> None:
    """A summary, a description, a severity, and a heading of our own docs that exists."""
    page = (ROOT / "docs" / "monitoring.md").read_text()
    headings = {line.lstrip("# ").strip().lower() for line in page.splitlines() if line[:1] == "#"}
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert {"summary", "description", "runbook"} == rule["annotations"].keys()
        assert f"docs/monitoring.md#{name.lower()}" == rule["annotations"]["runbook"]
        assert name.lower() in headings
