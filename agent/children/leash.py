"""What a short-lived child of ours does: not outlive the agent, and say its verdict in one line."""

import ctypes
import json
import os
import resource
import signal

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_the_agent(agent: int) -> None:
    """Be killed when the agent dies, and dump no core (it would hold keys).

    Args:
        agent: the agent's process id, as it gave it: only so is a parent that is process 1 told
            from the one that orphans get. In a container the agent is process 1 itself.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.getppid() != agent:
        raise SystemExit("the agent is gone")


def said(kind: str, what: object) -> None:
    """Say one line to the agent."""
    print(json.dumps({kind: what}), flush=True)  # noqa: T201  # the pipe to the agent
