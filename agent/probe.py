"""The probing child: `python -P -m agent.probe`. Which runtimes work here, and their versions.

numpy and a runtime are loaded here and never in the agent's own process.
"""

import json
import sys
from typing import TYPE_CHECKING

from agent.children.leash import die_with_the_agent, said
from models import runtime
from models.errors import ModelError

if TYPE_CHECKING:
    from models.values import Library


def main() -> int:
    """Try the library that is asked for, or all that are installed."""
    die_with_the_agent(int(sys.argv[1]))
    wanted: Library | None = json.loads(sys.stdin.buffer.read(1024))["library"]
    found: dict[str, str] = {}
    wrong: ModelError | None = None
    for library in (wanted,) if wanted else runtime.available():
        try:
            found[library] = runtime.check(library)
        except ModelError as error:
            wrong = error
    if not found and wrong is not None:
        said("failed", {"reason": wrong.reason, "message": str(wrong)[:250]})
    else:
        said("done", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
