"""What a site gets, against Kubernetes' own OpenAPI schema: each field, its type, nothing unknown.

The schema is that of one release, as JSON Schema and strict, out of the
kubernetes-validate wheel (Apache-2.0), fetched for the tests and not shipped.
"""

import copy
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource

from k3s.render import render
from k3s.values import SiteConfig
from tests.k3s.test_render import SITES

WHEEL = "kubernetes-validate==1.37.0"
WHEEL_SHA256 = "85136d018a27b50ec7fc049d902bfa5193f5976807e6c0f408e3ab6fe078cad9"
RELEASE = "v1.34.0"
"""Of Kubernetes; K3s has the same numbers."""

Validate = Callable[[Any], None]


@pytest.fixture(scope="module")
def validate(tmp_path_factory: pytest.TempPathFactory) -> Validate:
    folder = tmp_path_factory.mktemp("wheel")
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--dest={folder}"]
    done = subprocess.run(
        [*command, "--require-hashes", f"--requirement={wanted}"],
        capture_output=True, text=True, check=False, timeout=180,
    )  # fmt: skip
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        pytest.skip(f"{WHEEL} can't be fetched, so nothing is shown: {done.stderr.strip()[-200:]}")
    place = f"kubernetes_validate/kubernetes-json-schema/{RELEASE}-local-strict"
    with zipfile.ZipFile(wheels[0]) as wheel:
        definitions = json.loads(wheel.read(f"{place}/_definitions.json"))
        names = set(wheel.namelist())

        def schema_of(made: Any) -> Any:  # noqa: ANN401  # JSON
            group, _, version = made["apiVersion"].rpartition("/")
            words = [made["kind"].lower(), group.partition(".")[0], version]
            name = f"{place}/{'-'.join(word for word in words if word)}.json"
            assert name in names, f"Kubernetes has no {made['kind']} of {made['apiVersion']}"
            return json.loads(wheel.read(name))

        kinds = {
            each["kind"]: schema_of(each) for site in SITES.values() for each in everything(site)
        }
    known = Registry().with_resource(
        "_definitions.json",
        Resource.from_contents(
            {"$schema": "http://json-schema.org/draft-07/schema#", **definitions}
        ),
    )

    def check(made: Any) -> None:  # noqa: ANN401  # JSON
        jsonschema.Draft7Validator(kinds[made["kind"]], registry=known).validate(made)

    return check


def everything(site: SiteConfig) -> list[Any]:
    """Return a site's objects, with its token."""
    return list(render(site, "skerry-join-token"))


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("name", SITES)
def test_a_site_is_what_kubernetes_takes(validate: Validate, name: str) -> None:
    """Every object, with the Secret that comes along."""
    objects = everything(SITES[name])

    assert "Secret" in {made["kind"] for made in objects}
    for made in objects:
        validate(made)


@pytest.mark.real
@pytest.mark.slow
def test_the_schema_judges(validate: Validate) -> None:
    """A misspelt field, one in the wrong place, a number where a text must be: each is refused."""
    (made,) = [each for each in everything(SITES["plain"]) if each["kind"] == "DaemonSet"]
    validate(made)

    def harmed(change: Callable[[Any], object]) -> Any:  # noqa: ANN401  # JSON
        other = copy.deepcopy(made)
        change(other)
        return other

    pod = ("spec", "template", "spec")

    def pod_of(other: Any) -> Any:  # noqa: ANN401  # JSON
        for word in pod:
            other = other[word]
        return other

    for wrong in (
        harmed(lambda other: pod_of(other).update(nodeSelecter={"a": "b"})),
        harmed(lambda other: other["spec"].update(nodeSelector={"a": "b"})),
        harmed(lambda other: pod_of(other)["containers"][0]["ports"][0].update(containerPort="80")),
        harmed(lambda other: other["spec"].pop("selector")),
    ):
        with pytest.raises(jsonschema.ValidationError):
            validate(wrong)
