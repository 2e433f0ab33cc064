"""Joining, and what keeps an identity alive: HTTP documents, not MQTT.

A device makes its key itself and sends a signing request (PKCS #10) with a
one-time token; the answer is its certificate, whose common name is the id the
centre gave it, and all it needs to live alone. Renewal, approval and
revocation are laid down here and land later: until then a certificate lives
two years.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.wire.limits import LABELS_LIMIT
from agent.wire.v1.checks import (
    check_device,
    check_fleet,
    check_name,
    check_pairs,
    check_site,
    check_text,
    check_time,
    check_unique,
    check_whole,
)
from agent.wire.v1.presence import Facts, check_facts

_PEM_LIMIT = 6 * 1024


def _check_pem(name: str, value: str) -> None:
    if not value.startswith("-----BEGIN ") or len(value) > _PEM_LIMIT:
        raise ValueError(f"{name} is not PEM of at most {_PEM_LIMIT} characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A public key the device trusts, and for what: `bundle` (models) or `desired` (documents).

    `key` is PEM (SubjectPublicKeyInfo); `id` is the sha256 of its DER form.
    """

    id: str
    use: str
    key: str

    def __post_init__(self) -> None:
        check_text(self.id)
        if self.use not in {"bundle", "desired"}:
            raise ValueError(f"a key is for 'bundle' or 'desired', not {self.use!r}")
        _check_pem("key", self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest:
    """A device asks to join. Labels are the word of who runs the command; facts, the device's."""

    token: str
    csr: str
    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    facts: Facts = field(default_factory=dict)
    site: str | None = None

    def __post_init__(self) -> None:
        check_text(self.token)
        _check_pem("csr", self.csr)
        check_name(self.name)
        check_pairs("labels", self.labels, LABELS_LIMIT)
        check_facts(self.facts)
        if self.site is not None:
            check_name(self.site)
        if wrong := [label for label in self.labels if label.startswith("skerry/")]:
            raise ValueError(f"{wrong[0]!r} is a fact's name, not a label's")


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinAnswer:
    """All a device needs to live alone: who it is, whom it trusts, where broker and registry are.

    `ca` may hold more than one certificate, so that a CA can be replaced.
    """

    fleet: str
    device: str
    certificate: str
    ca: str
    keys: tuple[TrustedKey, ...]
    broker_url: str
    registry_url: str
    site: str | None = None

    def __post_init__(self) -> None:
        check_fleet(self.fleet)
        check_device(self.device)
        _check_pem("certificate", self.certificate)
        _check_pem("ca", self.ca)
        check_text(self.broker_url)
        check_text(self.registry_url)
        check_unique("key", [key.use + key.id for key in self.keys])
        if self.site is not None:
            check_site(self.site)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewRequest:
    """A device asks for a new certificate over its present one. Draft: no reader yet."""

    device: str
    csr: str

    def __post_init__(self) -> None:
        check_device(self.device)
        _check_pem("csr", self.csr)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewAnswer:
    """The new certificate; the old one is good until a connection proves the new.

    Draft: no reader yet.
    """

    device: str
    certificate: str
    ca: str

    def __post_init__(self) -> None:
        check_device(self.device)
        _check_pem("certificate", self.certificate)
        _check_pem("ca", self.ca)


class ApprovalState(StrEnum):
    """Where a join that needs a person's approval stands."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A join that waits for, or got, a person's word. Draft: no reader yet."""

    request: str
    state: ApprovalState
    at: str
    by: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        check_name(self.request)
        check_time(self.at)
        check_text(self.by)
        check_text(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """A certificate that is no longer good, by its serial number in hexadecimal.

    Draft: no reader yet.
    """

    device: str
    serial: str
    at: str
    reason: str

    def __post_init__(self) -> None:
        check_device(self.device)
        check_name(self.serial)
        check_time(self.at)
        check_text(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationList:
    """All that is revoked, numbered: a lower number than the one held is stale.

    Draft: no reader yet.
    """

    fleet: str
    number: int
    revoked: tuple[Revocation, ...] = ()

    def __post_init__(self) -> None:
        check_fleet(self.fleet)
        check_whole("number", self.number)
