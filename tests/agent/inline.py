"""An executor without threads, for tests on loop time."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Inline(ThreadPoolExecutor):
    """Does at once what the agent gives to a thread.

    Loop time leaps over whatever a real thread takes: a day would pass before the ledger is read.
    """

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:  # noqa: ANN401  # its own signature
        done: Future[Any] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001  # whoever waits for it hears of it
            done.set_exception(error)
        return done
