"""What `skerry device ls` and `skerry device show` draw: verdict first, then why, then the rest."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agent.wire import facts, v1
from agent.wire.words import age, latency, size
from fleet import wording
from fleet.cli.marks import Column, Screen
from fleet.marks import Mark
from fleet.settings import written_windows
from fleet.wording import count, used

_EVENTS_SHOWN = 3


def listed(screen: Screen, found: Mapping[str, Any]) -> list[str]:
    """Return the table of devices."""
    columns = [
        Column(title="state"),
        Column(title="name", name=True),
        Column(title="site", name=True, spare=3),
        Column(title="serves", name=True),
        Column(title="p95", right=True),
        Column(title="requests", right=True, spare=2),
        Column(title="errors", right=True, spare=1),
        Column(title="heard", right=True),
    ]
    return screen.table(
        columns, [_row(screen, device, found["as_of"]) for device in found["devices"]]
    )


def shown(screen: Screen, found: Mapping[str, Any], strips: Iterable[str] = ()) -> Iterator[str]:
    """Return all that is known of one device; `strips` are those of its last day."""
    state, now = found["state"], found["as_of"]
    verdict = screen.state(Mark(state["word"]), f"{state['word']} {age(state['since'], now)}")
    yield from screen.field("", [verdict, *_who(found, now)], indent=0)
    yield from screen.told("WHY", f"{state['sentence']} ({state['reason']})")
    yield from screen.field("WANT", _want(found["desired"]))
    yield from screen.field("HAVE", _have(found))
    for each in found["deployments"]:
        yield from screen.field("VARIANT", _variant(each))
    if found["health"] is not None:
        yield from screen.field("HEALTH", _feels(found, now))
    for each in found["served"]:
        yield from screen.field("LATENCY", _numbers(each))
    for each in found["drift"]:
        yield from screen.field("DRIFT", _drift(each, now))
    yield from strips
    if found["desired"] is not None:
        yield from _bounds(screen, found["desired"]["settings"])
    if found["labels"]:
        pairs = [f"{key}={value}" for key, value in sorted(found["labels"].items())]
        yield from screen.field("LABELS", pairs)
    for each in _transitions(found["events"]):
        yield from screen.told("EVENT", each)
    expires = found["certificate_expires_at"][:10]
    yield from screen.field("ID", [found["id"], f"certificate until {expires}"])
    if state["word"] != Mark.OK:
        yield from screen.told("Next", state["next"])


def _bounds(screen: Screen, settings: Mapping[str, Any]) -> Iterator[str]:
    how, when = fetches(settings), changes(settings)
    if how != _FREELY:
        yield from screen.told("FETCHES", how)
    if when != _ALWAYS:
        yield from screen.told("CHANGES", when)


_FREELY = "as fast as it can, always"
_ALWAYS = "at any time"


def fetches(settings: Mapping[str, Any]) -> str:
    """Return how fast a device is to fetch, and when."""
    rate = settings["download_rate_bytes_per_s"]
    windows = _in_zone(settings, "download_windows")
    fast = "as fast as it can" if rate is None else f"{size(rate)} a second"
    return f"{fast}, {windows or 'always'}"


def changes(settings: Mapping[str, Any]) -> str:
    """Return when what a device serves may be changed."""
    return _in_zone(settings, "maintenance_windows") or _ALWAYS


def _in_zone(settings: Mapping[str, Any], kind: str) -> str:
    windows = written_windows(v1.Window(**each) for each in settings[kind])
    return f"{windows} {settings['time_zone']}" if windows else ""


def _row(screen: Screen, device: Mapping[str, Any], now: str) -> list[str]:
    numbers, state = device["numbers"], device["state"]
    return [
        screen.state(Mark(state["word"]), state["word"]),
        device["name"],
        device["site"] or "",
        ", ".join(map(_bundle, device["serves"])),
        "" if numbers is None else latency(numbers["p95_s"]),
        "" if numbers is None else count(numbers["requests"]),
        "" if numbers is None else count(numbers["errors"]),
        age(device["heard_at"], now),
    ]


def _who(found: Mapping[str, Any], now: str) -> Iterator[str]:
    yield found["name"]
    if found["site"]:
        yield f"site {found['site']}"
    heard = found["heard_at"]
    yield "never heard" if heard is None else f"heard {_ago(heard, now)}"
    if found["agent_version"]:
        yield f"agent {found['agent_version']}"
    known = found["facts"]
    memory = known.get(facts.MEMORY_MIB, "")
    machine = [known.get(facts.ARCHITECTURE, "")]
    machine += [size(int(memory) << 20)] if memory.isascii() and memory.isdigit() else []
    yield ", ".join(filter(None, machine))


def _want(desired: Mapping[str, Any] | None) -> list[str]:
    if desired is None:
        return ["nothing yet"]
    wanted = [_bundle(each["bundle"]) for each in desired["deployments"]]
    return [", ".join(wanted) or "nothing", _generation(desired["order"])]


def _have(found: Mapping[str, Any]) -> Iterator[str]:
    reported, deployments = found["reported"], found["deployments"]
    if reported is None:
        yield "it has not said"
        return
    serving = [_bundle(each["active"]["bundle"]) for each in deployments if each["active"]]
    yield ", ".join(serving) or "nothing"
    if reported["observed"] is not None:
        yield f"{_generation(reported['observed'])} observed"
    for each in deployments:
        if each["phase"] != "committed":
            far = wording.so_far(found, each["name"]) if each["phase"] == "shadowing" else ""
            so_far = f", {far}" if far else ""
            yield f"{each['name']} revision {each['revision']}: {each['phase']}{so_far}"


def _variant(told: Mapping[str, Any]) -> Iterator[str]:
    active = told["active"]
    yield told["name"]
    if active is None:
        yield "nothing serves"
        return
    threads, workers = active["threads"], active["workers"]
    yield (
        f"on {active['runtime']}, {active['accelerator']}, {threads} thread{'s' * (threads > 1)}, "
        f"{workers} worker{'s' * (workers > 1)}"
    )
    if active["latency_p50_s"] is not None:
        yield f"{1000 * active['latency_p50_s']:.3g} ms when it was chosen"
    for each in told["conditions"]:
        if each["type"] == "fallback":
            yield f"fallback: {each['parameters'].get('why', each['reason'])}"
        if each["type"] == "short":
            yield f"fewer workers than chosen: {each['parameters'].get('why', each['reason'])}"
    yield f"file {active['variant'].removeprefix('sha256:')[:12]}"


def _feels(found: Mapping[str, Any], now: str) -> Iterator[str]:
    health = found["health"]
    if found["health_late"]:  # it waited: what the device's own clock said then is all there is
        yield f"late, of {health['at'][:19]} by its clock"
    else:
        yield f"{_ago(found['health_at'], now)}, of {health['period_s']:.0f} s"
    if health["cpu_ratio"] is not None:
        yield f"cpu {100 * health['cpu_ratio']:.0f} %"
    for name in ("memory", "disk"):
        taken = used(health, name)
        if taken is not None:
            yield f"{name} {taken} %"
    if health["temperature_c"] is not None:
        yield f"{health['temperature_c']:.0f} C"
    if health["throttled"]:
        yield "throttled"
    yield f"outbox {count(health['outbox'])}"


def _numbers(each: Mapping[str, Any]) -> Iterator[str]:
    yield f"{each['bundle']} {each['version']}".strip()
    for name in ("p50", "p95", "p99"):
        measured = latency(each[f"{name}_s"])
        if measured:
            yield f"{name} {measured}"
    yield f"errors {count(each['errors'])} of {count(each['requests'])}"
    if each["restarts"]:
        yield f"restarts {count(each['restarts'])}"


def _drift(each: Mapping[str, Any], now: str) -> Iterator[str]:
    yield f"{each['bundle']} {each['version']}".strip()
    if not each["now"]:
        yield "none lately of what serves"
        return
    yield each["level"]
    for subject in each["subjects"]:
        if subject["psi"] is None:
            few = f"{count(subject['requests'])} of {count(subject['least'])} requests"
            yield f"{subject['subject']} {few}"
        else:
            beside = "" if subject["level"] == "ok" else f" {subject['level']}"
            yield f"{subject['subject']} {subject['psi']:.2f}{beside}"
    if each["unknown"]:
        yield f"not in the card: {', '.join(each['unknown'])}"
    yield f"told {_ago(each['told_at'], now)}"


def _transitions(events: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the latest transitions; what was only measured is none."""
    told = [each for each in events if each["kind"] != "health"]
    return [
        " ".join(
            [
                f"{each['at'][11:19]} UTC",
                *filter(None, [each["deployment"], each["kind"], each["phase"], each["reason"]]),
                *([f"({each['message']})"] if each["message"] else []),
            ]
        )
        for each in told[:_EVENTS_SHOWN]
    ]


def _ago(moment: str | None, now: str) -> str:
    return "never" if moment is None else f"{age(moment, now)} ago"


def _generation(order: Mapping[str, Any]) -> str:
    epoch = f"{order['epoch']}." if order["epoch"] else ""
    return f"generation {epoch}{order['generation']}"


def _bundle(bundle: Mapping[str, Any]) -> str:
    return f"{bundle['name']} {bundle['version']}".strip()
