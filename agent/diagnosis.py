"""What the centre may ask of this device, done: its log, the doctor, a benchmark, a self-test.

A benchmark and a self-test start each model that serves once more, apart from it, confined as it
is, behind every other process; what serves is not touched. Both are bounded in time, and neither
begins while an update is tried here, or what serves is started or chosen again, nor goes on when
that begins: its measurements would be ours.
What is said of a model are numbers about it: no input, and no answer to one.
"""

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.answers import Done, Work
from agent.children.converse import converse
from agent.errors import StepError
from agent.fetch.job import Credentials
from agent.home import Home
from agent.plan import STARTING, Action, Step
from agent.state import Examined, Installed, Record, text
from agent.upload import answer_to, send_log, send_text
from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from models.delegate import Delegate

LIMIT_S = 180.0
"""For all models of a device together: one takes some seconds, a slow one on a slow card more."""

_DOCTOR_LIMIT_S = 240.0
"""It waits 5 s for each of who doesn't answer, and a minute for a runtime on a slow card."""

TRYING = frozenset(
    {
        Phase.STAGING,
        Phase.TESTING,
        Phase.SHADOWING,
        Phase.ACTIVATING,
        Phase.PROBATION,
        Phase.ROLLING_BACK,
    }
)
"""Phases in which something is measured, or workers are started."""

_DONE_AGAIN = {Action.RESTORE: "started again", Action.CHOOSE_AGAIN: "chosen again"}

Examine = Callable[[Installed, bool], Awaitable[Examined]]
"""Starts a way to serve once more; measures it, too, where that is asked for. `StepError`s."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The device that is asked, and how its agent was started."""

    home: Home
    credentials: Credentials
    host: str
    port: int
    library: str | None
    delegates: tuple[Delegate, ...]


