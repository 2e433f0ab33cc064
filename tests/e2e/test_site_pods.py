"""What `skerry site join` writes, carried out as a kubelet would: its own commands, env, volumes.

There is no cluster here: each node is a folder, and its pod's containers are
processes, started with exactly what the YAML says. Only two things differ: the
paths of volumes are the node's folder, and each node has a port of its own.
"""

import base64
import os
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.scene import SKERRY, Centre, Program, free_port, run, until

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow]

IMAGE = "registry.example/skerry-agent:0.1.0"
Objects = dict[str, Any]


class Node(Program):
    """One node of a cluster that holds these objects."""

    def __init__(self, folder: Path, name: str, objects: Objects) -> None:
        super().__init__(folder / f"{name}.log")
        self.name, self.objects = name, objects
        self.state = folder / name
        self.state.mkdir(mode=0o700)
        self.port = free_port()

    @property
    def pod(self) -> Any:  # noqa: ANN401  # read as a kubelet reads YAML
        return self.objects["DaemonSet"]["spec"]["template"]["spec"]

    def environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        env = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        for source in container.get("envFrom", []):
            assert source["configMapRef"]["name"] == self.objects["ConfigMap"]["metadata"]["name"]
            env |= self.objects["ConfigMap"]["data"]
        for each in container.get("env", []):
            if "fieldRef" in each["valueFrom"]:
                assert "spec.nodeName" == each["valueFrom"]["fieldRef"]["fieldPath"]
                env[each["name"]] = self.name
            elif (secret := self.objects.get("Secret")) is not None:
                wanted = each["valueFrom"]["secretKeyRef"]
                assert wanted["name"] == secret["metadata"]["name"]
                env[each["name"]] = base64.b64decode(secret["data"][wanted["key"]]).decode()
            else:
                assert each["valueFrom"]["secretKeyRef"]["optional"]
        return env

    def command(self, container: Mapping[str, Any]) -> list[str]:
        (place,) = [
            each["mountPath"] for each in container["volumeMounts"] if each["name"] == "state"
        ]
        said = [word.replace(place, str(self.state)) for word in container["command"]]
        return [f"127.0.0.1:{self.port}" if word == "0.0.0.0:8471" else word for word in said]

    def joins(self) -> subprocess.CompletedProcess[str]:
        (container,) = self.pod["initContainers"]
        words = self.command(container)
        environment = self.environment(container)
        return run("env", "-i", *(f"{key}={value}" for key, value in environment.items()), *words)

    def start(self) -> None:
        (container,) = self.pod["containers"]
        environment = self.environment(container)
        words = [f"{key}={value}" for key, value in environment.items()]
        self.start_as("env", "-i", *words, *self.command(container))
        until(self._listening, what=f"{self.name} listening")

    def _listening(self) -> bool:
        assert self.alive(), self.tail()
        return any(line.get("event") == "serving" for line in self.said())


@pytest.fixture
def nodes() -> Iterator[list[Node]]:
    made: list[Node] = []
    yield made
    with ExitStack() as all_of_them:
        for node in made:
            all_of_them.callback(node.dismiss)


def test_a_sites_nodes_join_and_outlive_their_token(
    island: Centre, tmp_path: Path, nodes: list[Node]
) -> None:
    """As many as were meant, with their site and labels; a pod is started again without it."""
    path = tmp_path / "porto.yaml"
    made = island.skerry(
        *("site", "join", "porto", "--url", str(island.where["url"]), "--image", IMAGE),
        *("--nodes", "2", "--label", "room=oven", "--out", path),
    )
    assert 0 == made.returncode, made.stderr
    assert "2 nodes may join with it until" in made.stderr
    assert 0o600 == stat.S_IMODE(path.stat().st_mode), "it holds a token"
    objects = {each["kind"]: each for each in yaml.safe_load_all(path.read_text())}
    nodes += [Node(tmp_path, f"node-{number}", objects) for number in (1, 2, 3)]

    for node in nodes[:2]:
        joined = node.joins()
        assert 0 == joined.returncode, joined.stderr
        node.start()
    too_many = nodes[2].joins()
    assert 0 != too_many.returncode
    assert "TOKEN_USED" in too_many.stderr
    until(lambda: 2 == len(_online(island)), what="two nodes of the site")
    for device in _online(island):
        assert ("porto", "oven") == (device["site"], device["labels"]["room"])
    assert {"node-1", "node-2"} == {device["name"] for device in _online(island)}

    # The pod is started again, by a cluster whose owner has deleted the token since.
    del objects["Secret"]
    first = nodes[0]
    before = {device["name"]: device["id"] for device in _online(island)}
    assert 0 == first.end()
    again = first.joins()
    assert (0, "", "") == (again.returncode, again.stdout, again.stderr)
    until(lambda: 1 == len(_online(island)), what="the first node gone")
    first.start()
    until(lambda: 2 == len(_online(island)), what="the node that was started again")
    assert before == {device["name"]: device["id"] for device in _online(island)}


def test_nothing_is_written_where_no_token_can_be_had(island: Centre, tmp_path: Path) -> None:
    """The centre is away, or nobody could read the answer: what was there before stays."""
    path = tmp_path / "porto.yaml"
    path.write_text("before")
    words = ("site", "join", "porto", "--url", str(island.where["url"]), "--image", IMAGE)
    before = island.ask("GET", "/api/v1/tokens")
    for place in (tmp_path, tmp_path / "none" / "porto.yaml"):
        refused = island.skerry(*words, "--out", place)
        assert (4, "", 3) == (refused.returncode, refused.stdout, refused.stderr.count("\n"))
    assert before == island.ask("GET", "/api/v1/tokens"), "no token was made for nobody"
    assert 0 == island.end()
    away = island.skerry(*words, "--out", path)
    assert (5, "", 3) == (away.returncode, away.stdout, away.stderr.count("\n"))
    assert "before" == path.read_text()


def test_a_token_that_nobody_got_is_told(island: Centre) -> None:
    """It was made, and then there was no room for it: until when it is good is said."""
    words = ["site", "join", "porto", "--url", str(island.where["url"]), "--image", IMAGE]
    said = run("sh", "-c", 'exec "$@" > /dev/full', "sh", SKERRY, *words, "--home", island.home)

    (token,) = island.ask("GET", "/api/v1/tokens")["tokens"]
    assert (4, "", 3) == (said.returncode, said.stdout, said.stderr.count("\n"))
    assert f"its token stays unused until {token['expires_at']}" in said.stderr
    assert 0 == token["uses"]


def _online(centre: Centre) -> list[Any]:
    return [each for each in centre.ask("GET", "/api/v1/devices")["devices"] if each["online"]]
