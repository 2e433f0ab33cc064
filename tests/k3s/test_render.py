"""What a site's cluster gets: exact bytes, Kubernetes' own types, no right that was not granted."""

import base64
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from k3s.render import LEASE, Object, render, to_yaml
from k3s.values import Grant, Rule, SecretKey, SiteConfig

GOLDEN = Path(__file__).parent / "golden"
PLAIN = SiteConfig(
    centre_url="https://centre.example:8443",
    image="registry.example/skerry-agent:0.1.0",
    join_token=SecretKey(name="skerry-join"),
    site="porto",
)
FULL = dataclasses.replace(
    PLAIN,
    namespace="harbour",
    node_selector={"skerry/agent": "yes", "kubernetes.io/arch": "arm64"},
    labels={"shop": "oslo", "floor": "2"},
    accelerators={"squat.ai/edgetpu": 1, "example.org/npu": 2},
    devices=("/dev/dri/renderD128",),
    library="litert",
    grants=(
        Grant(
            namespace="shop",
            rules=(
                Rule(group="apps", resources=("deployments",), verbs=("get", "list", "patch")),
                Rule(group="", resources=("configmaps", "pods/log"), verbs=("get",)),
            ),
        ),
    ),
    join_token=SecretKey(name="join", key="oslo"),
    memory_limit_mib=2048,
)
SITES = {"plain": PLAIN, "full": FULL}
MODELS = {
    "Namespace": "V1Namespace",
    "ServiceAccount": "V1ServiceAccount",
    "Role": "V1Role",
    "RoleBinding": "V1RoleBinding",
    "ConfigMap": "V1ConfigMap",
    "DaemonSet": "V1DaemonSet",
}


def as_kubernetes_reads_it(made: Mapping[str, Any]) -> Any:  # noqa: ANN401  # an untyped client
    """Return an object after a way through the client's types, which drop what they don't know."""
    api = client.ApiClient()
    read = api.deserialize(json.dumps(made), MODELS[made["kind"]], "application/json")
    return api.sanitize_for_serialization(read)  # type: ignore[no-untyped-call]


def every_value(inside: object) -> Iterator[tuple[str, object]]:
    """Yield each name and value, however deep."""
    if isinstance(inside, Mapping):
        for name, value in inside.items():
            yield str(name), value
            yield from every_value(value)
    elif isinstance(inside, list | tuple):
        for value in inside:
            yield from every_value(value)


def of_kind(objects: tuple[Object, ...], kind: str) -> list[Any]:
    return [made for made in objects if made["kind"] == kind]


def pod_of(site: SiteConfig) -> Any:  # noqa: ANN401  # read as a person reads YAML
    return of_kind(render(site), "DaemonSet")[0]["spec"]["template"]["spec"]


@pytest.mark.parametrize("name", SITES)
def test_the_bytes_are_the_golden_ones(name: str) -> None:
    """A changed golden file is a changed cluster: look at it first."""
    expected = (GOLDEN / f"{name}.yaml").read_text()

    assert expected == to_yaml(render(SITES[name]))


@pytest.mark.parametrize("name", SITES)
def test_kubernetes_knows_every_field(name: str) -> None:
    """A field that the API's own types drop is misspelt or misplaced."""
    for made in render(SITES[name]):
        assert made == as_kubernetes_reads_it(made)


def test_a_misspelt_field_would_be_seen() -> None:
    """The judge of the test above judges: an unknown field, a wrong place, a missing one."""
    [made] = of_kind(render(PLAIN), "DaemonSet")
    misspelt = json.loads(json.dumps(made))
    misspelt["spec"]["template"]["spec"]["nodeSelecter"] = {"a": "b"}
    misplaced = json.loads(json.dumps(made))
    misplaced["spec"]["nodeSelector"] = {"a": "b"}
    incomplete = json.loads(json.dumps(made))
    del incomplete["spec"]["selector"]

    assert misspelt != as_kubernetes_reads_it(misspelt)
    assert misplaced != as_kubernetes_reads_it(misplaced)
    with pytest.raises(ValueError, match="selector"):
        as_kubernetes_reads_it(incomplete)


@pytest.mark.parametrize("name", SITES)
def test_the_yaml_reads_back_as_the_objects(name: str) -> None:
    """No text turns into a number or a truth on the way."""
    objects = render(SITES[name])

    assert list(objects) == list(yaml.safe_load_all(to_yaml(objects)))


