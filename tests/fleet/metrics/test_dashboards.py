"""Dashboards as files: found again by their uid, of any Prometheus, of what there is, readable."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent.page.exposition import FAMILIES as OF_DEVICES
from fleet.metrics.families import FORBIDDEN_LABELS
from tests.fleet.metrics.test_prometheus_rules import FILES, known, names_in, promtool

BOARDS = {path.stem: path for path in sorted((FILES / "dashboards").glob("*.json"))}
UIDS = {
    "centre": "skerry-centre",
    "fleet": "skerry-fleet",
    "models": "skerry-models",
    "rollouts": "skerry-rollouts",
    "site": "skerry-site",
}


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(BOARDS[name].read_text())
    return found


def queries(board: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in board["panels"] for target in panel["targets"]]


def test_the_five_keep_their_names() -> None:
    """A uid is an address: links and provisioning hold on to it."""
    assert UIDS == {name: read(name)["uid"] for name in BOARDS}


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_says_what_it_shows_and_of_which_prometheus(name: str) -> None:
    """A title, a unit, a place of its own, and the data source that the viewer chose."""
    board = read(name)
    variables = {each["name"]: each["type"] for each in board["templating"]["list"]}

    assert "datasource" == variables["datasource"]
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["targets"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        for each in (panel, *panel["targets"]):
            assert {"type": "prometheus", "uid": "${datasource}"} == each["datasource"]
    places = [tuple(panel["gridPos"].values()) for panel in board["panels"]]
    assert len(set(places)) == len(places)
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


def device_names() -> set[str]:
    ends = ("", "_bucket", "_sum", "_count")
    return {f"{each.name}{end}" for each in OF_DEVICES for end in ends}


@pytest.mark.parametrize("name", BOARDS)
def test_panels_ask_only_for_what_there_is_and_for_no_individual(name: str) -> None:
    """No panel is empty for a typing mistake, and none has a line a device."""
    found = known() | (device_names() if name == "site" else set())
    for query in queries(read(name)):
        assert names_in(query) <= found, query
        assert not FORBIDDEN_LABELS & set(re.findall(r"[a-z_]+", query)), query
        for grouped in re.findall(r"by \(([^)]*)\)", query):
            assert "instance" not in grouped, query


@pytest.mark.real("promtool")
@pytest.mark.parametrize("name", BOARDS)
def test_every_query_is_one(name: str, tmp_path: Path) -> None:
    """Prometheus's own parser reads each."""
    asked = [each.replace("$__rate_interval", "5m") for each in queries(read(name))]
    rules = [{"record": f"panel:{number}", "expr": each} for number, each in enumerate(asked)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": name, "rules": rules}]}))

    checked = promtool("check", "rules", file)

    assert 0 == checked.returncode, checked.stdout + checked.stderr
