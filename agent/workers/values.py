"""What the supervisor and its workers say to each other, as values.

Pure, and free of numpy: the supervisor moves bytes and never looks into a
tensor. A model is a program, so whatever a worker says of itself is checked
before it becomes one of these.
"""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from agent.wire.v1.desired import BundleRef
from models.delegate import Delegate
from models.values import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """All that is needed to start (and start again) a worker.

    `model`, `card` and `golden` are files that are only ever replaced by
    rename; `variant` is the digest the model's bytes must have. `library` is
    `litert` or `tflite`. `timeout_s` ends a call that does not end.
    `memory_bytes` bounds the worker's address space (RLIMIT_AS), which counts
    libraries and reservations too: it is a fence against runaway models, not
    what the worker uses. `delegate` is the driver of the accelerator it runs on;
    None is the CPU. A worker that `examines` measures itself before it is ready.
    `shadow_tolerance` is how far its answers may be from another model's to agree with them.
    """

    deployment: str
    revision: int
    bundle: BundleRef
    model: Path
    variant: Digest
    card: Path
    golden: Path
    library: str
    threads: int
    timeout_s: float
    memory_bytes: int
    delegate: Delegate | None = None
    examines: bool = False
    shadow_tolerance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How the golden vectors went in this very worker: errors seen per output, in its units."""

    vectors: int
    agreed: int
    largest: tuple[float, ...]
    mean: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What a worker measured of itself over the golden inputs.

    `latency_p50_s` is of `runs` calls, without the way to the worker and back;
    `memory_bytes` by how much its resident memory grew with the model.
    `reference` says how its answers compare with the CPU's: `agrees`, `is it`
    (it runs on the CPU itself), or why there is no comparison.
    """

    runs: int
    latency_p50_s: float
    memory_bytes: int
    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyReport:
    """What a worker says when its golden vectors agreed and it may take requests.

    `metadata` is the body of the Open Inference Protocol's model metadata,
    composed where the card was read. `body_limit_bytes` is the largest request
    that can make sense for these tensors. `sandbox` names what confines the worker.
    `start_s` is from spawn to ready.
    """

    library: str
    library_version: str
    verdict: Verdict
    metadata: bytes
    body_limit_bytes: int
    sandbox: tuple[str, ...]
    start_s: float
    examination: Examination | None = None


class Encoding(IntEnum):
    """How a request's body is compressed; the worker undoes it, within the body limit."""

    IDENTITY = 0
    GZIP = 1
    DEFLATE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to one inference request, of a worker or of the supervisor in its stead.

    `body` is JSON; with `json_length` not None, that many bytes of JSON and
    then raw tensors. A `status` other than 200 has `{"error": …}` as its body.
    """

    status: int
    body: bytes
    json_length: int | None = None
    queue_ns: int = 0
    input_ns: int = 0
    compute_ns: int = 0
    output_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One inference request, as it came."""

    body: bytes
    json_length: int | None
    encoding: Encoding = Encoding.IDENTITY
