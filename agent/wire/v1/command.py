"""`command` and `result`: bounded requests with an id and an expiry. Commands are signed (DSSE).

A device may refuse by its own policy and says so. Bulk answers (logs) go by
HTTP PUT; the result then names the blob by digest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from agent.wire.limits import FACTS_LIMIT
from agent.wire.v1.checks import (
    check_device,
    check_digest,
    check_fleet,
    check_name,
    check_pairs,
    check_time,
)
from agent.wire.v1.reported import Problem


class Verb(StrEnum):
    """What may be asked of a device."""

    LOGS = "logs"
    DOCTOR = "doctor"
    BENCHMARK = "benchmark"
    SELF_TEST = "self-test"


class ResultStatus(StrEnum):
    """How a command ended."""

    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A request of one device, void after `expires_at`."""

    fleet: str
    target: str
    id: str
    verb: Verb
    issued_at: str
    expires_at: str
    parameters: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fleet(self.fleet)
        check_device(self.target)
        check_name(self.id)
        check_time(self.issued_at)
        check_time(self.expires_at)
        check_pairs("parameters", self.parameters, FACTS_LIMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a command ended, with a short answer or the digest of a long one."""

    fleet: str
    device: str
    id: str
    status: ResultStatus
    at: str
    answer: Mapping[str, str] = field(default_factory=dict)
    blob: str | None = None
    problem: Problem | None = None

    def __post_init__(self) -> None:
        check_fleet(self.fleet)
        check_device(self.device)
        check_name(self.id)
        check_time(self.at)
        check_pairs("answers", self.answer, FACTS_LIMIT)
        if self.blob is not None:
            check_digest(self.blob)
