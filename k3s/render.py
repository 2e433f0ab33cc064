"""A site's objects, from values to YAML. Pure: the same values give the same bytes.

What the pod may do, and why not less:

- It runs as an ordinary user, with a read-only root, no capability, the
  runtime's own seccomp profile, and no API token unless the site's owner granted
  something. Accelerators come from a device plugin or as single devices; nothing
  is ever `privileged`.
- The ledger lives in a folder of the node (`hostPath`), not in an `emptyDir`,
  which goes with the pod: an agent that is upgraded would wake without its
  identity and join as another device, without what it had to tell, and, offline,
  without a model. A DaemonSet has no volume per node to claim instead. That one
  volume is why the namespace can't enforce Pod Security's `restricted` level; it
  warns and audits by it, so that anything else that strays is seen. The folder is
  made beforehand for the agent's user (`STATE_USER`), because a pod that is not
  root could not write into one that the kubelet makes.
- The join runs in an init container and only while there is no identity: a node
  that boots without a network must serve.
"""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence

import yaml

from k3s.values import Grant, SiteConfig

NAME = "skerry-agent"
LEASE = "skerry-site"
STATE_USER = 10001
"""Who runs the agent, and must own the folder that `state_path` names, on each node."""

Json = None | bool | int | str | Sequence["Json"] | Mapping[str, "Json"]
Object = dict[str, Json]

_HOME = "/var/lib/skerry"
_LABELS: dict[str, Json] = {
    "app.kubernetes.io/name": NAME,
    "app.kubernetes.io/part-of": "skerry",
    "app.kubernetes.io/managed-by": "skerry",
}
_SELECTOR: dict[str, Json] = {"app.kubernetes.io/name": NAME}
_JOIN = (
    f'test -e {_HOME}/identity/join.json || exec skerry-agent join "$CENTRE_URL" '
    f'--name "$NODE_NAME" --site "$SITE" --home {_HOME}'
)


def render(site: SiteConfig, token: str | None = None) -> tuple[Object, ...]:
    """Return all objects of a site, in the order in which they can be applied.

    Args:
        site: what differs between sites.
        token: the join token; None: the Secret that `site.join_token` names is there already.
    """
    config = _config_map(site)
    return (
        _namespace(site),
        _service_account(site),
        *_access(site),
        *(() if token is None else (_secret(site, token),)),
        config,
        _daemon_set(site, config),
    )


def to_yaml(objects: Sequence[Object]) -> str:
    """Return objects as one YAML stream."""
    return str(
        yaml.safe_dump_all(
            objects, sort_keys=False, explicit_start=True, allow_unicode=True, width=100
        )
    )


def _object(
    kind: str, version: str, name: str, namespace: str | None, body: Mapping[str, Json]
) -> Object:
    place: dict[str, Json] = {} if namespace is None else {"namespace": namespace}
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, **place, "labels": dict(_LABELS)},
        **body,
    }


def _namespace(site: SiteConfig) -> Object:
    made = _object("Namespace", "v1", site.namespace, None, {})
    made["metadata"] = {
        "name": site.namespace,
        "labels": {
            **_LABELS,
            "pod-security.kubernetes.io/enforce": "privileged",  # for the hostPath, nothing else
            "pod-security.kubernetes.io/warn": "restricted",
            "pod-security.kubernetes.io/audit": "restricted",
        },
    }
    return made


def _service_account(site: SiteConfig) -> Object:
    body: dict[str, Json] = {"automountServiceAccountToken": False}
    return _object("ServiceAccount", "v1", NAME, site.namespace, body)


def _access(site: SiteConfig) -> Iterator[Object]:
    """Give what was granted, and the Lease that says which agent uses it; else nothing at all."""
    if not site.grants:
        return
    # `create` can't be held to a name: an object that is not there yet has none to compare with.
    lease: list[Json] = [
        _rule("coordination.k8s.io", ["leases"], ["create"]),
        {
            **_rule("coordination.k8s.io", ["leases"], ["get", "update", "patch"]),
            "resourceNames": [LEASE],
        },
    ]
    yield from _role(site, f"{NAME}-lease", site.namespace, lease)
    for grant in site.grants:
        yield from _role(site, NAME, grant.namespace, _granted(grant))


def _granted(grant: Grant) -> list[Json]:
    return [_rule(rule.group, rule.resources, rule.verbs) for rule in grant.rules]


def _rule(group: str, resources: Sequence[str], verbs: Sequence[str]) -> dict[str, Json]:
    return {"apiGroups": [group], "resources": list(resources), "verbs": list(verbs)}


def _role(site: SiteConfig, name: str, namespace: str, rules: list[Json]) -> Iterator[Object]:
    group = "rbac.authorization.k8s.io"
    yield _object("Role", f"{group}/v1", name, namespace, {"rules": rules})
    yield _object(
        "RoleBinding",
        f"{group}/v1",
        name,
        namespace,
        {
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": site.namespace}],
        },
    )


def _config_map(site: SiteConfig) -> Object:
    settings: dict[str, Json] = {"CENTRE_URL": site.centre_url, "SITE": site.site}
    return _object("ConfigMap", "v1", NAME, site.namespace, {"data": settings})


