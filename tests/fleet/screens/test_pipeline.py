"""The pipeline in `docs/examples`: its steps, run as they stand, plan and then apply."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet.identity.places import Home
from fleet.store.engine import Store
from tests.fleet.centre.served import TOKEN
from tests.fleet.screens.quay import Quay, quay_of

DOCS = Path(__file__).parents[3] / "docs"
ACTION = yaml.safe_load((DOCS / "examples" / "github-action.yaml").read_text())
REFERENCE = (DOCS / "reference" / "skerry.md").read_text()


@pytest.fixture
async def quay(home: Home, store: Store, tmp_path: Path) -> AsyncIterator[Quay]:
    async with quay_of(home, store, tmp_path) as served:
        yield served


def steps(job: str) -> list[Mapping[str, Any]]:
    """Return the steps of a job that run something."""
    return [each for each in ACTION["jobs"][job]["steps"] if "run" in each]


def test_the_commands_of_its_steps_are_in_the_reference() -> None:
    """With each of their options; and it runs for pull requests and merges alone."""
    said = "\n".join(each["run"] for job in ACTION["jobs"] for each in steps(job))
    typed = re.findall(r"skerry (\w+) ([^|>\n]*)", said)
    sections = dict(re.findall(r"(?ms)^## `skerry (\w+)`$(.*?)(?=^## |\Z)", REFERENCE))

    assert {"diff", "apply"} == {word for word, _ in typed}
    for word, rest in typed:
        known = re.findall(r"(--?[a-z][a-z-]*)(?=[`,])", sections[word])
        assert set(re.findall(r"(?<!\S)--?[a-z]+", rest)) <= set(known)
    assert {"pull_request", "push"} == set(ACTION[True])  # YAML reads `on` as yes


async def carried_out(quay: Quay, job: str, folder: Path) -> str:
    """Run the steps of a job as a runner does, each in a shell that stops at the first error."""
    told = {"vars.SKERRY_CENTRE": quay.people.url, "secrets.SKERRY_TOKEN": TOKEN}
    summary = folder / "summary"
    for step in steps(job):
        given = {**ACTION["jobs"][job]["env"], **step.get("env", {})}
        values = {
            name: re.sub(r"\$\{\{ (\S+) \}\}", lambda found: told[found[1]], str(value))
            for name, value in given.items()
        }
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        github = {"GITHUB_STEP_SUMMARY": str(summary), "GITHUB_SHA": "0" * 40}
        process = await asyncio.create_subprocess_exec(
            *("bash", "-e", "-c", step["run"]),
            cwd=folder,
            env={"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8", **github, **values},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(90):
            out, _ = await process.communicate()
        assert process.returncode == 0, (step["name"], out.decode())
    return summary.read_text() if summary.exists() else ""


async def test_a_pull_request_plans_and_a_merge_applies(quay: Quay, tmp_path: Path) -> None:
    """On the documents of the examples; the token is gone afterwards, and again does nothing."""
    folder = tmp_path / "repository"
    shutil.copytree(DOCS / "examples" / "fleet", folder / "fleet")
    devices = folder / "fleet" / "devices.yaml"
    devices.write_text(devices.read_text().replace("pi-1", "d-1"))

    planned = await carried_out(quay, "plan", folder)
    assert re.search(r"create +policy +nightly", planned)
    assert re.search(r"start +rollout +digits", planned)
    assert (await quay.ask())["rollouts"] == []

    await carried_out(quay, "apply", folder)
    await carried_out(quay, "apply", folder)
    (rollout,) = (await quay.ask())["rollouts"]
    assert rollout["state"] == "running"
    assert not (folder / "operator.token").exists()
    (folder / "summary").unlink()
    assert re.search(r"nothing +rollout +digits", await carried_out(quay, "plan", folder))


async def test_the_documents_on_the_page_can_be_applied(quay: Quay, tmp_path: Path) -> None:
    """As they stand, but for the device's name."""
    (text,) = re.findall(r"(?ms)^```yaml\n(.*?)^```", (DOCS / "pipelines.md").read_text())
    path = tmp_path / "page.yaml"
    path.write_text(text.replace("name: pi-1", "name: d-1"))
    ended = await quay.people.skerry("apply", "-f", str(path), "--yes")
    assert ended.code == 0, ended.err
