"""The model inside its worker: opened from checked bytes, judged, then asked. Imports numpy.

Nothing answers here that has not passed its golden vectors in this very
process, with this runtime and these threads.
"""

import hashlib
import math
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import orjson

from agent.workers import oip
from agent.workers.beside import alike
from agent.workers.examine import examine
from agent.workers.frames import REGION_LIMIT_BYTES, AnswerFrame, RequestFrame, render_agreement
from agent.workers.oip import Signature
from agent.workers.tensors import Array, OipError
from agent.workers.values import Launch, ReadyReport, Verdict
from models import runtime
from models.card import Card, Tensor
from models.card_codec import parse
from models.errors import CorruptError, RefusedError
from models.judge import judge
from models.limits import BLOB_LIMIT_BYTES, CARD_LIMIT_BYTES
from models.runtime import Runner
from models.values import Digest, Library

_HEADROOM_BYTES = 64 * 1024
"""Names, ids and parameters around the tensors."""

_TEXT_PER_BYTE = 16
"""JSON bytes of one tensor byte: `-128, ` is 6 for one, an indented FP32 below 30 for four."""

_TEXT_LIMIT_BYTES = 64 * 1024 * 1024
"""Above this a tensor is sent as binary: its JSON would take seconds to read."""

_VARIABLE_BYTES = 1024 * 1024
"""Taken for a tensor one of whose dimensions may vary."""


class Model:
    """A judged model that answers requests, one at a time."""

    def __init__(
        self, *, launch: Launch, card: Card, runner: Runner, report: ReadyReport, region_bytes: int
    ) -> None:
        self.report = report
        self.region_bytes = region_bytes
        self._runner, self._card = runner, card
        self._shadow_tolerance = launch.shadow_tolerance
        self._signature = signature_of(launch, card)

    def answer(self, frame: RequestFrame, region: memoryview) -> AnswerFrame:
        """Answer the request in the region, there. What is wrong becomes an answer too."""
        try:
            return self._answer(frame, region)
        except OipError as error:
            return _refusal(frame, region, error.status, str(error))
        except RefusedError as error:
            return _refusal(frame, region, 500, str(error))
        except MemoryError:
            return _refusal(
                frame, region, 500, "the worker's memory limit does not allow this request"
            )

    def _answer(self, frame: RequestFrame, region: memoryview) -> AnswerFrame:
        begun = time.perf_counter_ns()
        body = oip.decompress(
            region[: frame.length], frame.encoding, limit_bytes=self.report.body_limit_bytes
        )
        request = oip.read_request(body, frame.json_length, self._signature)
        read = time.perf_counter_ns()
        results = self._runner.run(request.arrays)
        run = time.perf_counter_ns()
        if frame.beside_length:
            return self._compared(frame, region, results)
        length, json_length = oip.write_answer(region, request, results, self._signature)
        return AnswerFrame(
            sequence=frame.sequence,
            status=200,
            length=length,
            json_length=json_length,
            input_ns=read - begun,
            compute_ns=run - read,
            output_ns=time.perf_counter_ns() - run,
        )

    def _compared(
        self, frame: RequestFrame, region: memoryview, results: Sequence[Array]
    ) -> AnswerFrame:
        """Say in the region whether another model's answer, which lies there, says the same."""
        beside = region[frame.length : frame.length + frame.beside_length]
        others = oip.read_answer(beside, frame.beside_json_length, self._signature)
        agreed = alike(self._card, results, others, tolerance=self._shadow_tolerance)
        content = render_agreement(agreed=agreed)
        region[: len(content)] = content
        return AnswerFrame(sequence=frame.sequence, status=200, length=len(content))


