"""Long answers to the centre: a child packs what was asked for, and sends it by HTTP PUT.

A child, because urllib3 and TLS cost memory that the agent shall not keep.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from agent.children.converse import converse
from agent.errors import StepError
from agent.fetch.job import Credentials
from agent.upload.job import LINES_LIMIT, AnswerJob
from agent.wire.reasons import Reason

_LIMIT_S = 120.0
_NUMBER = re.compile(r"[1-9][0-9]{0,6}\Z")


async def send_log(folder: Path, credentials: Credentials, parameters: Mapping[str, str]) -> str:
    """Send the last lines of this device's log where a command says; return the answer's digest.

    Raises:
        StepError: `MALFORMED`, `NOT_FOUND` (no log), `CENTRE_UNREACHABLE`, `CENTRE_REFUSED`, ….
        OSError: no process can be made.
    """
    url, lines = answer_to(parameters), parameters.get("lines", "")
    if not _NUMBER.match(lines) or int(lines) > LINES_LIMIT:
        raise StepError(Reason.MALFORMED, f"lines is {lines[:80]!r}; 1 to {LINES_LIMIT}")
    return await _sent(
        AnswerJob(url=url, credentials=credentials, folder=str(folder), lines=int(lines))
    )


async def send_text(text: str, credentials: Credentials, parameters: Mapping[str, str]) -> str:
    """Send a text where a command says; return the answer's digest.

    Raises:
        StepError: `MALFORMED`, `CENTRE_UNREACHABLE`, `CENTRE_REFUSED`, ….
        OSError: no process can be made.
    """
    return await _sent(AnswerJob(url=answer_to(parameters), credentials=credentials, text=text))


def answer_to(parameters: Mapping[str, str]) -> str:
    """Return where the answer to a command goes.

    Raises:
        StepError: `MALFORMED`: it says no such place.
    """
    url = parameters.get("answer_to", "")
    if not url.startswith("https://"):
        raise StepError(Reason.MALFORMED, f"answer_to is {url[:80]!r}; an https URL is expected")
    return url


async def _sent(job: AnswerJob) -> str:
    done = await converse("agent.upload", job.to_json(), deadline_s=_LIMIT_S)
    return str(done["digest"])
