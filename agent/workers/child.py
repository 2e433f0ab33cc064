"""One model in one process: `python -P -m agent.workers.child SOCKET REGION SUPERVISOR`.

Gives up what it does not need, opens the model, and from there on answers one
request after another until its socket closes. It never decides anything: when
it is stuck it is killed from outside. numpy and the runtime are imported only
after everything is given up.
"""

import mmap
import os
import socket
import sys
from typing import TYPE_CHECKING

from agent.wire.reasons import Reason
from agent.workers import frames
from agent.workers.confine import confine, seal
from agent.workers.frames import AnswerFrame, Failure
from models.errors import ModelError

if TYPE_CHECKING:
    from agent.workers.model import Model
    from agent.workers.values import Launch

START_CPU_S = 120
"""Of computing, for a worker to become ready: as long as it may take on one core."""


def main(arguments: list[str]) -> int:
    """Serve the model that the supervisor names, until the socket closes."""
    socket_number, region_number, supervisor = (int(argument) for argument in arguments)
    confine(supervisor=supervisor)
    with socket.socket(fileno=socket_number) as channel:
        first = frames.parse_request(channel.recv(frames.FRAME_LIMIT_BYTES))
        launch = frames.parse_launch(os.pread(region_number, first.length, 0))
        in_force = seal(
            (launch.model, launch.card, launch.golden),
            memory_bytes=launch.memory_bytes,
            start_cpu_s=START_CPU_S,
            delegate=launch.delegate,
        )
        opened = _open(launch, in_force)
        status, content, region_bytes = (
            (500, frames.render_failure(opened), 0)
            if isinstance(opened, Failure)
            else (200, frames.render_report(opened.report), opened.region_bytes)
        )
        os.ftruncate(region_number, max(region_bytes, len(content)))
        os.pwrite(region_number, content, 0)
        channel.send(
            frames.render_answer(AnswerFrame(sequence=0, status=status, length=len(content)))
        )
        if isinstance(opened, Failure):
            return 1
        with mmap.mmap(region_number, 0) as mapped, memoryview(mapped) as region:
            while raw := channel.recv(frames.FRAME_LIMIT_BYTES):
                answer = opened.answer(frames.parse_request(raw), region)
                channel.send(frames.render_answer(answer))
    return 0


def _open(launch: "Launch", in_force: tuple[str, ...]) -> "Model | Failure":
    try:
        from agent.workers.model import open_model  # noqa: PLC0415  # numpy, only once confined

        return open_model(launch, in_force)
    except ModelError as error:
        return Failure(reason=Reason(error.reason), message=str(error))
    except MemoryError:
        return Failure(reason=Reason.OUT_OF_MEMORY, message=_too_small(launch))
    except ImportError as error:
        if "failed to map" in str(error):  # what the dynamic linker says at the end of the memory
            return Failure(reason=Reason.OUT_OF_MEMORY, message=_too_small(launch))
        # A module of ours that is missing is our defect, not a runtime to install.
        ours = (error.name or "").partition(".")[0] in {"agent", "models"}
        reason = Reason.INTERNAL if ours else Reason.RUNTIME_MISSING
        return Failure(reason=reason, message=f"a part of the worker: {error}")


def _too_small(launch: "Launch") -> str:
    bundle = f"{launch.bundle.name}:{launch.bundle.version}"
    return f"{bundle} doesn't fit in {launch.memory_bytes} bytes of address space"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
