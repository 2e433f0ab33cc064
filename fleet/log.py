"""The centre's log: lines of JSON on standard error, which no cause may fill alone.

Rules: a line has its time by the centre's clock, and the trace of the rollout it is
about, where it is about one; no cause takes more than its ration of a minute, and what
was held back is counted in a later line; no line is long. A trace of our own defects has
no values of variables in it: one of them may be a key.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, WrappedLogger

from agent.wire.ration import Ration

_TEXT_LIMIT = 1000
_CAUSE = ("event", "logger", "rollout", "deployment", "state", "phase", "reason")
"""What tells one cause from another. Never the device: there may be 100,000 of them."""


class _Rationed:
    """Drops what a cause says too often, and says later how much that was."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._ration = now, Ration()
        self._lock = threading.Lock()  # lines come from threads, too

    def __call__(self, _logger: WrappedLogger, _name: str, said: EventDict) -> EventDict:
        cause = " ".join(str(said[name]) for name in _CAUSE if said.get(name))
        with self._lock:
            now = self._now()
            if not self._ration.admit(cause, now):
                raise structlog.DropEvent
            if owed := self._ration.owed(now):
                said["held_back"] = owed
        return said


def _shortened(_logger: WrappedLogger, _name: str, said: EventDict) -> EventDict:
    for name, value in said.items():
        if isinstance(value, str) and len(value) > _TEXT_LIMIT:
            said[name] = value[:_TEXT_LIMIT] + "…"
    return said


class _Others(logging.Handler):
    """What libraries say by the standard library's log, in lines as ours."""

    def emit(self, record: logging.LogRecord) -> None:
        fields: Mapping[str, object] = {"logger": record.name}
        if record.exc_info:
            fields = {**fields, "exc_info": record.exc_info}
        structlog.get_logger("fleet.others").log(record.levelno, record.getMessage(), **fields)


def configure(stream: TextIO, *, now: Callable[[], float] = time.monotonic) -> None:  # noqa: TID251  # lines come from threads that have no loop
    """Send the log of this process to a stream."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _Rationed(now),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
            _shortened,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Others()], force=True)
