"""Long answers to the centre: a child packs what was asked for, and sends it by HTTP PUT.

A child, because urllib3 and TLS cost memory that the agent shall not keep.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from agent.children.converse import converse
from agent.errors import StepError
from agent.fetch.job import Credentials
from agent.upload.job import LINES_LIMIT, LogJob
from agent.wire.reasons import Reason

_LIMIT_S = 120.0
_NUMBER = re.compile(r"[1-9][0-9]{0,6}\Z")


async def send_log(folder: Path, credentials: Credentials, parameters: Mapping[str, str]) -> str:
    """Send the last lines of this device's log where a command says; return the answer's digest.

    Raises:
        StepError: `MALFORMED`, `NOT_FOUND` (no log), `CENTRE_UNREACHABLE`, `CENTRE_REFUSED`, ….
        OSError: no process can be made.
    """
    lines, url = parameters.get("lines", ""), parameters.get("answer_to", "")
    if not _NUMBER.match(lines) or int(lines) > LINES_LIMIT:
        raise StepError(Reason.MALFORMED, f"lines is {lines[:80]!r}; 1 to {LINES_LIMIT}")
    if not url.startswith("https://"):
        raise StepError(Reason.MALFORMED, f"answer_to is {url[:80]!r}; an https URL is expected")
    job = LogJob(url=url, folder=str(folder), lines=int(lines), credentials=credentials)
    done = await converse("agent.upload", job.to_json(), deadline_s=_LIMIT_S)
    return str(done["digest"])
