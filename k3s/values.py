"""What a site's cluster gets, as values. Pure; a wrong value can't be built.

Nothing in here can ask for a privileged pod, a host's network or a rule with a
wildcard: what the site's owner grants is listed, kind by kind.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z")
_DNS_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?\Z")
_LABEL_KEY = re.compile(
    r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z"
)
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?\Z")
_RESOURCE = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]{0,61})\Z")
_IMAGE = re.compile(
    r"[a-z0-9]([a-z0-9._:/-]{0,250}[a-z0-9])?"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}|@sha256:[0-9a-f]{64})\Z"
)
_URL = re.compile(r"https://[A-Za-z0-9.\[\]:-]{1,253}(/[A-Za-z0-9._/-]{0,200})?\Z")
_NODE_PATH = re.compile(r"(/[A-Za-z0-9][A-Za-z0-9._-]{0,62}){1,8}\Z")
_WORD = re.compile(r"[a-z][a-z0-9.-]{0,62}(/[a-z]{1,20})?\Z")
_VERBS = frozenset({"get", "list", "watch", "create", "update", "patch", "delete"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKey:
    """A key of a Secret that is in the cluster, or comes with the site (`render`)."""

    name: str
    key: str = "token"

    def __post_init__(self) -> None:
        _require(_DNS_NAME, "a Secret's name", self.name)
        _require(_LABEL_VALUE, "a Secret's key", self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Kinds, by their API group and plural name, and what may be done with them. No wildcard."""

    group: str
    resources: tuple[str, ...]
    verbs: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.group:  # the core group has no name
            _require(_DNS_NAME, "an API group", self.group)
        for resource in self.resources:
            _require(_WORD, "a resource", resource)
        # `escalate`, `bind` and `impersonate` would let the agent give itself more.
        if wrong := sorted(set(self.verbs) - _VERBS):
            raise ValueError(f"not a verb that can be granted: {wrong[0][:80]!r}")
        if not (self.resources and self.verbs):
            raise ValueError("a rule names at least one resource and one verb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the site's owner lets the agents do in one namespace, which is there already."""

    namespace: str
    rules: tuple[Rule, ...]

    def __post_init__(self) -> None:
        _require(_DNS_LABEL, "a namespace", self.namespace)
        if not self.rules:
            raise ValueError(f"the grant for {self.namespace!r} has no rule")


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteConfig:
    """One site: which nodes run an agent, from what image, and what it may use.

    Args:
        centre_url: where devices join; broker and registry addresses come with
            the answer, so that they can move without touching a cluster.
        image: with a tag or a digest. Never `latest`: a pod that is started
            again offline, or rolled back, must be the same bytes.
        join_token: made for as many uses as there are nodes. May be deleted
            once they joined.
        site: the site's name at the centre.
        node_selector: which nodes run an agent. Empty: all of them.
        labels: given to each device when it joins.
        accelerators: device-plugin resources each agent asks for, with their
            number (`squat.ai/edgetpu`: 1). The plugin opens the device; the pod
            needs no privilege.
        devices: character devices of the node that the container sees. Whether
            it may open them is the container runtime's word (its device cgroup),
            so prefer `accelerators` where there is a plugin.
        library: the TFLite runtime in the image, None for the one that is there.
        grants: what the agents may do through the API server. None of them: the
            pod gets no API token at all.
        state_path: the folder on the node that holds the ledger, the identity
            and the bundles.
        memory_limit_mib: for the agent and all its workers.
        cpu_request_millis: what the scheduler reserves; there is no CPU limit,
            which would only slow answers while the node is idle.
    """

    centre_url: str
    image: str
    join_token: SecretKey
    site: str
    namespace: str = "skerry"
    node_selector: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    accelerators: Mapping[str, int] = field(default_factory=dict)
    devices: tuple[str, ...] = ()
    library: str | None = None
    grants: tuple[Grant, ...] = ()
    port: int = 8471
    state_path: str = "/var/lib/skerry"
    memory_limit_mib: int = 1024
    memory_request_mib: int = 256
    cpu_request_millis: int = 100

    def __post_init__(self) -> None:
        _require(_URL, "an https URL", self.centre_url)
        _require(_IMAGE, "an image with a tag or digest", self.image)
        if self.image.endswith(":latest"):
            raise ValueError(f"{self.image!r} is whatever it is today; name a version or digest")
        _require(_DNS_LABEL, "a site", self.site)
        _require(_DNS_LABEL, "a namespace", self.namespace)
        for labels in (self.node_selector, self.labels):
            for key, value in labels.items():
                _require(_LABEL_KEY, "a label's name", key)
                _require(_LABEL_VALUE, "a label's value", value)
        for resource, number in self.accelerators.items():
            _require(_RESOURCE, "a device-plugin resource", resource)
            _require_between(resource, number, 1, 64)
        for device in self.devices:
            _require(_NODE_PATH, "a device", device)
            if not device.startswith("/dev/"):
                raise ValueError(f"{device!r} is not under /dev")
        if self.library not in {None, "litert", "tflite"}:
            raise ValueError(f"no such library: {str(self.library)[:80]!r}; litert or tflite")
        _require(_NODE_PATH, "a folder on the node", self.state_path)
        _require_unique("namespace", [grant.namespace for grant in self.grants])
        _require_unique("device", self.devices)
        _require_between("port", self.port, 1024, 65535)
        _require_between("memory_request_mib", self.memory_request_mib, 64, self.memory_limit_mib)
        _require_between("memory_limit_mib", self.memory_limit_mib, 64, 1 << 20)
        _require_between("cpu_request_millis", self.cpu_request_millis, 10, 64_000)


def _require(pattern: re.Pattern[str], what: str, value: str) -> None:
    if not pattern.match(value):
        raise ValueError(f"not {what}: {value[:80]!r}")


def _require_between(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} is {value}; it must be between {least} and {most}")


def _require_unique(what: str, values: Sequence[str]) -> None:
    if len(set(values)) != len(values):
        raise ValueError(f"the same {what} twice")