def open_model(launch: Launch, sandbox: tuple[str, ...]) -> Model:
    """Open, judge and reset the model.

    Raises:
        RefusedError: the card, the model or the golden vectors are not what they must be, the
            runtime is missing or broken, or the golden vectors disagree (GOLDEN_MISMATCH).
        CorruptError: DIGEST_MISMATCH, a file is not what it was when it was verified.
    """
    card = parse(_read(launch.card, CARD_LIMIT_BYTES))
    region_bytes, body_limit_bytes = _sizes(card)
    content = _read(launch.model, BLOB_LIMIT_BYTES)
    _check("model", content, launch.variant)
    golden = _read(launch.golden, BLOB_LIMIT_BYTES)
    _check("golden vectors", golden, card.golden.digest)
    before = _resident_bytes()
    runner = runtime.open_model(
        content, library=_library(launch), threads=launch.threads, delegate=launch.delegate
    )
    judgement = judge(card, golden, runner)
    if not judgement.passed:
        raise RefusedError(judgement.reason or "GOLDEN_MISMATCH", judgement.message)
    examination = None
    if launch.examines:
        grown = max(0, _resident_bytes() - before)
        examination = examine(launch, card, content, golden, runner, memory_bytes=grown)
    runner.reset()  # requests meet a model that remembers nothing
    report = ReadyReport(
        library=runner.library,
        library_version=runner.version,
        verdict=Verdict(
            vectors=judgement.vectors,
            agreed=judgement.agreed,
            largest=judgement.largest,
            mean=judgement.mean,
        ),
        metadata=oip.metadata(signature_of(launch, card)),
        body_limit_bytes=body_limit_bytes,
        sandbox=sandbox,
        start_s=0.0,
        examination=examination,
    )
    return Model(launch=launch, card=card, runner=runner, report=report, region_bytes=region_bytes)


def signature_of(launch: Launch, card: Card) -> Signature:
    """Return what the model takes and gives, under the names that clients use here."""
    return Signature(
        name=launch.deployment,
        version=launch.bundle.version,
        inputs=card.inputs,
        outputs=card.outputs,
    )


def _resident_bytes() -> int:
    """Return the memory that this process has, not what it has only reserved."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _library(launch: Launch) -> Library:
    match launch.library:
        case "litert" | "tflite":
            return launch.library
        case other:
            raise RefusedError("RUNTIME_MISSING", f"no runtime is called {other!r}")


def _read(path: Path, limit_bytes: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except OSError as error:
        raise RefusedError("BUNDLE_INCOMPLETE", f"{path.name}: {error.strerror}") from error
    if len(content) > limit_bytes:
        raise RefusedError("TOO_LARGE", f"{path.name} has more than {limit_bytes} bytes")
    return content


def _check(what: str, content: bytes, digest: Digest) -> None:
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
        raise CorruptError("DIGEST_MISMATCH", f"the {what} on disk is not {digest}")


def _sizes(card: Card) -> tuple[int, int]:
    """Return the bytes of the shared region, and of the largest request that makes sense."""
    for tensor in (*card.inputs, *card.outputs):
        if not tensor.datatype.size_bytes:
            raise RefusedError(
                "MODEL_UNSUPPORTED", f"{tensor.name} is {tensor.datatype}, which is not served yet"
            )
    request, answer = _carried(card.inputs), _carried(card.outputs)
    region_bytes = max(request, answer)
    if region_bytes > REGION_LIMIT_BYTES:
        raise RefusedError(
            "MODEL_UNSUPPORTED",
            f"its tensors take {region_bytes} bytes; at most {REGION_LIMIT_BYTES} are carried",
        )
    return region_bytes, request


def _carried(tensors: tuple[Tensor, ...]) -> int:
    plain = sum(
        _VARIABLE_BYTES
        if -1 in tensor.shape
        else math.prod(tensor.shape) * tensor.datatype.size_bytes
        for tensor in tensors
    )
    return _HEADROOM_BYTES + max(plain, min(_TEXT_PER_BYTE * plain, _TEXT_LIMIT_BYTES))


def _refusal(frame: RequestFrame, region: memoryview, status: int, message: str) -> AnswerFrame:
    content = orjson.dumps({"error": message})
    region[: len(content)] = content
    return AnswerFrame(sequence=frame.sequence, status=status, length=len(content))