def _secret(site: SiteConfig, token: str) -> Object:
    # Not `stringData`: the cluster never keeps that, so every apply would find it changed.
    written = base64.b64encode(token.encode()).decode()
    body: dict[str, Json] = {"type": "Opaque", "data": {site.join_token.key: written}}
    return _object("Secret", "v1", site.join_token.name, site.namespace, body)


def _daemon_set(site: SiteConfig, config: Object) -> Object:
    # A changed ConfigMap starts no pod again by itself; a changed template does.
    written = json.dumps(config["data"], sort_keys=True).encode()
    template: dict[str, Json] = {
        "metadata": {
            "labels": dict(_LABELS),
            "annotations": {"skerry/config-sha256": hashlib.sha256(written).hexdigest()},
        },
        "spec": _pod(site),
    }
    body: dict[str, Json] = {
        "spec": {
            "selector": {"matchLabels": _SELECTOR},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "template": template,
        }
    }
    return _object("DaemonSet", "apps/v1", NAME, site.namespace, body)


def _pod(site: SiteConfig) -> Json:
    placed: dict[str, Json] = (
        {"nodeSelector": dict(sorted(site.node_selector.items()))} if site.node_selector else {}
    )
    devices: list[Json] = [
        {"name": f"device-{number}", "hostPath": {"path": device, "type": "CharDevice"}}
        for number, device in enumerate(site.devices)
    ]
    return {
        "serviceAccountName": NAME,
        "automountServiceAccountToken": bool(site.grants),
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        **placed,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": STATE_USER,
            "runAsGroup": STATE_USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [_joining(site)],
        "containers": [_agent(site)],
        "volumes": [
            {"name": "state", "hostPath": {"path": site.state_path, "type": "Directory"}},
            {"name": "scratch", "emptyDir": {"sizeLimit": "256Mi"}},
            *devices,
        ],
    }


def _joining(site: SiteConfig) -> Json:
    token: Json = {
        "secretKeyRef": {
            "name": site.join_token.name,
            "key": site.join_token.key,
            "optional": True,  # a used token may be deleted, and the node still boots
        }
    }
    options = "".join(f" --label {key}={value}" for key, value in sorted(site.labels.items()))
    if site.library is not None:
        options += f" --library {site.library}"
    return {
        "name": "join",
        "image": site.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/sh", "-c", _JOIN + options],
        "env": [
            {"name": "SKERRY_TOKEN", "valueFrom": token},
            {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        ],
        "envFrom": [{"configMapRef": {"name": NAME}}],
        "securityContext": _confined(),
        "resources": _resources(site, {}),
        "volumeMounts": _mounts(),
    }


def _agent(site: SiteConfig) -> Json:
    library = [] if site.library is None else ["--library", site.library]
    devices: list[Json] = [
        {"name": f"device-{number}", "mountPath": device}
        for number, device in enumerate(site.devices)
    ]
    listen = f"0.0.0.0:{site.port}"
    accelerators = dict(sorted(site.accelerators.items()))
    return {
        "name": "agent",
        "image": site.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["skerry-agent", "run", "--home", _HOME, "--listen", listen, *library],
        "ports": [{"name": "oip", "containerPort": site.port, "protocol": "TCP"}],
        # The first start checks every bundle at rest; nothing is killed for being slow at that.
        "startupProbe": _probe("live", period_s=5, failures=60),
        "livenessProbe": _probe("live", period_s=10, failures=6),
        "readinessProbe": _probe("ready", period_s=5, failures=3),
        "securityContext": _confined(),
        "resources": _resources(site, accelerators),
        "volumeMounts": [*_mounts(), *devices],
    }


def _probe(state: str, *, period_s: int, failures: int) -> Json:
    """Ask the Open Inference Protocol's own health endpoints."""
    return {
        "httpGet": {"path": f"/v2/health/{state}", "port": "oip"},
        "periodSeconds": period_s,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _confined() -> Json:
    return {
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def _resources(site: SiteConfig, accelerators: Mapping[str, int]) -> Json:
    """Return requests and limits; Kubernetes wants extended resources to be equal in both."""
    numbers: dict[str, Json] = {name: str(number) for name, number in accelerators.items()}
    return {
        "requests": {
            "cpu": _cpu(site.cpu_request_millis),
            "memory": _memory(site.memory_request_mib),
            **numbers,
        },
        "limits": {"memory": _memory(site.memory_limit_mib), **numbers},
    }


def _cpu(millis: int) -> str:
    """Return a quantity as the cluster writes it: written otherwise, it would look changed."""
    return f"{millis}m" if millis % 1000 else str(millis // 1000)


def _memory(mib: int) -> str:
    """Return a quantity as the cluster writes it: in the largest unit that leaves it whole."""
    units = ["Mi", "Gi", "Ti"]
    while mib % 1024 == 0 and len(units) > 1:
        mib, units = mib // 1024, units[1:]
    return f"{mib}{units[0]}"


def _mounts() -> list[Json]:
    return [
        {"name": "state", "mountPath": _HOME},
        {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108  # the pod's own, empty at start
    ]