class Diagnosis:
    """Does what is asked. `wake` is called whenever a deployment has moved, or a step begins.

    `steps` are those that are taken now.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        records: Callable[[], Mapping[str, Record]],
        steps: Callable[[], Iterable[Step]],
        examine: Examine,
        clock: Callable[[], str],
    ) -> None:
        self._subject, self._records, self._steps = subject, records, steps
        self._examine, self._clock = examine, clock
        self._limit: asyncio.Timeout | None = None
        self._cut = ""

    def works(self) -> Mapping[v1.Verb, Work]:
        """Return what is done for each verb."""
        return {
            v1.Verb.LOGS: self._logs,
            v1.Verb.DOCTOR: self._doctor,
            v1.Verb.BENCHMARK: self._benchmark,
            v1.Verb.SELF_TEST: self._self_test,
        }

    def wake(self) -> None:
        """End what would disturb an update that has just begun."""
        if self._limit is None or self._limit.expired() or self._cut:
            return
        self._cut = self._updated()
        if self._cut:
            self._limit.reschedule(asyncio.get_running_loop().time())

    async def _logs(self, parameters: Mapping[str, str]) -> Done:
        subject = self._subject
        return Done(blob=await send_log(subject.home.log, subject.credentials, parameters))

    async def _doctor(self, parameters: Mapping[str, str]) -> Done:
        answer_to(parameters)
        subject = self._subject
        job = {
            "home": str(subject.home.path),
            "host": subject.host,
            "port": subject.port,
            "library": subject.library,
            "delegates": [each.to_json() for each in subject.delegates],
            "now": self._clock(),
        }
        found = await converse("agent.doctor", job, deadline_s=_DOCTOR_LIMIT_S)
        wrong = [each for each in found["checks"] if each["verdict"] == "wrong"]
        said = "; ".join(f"{each['check']}: {each['what']}" for each in wrong)
        return await self._told(parameters, found, said or f"{len(found['checks'])} checks")

    async def _benchmark(self, parameters: Mapping[str, str]) -> Done:
        return await self._examined(parameters, "benchmark", measures=True)

    async def _self_test(self, parameters: Mapping[str, str]) -> Done:
        return await self._examined(parameters, "self-test", measures=False)

    async def _examined(self, parameters: Mapping[str, str], kind: str, *, measures: bool) -> Done:
        """Examine all that serves, one after the other, and say what that cost."""
        answer_to(parameters)
        if busy := self._updated():
            raise StepError(Reason.UPDATE_UNDER_WAY, f"{busy} here")
        serving = [name for name, each in self._records().items() if each.current]
        if not serving:
            raise StepError(Reason.NOT_FOUND, "nothing serves here")
        begun_s, load = asyncio.get_running_loop().time(), os.getloadavg()[0]
        rows = await self._rows(serving, measures=measures)
        taken = [each["cpu_s"] for each in rows if each["cpu_s"] is not None]
        found = {
            "schema": f"skerry.agent-{kind}/1",
            "at": self._clock(),
            "ok": all(each["reason"] is None for each in rows),
            "deployments": rows,
            "cost": {
                "wall_s": round(asyncio.get_running_loop().time() - begun_s, 3),
                "cpu_s": round(sum(taken), 3),
                "load_before": round(load, 2),
                "cores": os.cpu_count() or 1,
            },
        }
        return await self._told(parameters, found, "; ".join(map(_in_words, rows)))

    async def _rows(self, serving: list[str], *, measures: bool) -> list[Row]:
        """Return what became of each; those that there was no time for say so.

        Each is tried the way that serves when its turn comes.
        """
        ends = asyncio.get_running_loop().time() + LIMIT_S
        rows = []
        for name in serving:
            record = self._records().get(name)
            if record is not None and record.current is not None:
                way = record.current
                rows.append(_row(way) | await self._tried(way, ends, measures=measures))
        return rows

    async def _tried(self, way: Installed, ends: float, *, measures: bool) -> Row:
        self._cut = ""
        try:
            async with asyncio.timeout_at(ends) as self._limit:
                self.wake()  # an update may have begun while another one was tried
                await asyncio.sleep(0)  # what is over already ends here
                return _seen(await self._examine(way, measures))
        except TimeoutError:
            if self._cut:  # whether that goes on still or is over
                return _why(Reason.UPDATE_UNDER_WAY, f"it was cut off: {self._cut}")
            return _why(Reason.TIMED_OUT, f"{LIMIT_S:g} s are for all models together")
        except StepError as error:
            return _why(error.reason, text(error))
        finally:
            self._limit = None

    async def _told(
        self, parameters: Mapping[str, str], document: Mapping[str, Any], summary: str
    ) -> Done:
        """Send the document; where that is not possible the summary goes without it."""
        short = {"verdict": "ok" if document["ok"] else "wrong", "summary": text(summary)}
        line = json.dumps(document) + "\n"
        try:
            blob = await send_text(line, self._subject.credentials, parameters)
        except StepError as error:
            problem = v1.Problem(reason=error.reason, message=text(error))
            return Done(answer=short, problem=problem)
        return Done(answer=short, blob=blob)

    def _updated(self) -> str:
        """Say which deployment is tried, started or chosen again now; "": none."""
        busy = [
            f"{n} is {each.phase}" for n, each in self._records().items() if each.phase in TRYING
        ]
        busy += [
            f"{each.deployment} is {_DONE_AGAIN[each.action]}"
            for each in self._steps()
            if each.action in STARTING
        ]
        return next(iter(busy), "")


def _row(way: Installed) -> Row:
    bundle = way.deployment.bundle
    return {
        "name": way.deployment.name,
        "revision": way.revision,
        "bundle": {"name": bundle.name, "version": bundle.version, "digest": bundle.digest},
        "variant": way.variant,
        "format": way.format,
        "accelerator": way.accelerator,
        "threads": way.threads,
        "workers": way.workers,
        "runtime": way.runtime,
        **_why(None, ""),
        "vectors": None,
        "agreed": None,
        "largest_errors": [],
        "latency_p50_s": None,
        "chosen_latency_p50_s": way.latency_p50_s,
        "memory_bytes": None,
        "reference": "",
        "took_s": None,
        "cpu_s": None,
    }


def _why(reason: str | None, message: str) -> Row:
    return {"reason": reason, "message": message}


def _seen(found: Examined) -> Row:
    row: Row = {
        "vectors": found.vectors,
        "agreed": found.agreed,
        "largest_errors": list(found.largest),
        "took_s": round(found.took_s, 3),
        "cpu_s": found.cpu_s,
    }
    if found.measured is not None:
        row |= {
            "latency_p50_s": found.measured.latency_p50_s,
            "memory_bytes": found.measured.memory_bytes,
            "reference": found.measured.reference,
        }
    return row


def _in_words(row: Row) -> str:
    if row["reason"] is not None:
        return f"{row['name']}: {row['reason']}"
    now_s, chosen_s = row["latency_p50_s"], row["chosen_latency_p50_s"]
    if now_s is None:
        return f"{row['name']}: {row['agreed']} of {row['vectors']} golden vectors"
    then = "" if chosen_s is None else f", {1000 * chosen_s:.3g} ms when it was chosen"
    return f"{row['name']}: {1000 * now_s:.3g} ms{then}"
