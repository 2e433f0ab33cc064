"""The device in numbers, for a Prometheus of its site: the text format, written here. Pure.

Written by hand, because it is a page of code, and the client library would be a tenth of what the
agent may load. `escaped` is all that keeps a name from becoming a line of its own.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from agent.page.seen import Seen, Work
from agent.wire import v1
from agent.wire.sketch import BOUNDS_S

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: its name, its type, its labels, and what it says."""

    name: str
    kind: str
    labels: tuple[str, ...]
    says: str


_OF = ("deployment",)
_INFO = (*_OF, "bundle", "version", "revision", "runtime", "accelerator")

FAMILIES: tuple[Family, ...] = (
    Family("skerry_agent_build_info", "gauge", ("version",), "The agent's version; always 1."),
    Family("skerry_agent_connected", "gauge", (), "Whether the way to the centre stands."),
    Family("skerry_agent_outbox_events", "gauge", (), "What is yet to be told to the centre."),
    Family("skerry_agent_outbox_bytes", "gauge", (), "The same in bytes."),
    Family("skerry_agent_cpu_ratio", "gauge", (), "CPU in the last health period, 0 to 1."),
    Family("skerry_agent_memory_used_bytes", "gauge", (), "Memory in use now."),
    Family("skerry_agent_memory_total_bytes", "gauge", (), "Memory there is."),
    Family("skerry_agent_disk_free_bytes", "gauge", (), "Free on the disk of the agent's home."),
    Family("skerry_agent_disk_total_bytes", "gauge", (), "The size of that disk."),
    Family("skerry_agent_temperature_celsius", "gauge", (), "The hottest sensor now."),
    Family(
        "skerry_agent_accelerator_temperature_celsius",
        "gauge",
        (),
        "The hottest accelerator in the last health period.",
    ),
    Family(
        "skerry_agent_throttled",
        "gauge",
        (),
        "Whether it slowed itself down in the last health period, for heat or for power.",
    ),
    Family("skerry_agent_deployment_info", "gauge", _INFO, "What serves there; always 1."),
    Family(
        "skerry_agent_deployment_phase",
        "gauge",
        (*_OF, "phase"),
        "How far the wanted revision is; always 1.",
    ),
    Family("skerry_agent_answering", "gauge", _OF, "Whether a process lives that answers."),
    Family("skerry_agent_workers", "gauge", _OF, "Processes that answer, or are being replaced."),
    Family("skerry_agent_queue", "gauge", _OF, "Requests that are with a worker, or wait for it."),
    Family("skerry_agent_requests_total", "counter", (*_OF, "result"), "Requests."),
    Family("skerry_agent_worker_restarts_total", "counter", _OF, "Processes started again."),
    Family(
        "skerry_agent_latency_seconds",
        "histogram",
        _OF,
        "From a request being read to its good answer; the sum is within 5 %.",
    ),
)

_Sample = tuple[str, Mapping[str, str], float]


def exposition(seen: Seen, work: Mapping[str, Work]) -> bytes:
    """Return one look at the device as Prometheus reads it. What is not measured is left out."""
    found: dict[str, list[str]] = {family.name: [] for family in FAMILIES}
    for name, labels, value in (*_of_device(seen), *_of_deployments(seen), *_of_work(work)):
        found[name].append(_line(name, labels, value))
    for name, each in work.items():
        found["skerry_agent_latency_seconds"] += _bins(name, each)
    lines = [
        line
        for family in FAMILIES
        if found[family.name]
        for line in (
            f"# HELP {family.name} {family.says}",
            f"# TYPE {family.name} {family.kind}",
            *found[family.name],
        )
    ]
    return ("\n".join(lines) + "\n").encode(errors="replace")


def escaped(value: str) -> str:
    """Return a label value that ends where it ends."""
    return value.translate(_ESCAPES)


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    written = ",".join(f'{label}="{escaped(each)}"' for label, each in labels.items())
    return f"{name}{{{written}}} {value!r}" if written else f"{name} {value!r}"


def _of_device(seen: Seen) -> Iterator[_Sample]:
    yield "skerry_agent_build_info", {"version": seen.reported.agent_version}, 1
    yield "skerry_agent_connected", {}, int(seen.line.connected)
    yield "skerry_agent_outbox_events", {}, seen.outbox
    yield "skerry_agent_outbox_bytes", {}, seen.outbox_bytes
    measured: dict[str, float | None] = {}
    if seen.vitals is not None:
        measured |= {
            "memory_used_bytes": seen.vitals.memory_used_bytes,
            "memory_total_bytes": seen.vitals.memory_total_bytes,
            "disk_free_bytes": seen.vitals.disk_free_bytes,
            "disk_total_bytes": seen.vitals.disk_total_bytes,
            "temperature_celsius": seen.vitals.temperature_c,
        }
    if seen.health is not None:
        measured |= {
            "cpu_ratio": seen.health.cpu_ratio,
            "accelerator_temperature_celsius": seen.health.accelerator_c,
            "throttled": None if seen.health.throttled is None else int(seen.health.throttled),
        }
    for name, value in measured.items():
        if value is not None:
            yield f"skerry_agent_{name}", {}, value


def _of_deployments(seen: Seen) -> Iterator[_Sample]:
    for told in seen.reported.deployments:
        of = {"deployment": told.name}
        yield "skerry_agent_deployment_phase", {**of, "phase": told.phase}, 1
        yield "skerry_agent_answering", of, int(told.name in seen.answering)
        if told.active is not None:
            yield "skerry_agent_deployment_info", {**of, **_info(told.active)}, 1


def _info(active: v1.Active) -> Mapping[str, str]:
    return {
        "bundle": active.bundle.name,
        "version": active.bundle.version,
        "revision": str(active.revision),
        "runtime": active.runtime,
        "accelerator": active.accelerator,
    }


def _of_work(work: Mapping[str, Work]) -> Iterator[_Sample]:
    for name, each in work.items():
        of = {"deployment": name}
        yield "skerry_agent_workers", of, each.workers
        yield "skerry_agent_queue", of, each.queue
        yield "skerry_agent_requests_total", {**of, "result": "ok"}, each.requests - each.errors
        yield "skerry_agent_requests_total", {**of, "result": "error"}, each.errors
        yield "skerry_agent_worker_restarts_total", of, each.restarts


def _bins(name: str, work: Work) -> Iterable[str]:
    below, of = 0, {"deployment": name}
    for bound, number in zip((*BOUNDS_S, None), work.bins, strict=True):
        below += number
        le = "+Inf" if bound is None else f"{bound:.6g}"
        yield _line("skerry_agent_latency_seconds_bucket", {**of, "le": le}, below)
    yield _line("skerry_agent_latency_seconds_sum", of, work.seconds)
    yield _line("skerry_agent_latency_seconds_count", of, below)