def test_the_order_of_mappings_makes_no_difference() -> None:
    """The same site is the same bytes, so that nothing is written when nothing changed."""
    turned = dataclasses.replace(
        FULL,
        node_selector=dict(reversed(list(FULL.node_selector.items()))),
        labels=dict(reversed(list(FULL.labels.items()))),
        accelerators=dict(reversed(list(FULL.accelerators.items()))),
    )

    assert to_yaml(render(FULL)) == to_yaml(render(turned))


@pytest.mark.parametrize("name", SITES)
def test_nothing_is_privileged(name: str) -> None:
    """No container may do more than an ordinary user with no capability, wherever it stands."""
    pod = pod_of(SITES[name])
    named = dict(every_value(pod))

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostPort", "add"} & named.keys()


@pytest.mark.parametrize("name", SITES)
def test_the_token_is_only_named(name: str) -> None:
    """No Secret is rendered, and the token is in no command line."""
    objects = render(SITES[name])
    pod = pod_of(SITES[name])

    assert of_kind(objects, "Secret") == []
    [token] = [each for each in pod["initContainers"][0]["env"] if each["name"] == "SKERRY_TOKEN"]
    assert token["valueFrom"]["secretKeyRef"]["name"] == SITES[name].join_token.name
    assert token["valueFrom"]["secretKeyRef"]["optional"] is True
    assert "TOKEN" not in json.dumps([each["command"] for each in pod["initContainers"]])
    assert "env" not in pod["containers"][0]


@pytest.mark.parametrize("name", SITES)
def test_a_token_that_comes_along_is_in_the_secret_alone(name: str) -> None:
    """One more object, which the pod's join reads; all others are the same bytes."""
    objects = render(SITES[name], "sk1.secret")
    [secret] = of_kind(objects, "Secret")
    wanted = SITES[name].join_token

    assert wanted.name == secret["metadata"]["name"]
    assert b"sk1.secret" == base64.b64decode(secret["data"][wanted.key])
    assert render(SITES[name]) == tuple(each for each in objects if each["kind"] != "Secret")


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ({"memory_limit_mib": 1536}, "1536Mi"),
        ({"memory_limit_mib": 1024}, "1Gi"),
        ({"memory_limit_mib": 3 << 10}, "3Gi"),
        ({"memory_limit_mib": 1 << 20}, "1Ti"),
        ({"memory_limit_mib": 512}, "512Mi"),
        ({"cpu_request_millis": 1500}, "1500m"),
        ({"cpu_request_millis": 2000}, "2"),
    ],
)
def test_quantities_are_written_as_the_cluster_writes_them(
    said: dict[str, int], written: str
) -> None:
    """Otherwise `kubectl apply` would find a change each time."""
    [agent] = pod_of(dataclasses.replace(PLAIN, **said))["containers"]  # type: ignore[arg-type]
    [name] = said
    part, what = ("limits", "memory") if name == "memory_limit_mib" else ("requests", "cpu")

    assert written == agent["resources"][part][what]


def test_without_a_grant_there_is_no_right_and_no_api_token() -> None:
    """Least rights begin at none."""
    objects = render(PLAIN)

    assert of_kind(objects, "Role") == of_kind(objects, "RoleBinding") == []
    assert pod_of(PLAIN)["automountServiceAccountToken"] is False


def test_a_grant_gives_what_it_lists_and_the_lease() -> None:
    """In the namespaces it names, bound to this one account, and nothing with a wildcard."""
    objects = render(FULL)
    roles = {
        (role["metadata"]["namespace"], role["metadata"]["name"]): role["rules"]
        for role in of_kind(objects, "Role")
    }

    assert roles == {
        ("harbour", "skerry-agent-lease"): [
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "verbs": ["create"],
            },
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "verbs": ["get", "update", "patch"],
                "resourceNames": [LEASE],
            },
        ],
        ("shop", "skerry-agent"): [
            {
                "apiGroups": ["apps"],
                "resources": ["deployments"],
                "verbs": ["get", "list", "patch"],
            },
            {"apiGroups": [""], "resources": ["configmaps", "pods/log"], "verbs": ["get"]},
        ],
    }
    for binding in of_kind(objects, "RoleBinding"):
        assert [each["namespace"] for each in binding["subjects"]] == ["harbour"]
        assert (binding["metadata"]["namespace"], binding["roleRef"]["name"]) in roles
    assert not {made["kind"] for made in objects} & {"ClusterRole", "ClusterRoleBinding"}


