"""What a site gets, on a live API server: taken, kept as it was said, and unchanged the next time.

Where SKERRY_TEST_KUBECONFIG names the kubeconfig of a cluster to try things on. It all
happens in a namespace that is made for it and deleted; no node is selected, so no pod starts.
"""

import dataclasses
import json
import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from k3s.render import Object, render, to_yaml
from k3s.values import SiteConfig
from tests.k3s.test_render import SITES

pytestmark = pytest.mark.lab

NAMED_BY = "SKERRY_TEST_KUBECONFIG"


def kubectl(*words: str, given: object = "") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["kubectl", "--kubeconfig", os.environ[NAMED_BY], *words],  # noqa: S607  # any
        input=str(given), capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert 0 == done.returncode, done.stderr
    return done


def apply(objects: tuple[Object, ...], *options: str) -> dict[str, str]:
    """Return what became of each object, in one word: created, configured, unchanged."""
    done = kubectl("apply", *options, "-f", "-", given=to_yaml(objects))
    return dict(line.split()[:2] for line in done.stdout.splitlines())


def is_in(made: object, kept: object) -> bool:
    """Whether all that was said is there; a cluster adds its defaults."""
    if isinstance(made, Mapping) and isinstance(kept, Mapping):
        return all(key in kept and is_in(value, kept[key]) for key, value in made.items())
    if isinstance(made, list | tuple) and isinstance(kept, list):
        return len(made) == len(kept) and all(map(is_in, made, kept))
    return made == kept


@pytest.fixture
def namespace() -> Iterator[str]:
    if NAMED_BY not in os.environ:
        pytest.skip(f"no cluster to try it on: let {NAMED_BY} name a kubeconfig")
    name = f"skerry-test-{secrets.token_hex(4)}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


def placed(site: SiteConfig, namespace: str) -> SiteConfig:
    """Return a site in this namespace, on no node."""
    return dataclasses.replace(
        site,
        namespace=namespace,
        node_selector={**site.node_selector, "skerry/test": namespace},
        grants=tuple(dataclasses.replace(each, namespace=namespace) for each in site.grants),
    )


@pytest.mark.parametrize("name", SITES)
def test_a_cluster_takes_a_site_and_keeps_it_as_it_was_said(namespace: str, name: str) -> None:
    """A dry run leaves nothing behind; what is applied is all there; a second time is none."""
    objects = render(placed(SITES[name], namespace), "token")
    apply(objects, "--dry-run=server")
    left = kubectl("get", "daemonsets,secrets,roles", "--namespace", namespace, "--output=name")
    assert "" == left.stdout

    first = apply(objects)
    kept: Any = json.loads(
        kubectl("get", "--output=json", "-f", "-", given=to_yaml(objects)).stdout
    )
    again = apply(objects)

    # The namespace was there, as a person might have made it.
    assert {"created"} == {word for made, word in first.items() if made[:10] != "namespace/"}
    assert len(objects) == len(first) == len(kept["items"])
    for made, there in zip(objects, kept["items"], strict=True):
        assert is_in(made, there), made
    assert dict.fromkeys(first, "unchanged") == again


def test_another_token_changes_the_secret_alone(namespace: str) -> None:
    """More nodes may join later, and no pod is started again for it."""
    site = placed(SITES["plain"], namespace)
    first = apply(render(site, "token"))

    again = apply(render(site, "another"))

    assert dict.fromkeys(first, "unchanged") | {"secret/skerry-join": "configured"} == again


@pytest.mark.parametrize("name", SITES)
def test_the_folder_is_all_that_pod_security_objects_to(namespace: str, name: str) -> None:
    """`restricted` warns of volumes that are the node's, and of nothing else."""
    objects = render(placed(SITES[name], namespace), "token")
    apply(objects)  # the namespace says that it wants to be warned
    restarted = json.loads(json.dumps(objects))
    restarted[-1]["spec"]["template"]["metadata"]["annotations"]["again"] = "yes"

    warned = kubectl("apply", "-f", "-", given=to_yaml(restarted)).stderr

    (said,) = [line for line in warned.splitlines() if "PodSecurity" in line]
    assert said.partition('": ')[2].startswith("restricted volume types (volume"), said
    assert said.endswith('restricted volume type "hostPath")'), said
