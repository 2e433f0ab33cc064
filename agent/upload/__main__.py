"""The uploading child: a job on its standard input, a verdict on its standard output."""

import gzip
import hashlib
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import urllib3
from urllib3.exceptions import HTTPError

from agent import log
from agent.children.leash import die_with_the_agent, said
from agent.fetch.tls import client_context
from agent.upload.job import AnswerJob
from agent.wire.limits import ANSWER_LIMIT_BYTES
from agent.wire.reasons import Reason
from models.errors import ModelError, TransientError

_JOB_LIMIT_BYTES = 256 * 1024
_ERROR_LIMIT_BYTES = 1024
_CONNECT_LIMIT_S = 10.0
_STALL_LIMIT_S = 30.0


def main() -> int:
    """Do the job that is on the standard input; return 0 whenever there is a verdict."""
    die_with_the_agent(int(sys.argv[1]))
    job = AnswerJob.from_json(sys.stdin.buffer.read(_JOB_LIMIT_BYTES))
    try:
        packed = pack(_lines(job))
        _put(job, packed)
    except ModelError as error:
        said("failed", {"reason": error.reason, "message": str(error)[:250]})
    else:
        said("done", {"digest": "sha256:" + hashlib.sha256(packed).hexdigest()})
    return 0


def pack(lines: Sequence[str], limit_bytes: int = ANSWER_LIMIT_BYTES) -> bytes:
    """Return lines, packed; where they are too many, the newest that fit.

    A cut is told in a first line of its own.
    """
    kept = list(lines)
    while len(packed := _packed(kept, len(lines))) > limit_bytes:
        kept = kept[(len(kept) + 1) // 2 :]
    return packed


def _packed(kept: list[str], of: int) -> bytes:
    cut = f'{{"event": "older log lines left out", "count": {of - len(kept)}}}\n'
    text = "".join(kept if len(kept) == of else [cut, *kept])
    return gzip.compress(text.encode(errors="replace"), mtime=0)


def _lines(job: AnswerJob) -> Sequence[str]:
    if job.folder is None:
        return job.text.splitlines(keepends=True)
    return _last_lines(Path(job.folder), job.lines)


def _last_lines(folder: Path, count: int) -> Sequence[str]:
    try:
        return deque(log.read(folder), maxlen=count)
    except FileNotFoundError as error:
        raise TransientError(Reason.NOT_FOUND, "this device keeps no log") from error
    except OSError as error:
        raise TransientError(Reason.INTERNAL, f"the log can't be read: {error}"[:250]) from error


def _put(job: AnswerJob, packed: bytes) -> None:
    try:
        context = client_context(job.credentials)
    except OSError as error:
        raise TransientError(
            Reason.CENTRE_REFUSED, f"the device's own identity can't be read: {error}"[:250]
        ) from error
    timeout = urllib3.Timeout(connect=_CONNECT_LIMIT_S, read=_STALL_LIMIT_S)
    headers = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
    with urllib3.PoolManager(timeout=timeout, retries=False, ssl_context=context) as pool:
        try:
            answer = pool.request(
                "PUT", job.url, body=packed, headers=headers, redirect=False, preload_content=False
            )
        except (HTTPError, OSError) as error:
            raise TransientError(Reason.CENTRE_UNREACHABLE, f"{job.url}: {error}"[:250]) from error
        words = answer.read(_ERROR_LIMIT_BYTES).decode(errors="replace")
        answer.close()
    if not 200 <= answer.status < 300:  # noqa: PLR2004  # HTTP: successful
        raise TransientError(
            Reason.CENTRE_REFUSED, f"the centre answered {answer.status}: {words}"[:250]
        )


if __name__ == "__main__":
    sys.exit(main())