def test_accelerators_are_asked_for_and_devices_are_shown() -> None:
    """Only by the agent, and in equal requests and limits, as Kubernetes wants it."""
    pod = pod_of(FULL)
    [agent] = pod["containers"]

    for part in ("requests", "limits"):
        assert agent["resources"][part]["squat.ai/edgetpu"] == "1"
        assert agent["resources"][part]["example.org/npu"] == "2"
    assert "squat.ai/edgetpu" not in pod["initContainers"][0]["resources"]["limits"]
    assert {"path": "/dev/dri/renderD128", "type": "CharDevice"} in [
        volume.get("hostPath") for volume in pod["volumes"]
    ]
    assert "device-0" in [mount["name"] for mount in agent["volumeMounts"]]


def test_a_changed_setting_starts_the_pods_again() -> None:
    """A ConfigMap alone would not."""

    def template(site: SiteConfig) -> Any:  # noqa: ANN401  # as above
        return of_kind(render(site), "DaemonSet")[0]["spec"]["template"]["metadata"]

    assert template(PLAIN) != template(dataclasses.replace(PLAIN, site="lisboa"))
    assert template(PLAIN) == template(dataclasses.replace(PLAIN, memory_limit_mib=512))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("centre_url", "http://centre.example"),
        ("centre_url", 'https://centre.example"; rm -rf /'),
        ("image", "registry.example/skerry-agent"),
        ("image", "registry.example/skerry-agent:latest"),
        ("site", "Porto"),
        ("namespace", "a.b"),
        ("node_selector", {"a b": "c"}),
        ("labels", {"a": "$(reboot)"}),
        ("labels", {"a;b": "c"}),
        ("accelerators", {"edgetpu": 1}),
        ("accelerators", {"squat.ai/edgetpu": 0}),
        ("devices", ("/etc/shadow",)),
        ("devices", ("/dev/../etc/shadow",)),
        ("devices", ("/dev/apex_0", "/dev/apex_0")),
        ("library", "onnx"),
        ("port", 80),
        ("state_path", "/"),
        ("state_path", "/var/../etc"),
        ("memory_limit_mib", 32),
        ("memory_request_mib", 4096),
        ("cpu_request_millis", 0),
    ],
)
def test_a_site_that_would_be_refused_or_unsafe_cant_be_built(field: str, value: object) -> None:
    """What reaches a cluster, or a shell in it, was checked where it was said."""
    with pytest.raises(ValueError, match=r"\w"):
        dataclasses.replace(PLAIN, **{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("group", "resources", "verbs"),
    [
        ("*", ("pods",), ("get",)),
        ("", ("*",), ("get",)),
        ("", ("pods",), ("*",)),
        ("rbac.authorization.k8s.io", ("roles",), ("escalate",)),
        ("", (), ("get",)),
        ("", ("pods",), ()),
    ],
)
def test_no_rule_has_a_wildcard_or_a_way_to_more(
    group: str, resources: tuple[str, ...], verbs: tuple[str, ...]
) -> None:
    """What is granted is listed."""
    with pytest.raises(ValueError, match=r"not a|not an|at least one"):
        Rule(group=group, resources=resources, verbs=verbs)


def test_a_grant_is_for_one_namespace_and_something() -> None:
    """And each namespace is granted once."""
    rule = Rule(group="", resources=("pods",), verbs=("get",))
    grant = Grant(namespace="shop", rules=(rule,))

    with pytest.raises(ValueError, match="no rule"):
        Grant(namespace="shop", rules=())
    with pytest.raises(ValueError, match="not a namespace"):
        Grant(namespace="*", rules=(rule,))
    with pytest.raises(ValueError, match="the same namespace twice"):
        dataclasses.replace(PLAIN, grants=(grant, grant))


def test_a_secret_is_named_properly() -> None:
    """Its name and key are Kubernetes' own."""
    with pytest.raises(ValueError, match="not a Secret's name"):
        SecretKey(name="Join Token")
    with pytest.raises(ValueError, match="not a Secret's key"):
        SecretKey(name="join", key="a/b")
