"""The probing child: `python -P -m agent.probe`. What models can run on here, confined as they are.

numpy and a runtime are loaded here and never in the agent's own process; a driver in a child of
its own, for it may hang or crash.
"""

import json
import sys
from typing import TYPE_CHECKING, Any

from agent.children.leash import said
from agent.workers.confine import confine, seal
from models import runtime
from models.delegate import Delegate
from models.errors import ModelError

if TYPE_CHECKING:
    from models.values import Library

_MEMORY_BYTES = 4 * 1024**3
_CPU_S = 60


def main() -> int:
    """Try the library that is asked for, or all that are installed; or a driver with one."""
    confine(supervisor=int(sys.argv[1]))
    asked: dict[str, Any] = json.loads(sys.stdin.buffer.read(16 * 1024))
    driver = asked.get("delegate")
    delegate = None if driver is None else Delegate.from_json(driver)
    in_force = seal((), memory_bytes=_MEMORY_BYTES, start_cpu_s=_CPU_S, delegate=delegate)
    wanted: Library | None = asked["library"]
    found: dict[str, str] = {}
    wrong: ModelError | None = None
    for library in (wanted,) if wanted else runtime.available():
        try:
            found[library] = runtime.check(library, delegate)
        except ModelError as error:
            wrong = error
    if not found and wrong is not None:
        said("failed", {"reason": wrong.reason, "message": str(wrong)[:250]})
    else:
        said("done", {"libraries": found, "sandbox": in_force})
    return 0


if __name__ == "__main__":
    sys.exit(main())
