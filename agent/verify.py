"""The verifying child: `python -P -m agent.verify`. Envelope and keys in, payload or reason out.

Cryptography is imported here, runs a moment, and its memory goes back.
"""

import base64
import json
import sys

from agent.children.leash import die_with_the_agent, said
from agent.wire.limits import DOCUMENT_LIMIT_BYTES
from models import keys
from models.errors import ModelError

_JOB_LIMIT_BYTES = 256 * 1024


def main() -> int:
    """Do the job that is on the standard input; return 0 whenever there is a verdict."""
    die_with_the_agent(int(sys.argv[1]))
    job = json.loads(sys.stdin.buffer.read(_JOB_LIMIT_BYTES))
    try:
        payload, key = keys.admit(
            base64.b64decode(job["envelope"]),
            job["payload_type"],
            [keys.PublicKey.from_pem(pem) for pem in job["keys"]],
            limit_bytes=DOCUMENT_LIMIT_BYTES,
        )
    except ModelError as error:
        said("failed", {"reason": error.reason, "message": str(error)[:250]})
    else:
        said("done", {"payload": base64.b64encode(payload).decode(), "key": key})
    return 0


if __name__ == "__main__":
    sys.exit(main())
