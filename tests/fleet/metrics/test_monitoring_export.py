"""`skerry monitoring export`: a folder with which a Prometheus runs, and nothing lost."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fleet.api.access import Access
from fleet.identity.places import Home
from fleet.metrics.scrape import scrape_token
from tests.fleet.metrics.test_prometheus_rules import FILES, promtool

SKERRY = Path(sys.executable).with_name("skerry")


def export(home: Home, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SKERRY, "monitoring", "export", folder, "--home", home.path, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "SKERRY_CENTRE": "https://centre.example:8443"},
    )


@pytest.mark.real("promtool")
def test_the_folder_is_all_that_a_prometheus_needs(home: Home, tmp_path: Path) -> None:
    """Twice, because rules and centre change; the operator token is nowhere in it."""
    folder = tmp_path / "a folder" / "watching"
    for _ in range(2):
        written = export(home, folder, "--site-device", "10.0.0.7:8471")
        assert 0 == written.returncode, written.stderr
    checked = promtool("check", "config", folder / "prometheus.yml")
    configured = yaml.safe_load((folder / "prometheus.yml").read_text())
    operator = home.operator_token.read_text().strip()
    files = {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file()
    }

    assert 0 == checked.returncode, checked.stdout + checked.stderr
    shipped = {str(path.relative_to(FILES)) for path in FILES.rglob("*") if path.is_file()}
    assert {*shipped, "prometheus.yml", "metrics.token", "ca.pem"} == files.keys()
    assert scrape_token(Access(operator)) == files["metrics.token"].strip()
    assert not any(operator in text for text in files.values())
    assert 0o600 == stat.S_IMODE((folder / "metrics.token").stat().st_mode)
    centre, site = configured["scrape_configs"]
    assert ("https", "/metrics", [{"targets": ["centre.example:8443"]}]) == tuple(
        centre[each] for each in ("scheme", "metrics_path", "static_configs")
    )
    assert [{"targets": ["10.0.0.7:8471"]}] == site["static_configs"]


def test_somebody_s_own_configuration_stays(home: Home, tmp_path: Path) -> None:
    """/etc/prometheus is a folder that people will name."""
    (tmp_path / "prometheus.yml").write_text("global: {}\n")

    refused = export(home, tmp_path)

    assert 6 == refused.returncode
    assert 3 == len(refused.stderr.splitlines())
    assert "global: {}\n" == (tmp_path / "prometheus.yml").read_text()
    assert not (tmp_path / "metrics.token").exists()


def test_a_place_that_is_no_folder_is_said_to_be_none(home: Home, tmp_path: Path) -> None:
    """A file that has the name stays as it was."""
    (tmp_path / "taken").write_text("mine")

    refused = export(home, tmp_path / "taken")

    assert 4 == refused.returncode
    assert "mine" == (tmp_path / "taken").read_text()
