"""The page, drawn from one look. Pure.

First the verdict, then what serves and what is on its way, then what keeps the device as it is,
the machine, the way to the centre, and what happened last. Nothing that a client sent to a model,
or got from it, is in a look, so none can be drawn.
"""

from collections.abc import Iterator
from datetime import datetime

from agent.page.marks import logo, state
from agent.page.markup import Inside, Markup, tag, together
from agent.page.seen import Seen
from agent.page.verdict import Finding, State, findings, sentence
from agent.standing import Standing, standing
from agent.state import Installed, Record
from agent.wire import v1
from agent.wire.phases import Phase
from agent.wire.sentences import PHASES
from agent.wire.sketch import quantile
from agent.wire.words import age, latency, size, span

AGAIN_S = 10
"""How often the page looks again by itself, once somebody has asked it to."""

AGAIN = "again"
"""The query that asks it."""

_OTHERS_LIMIT = 7
"""Findings beside the worst one; each is told of at its deployment, too."""

_PHASE_MARKS = {
    Phase.ACCEPTED: "waiting",
    Phase.REFUSED: "failing",
    Phase.ROLLING_BACK: "rolled-back",
    Phase.ROLLED_BACK: "rolled-back",
}
_HAPPENED = {
    "crashed": "its process died",
    "stuck": "its process hung, and was ended",
    "restarted": "its process was started again",
    "missing": "its process can't be started again for now; others answer",
    "gave-up": "its process died too often to be started again at once",
}
_NO_TIME = "1970"
_DIGITS = 12  # of a digest: what a command takes for it
_DATE, _TIME = slice(0, 10), slice(11, 19)


def draw(seen: Seen, style: str, *, again: bool = False) -> str:
    """Return the whole page.

    Args:
        seen: the look.
        style: the style sheet, which goes into the page as it is.
        again: the page looks again by itself.
    """
    found = findings(seen)
    device, fleet = seen.reported.device, seen.reported.fleet
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{found[0].state} · {device} · Skerry"),
        tag("style", Markup(style)),
    )
    body = tag(
        "body",
        tag("a", "Skip to the content", cls="skip", href="#main"),
        tag(
            "header",
            tag("span", logo(), tag("span", "Skerry"), cls="brand"),
            tag("span", fleet, cls="fleet"),
            cls="top",
        ),
        tag(
            "main",
            _head(seen, again=again),
            _verdict(seen, found),
            [_deployment(seen, record, found) for _, record in sorted(seen.records.items())],
            _quarantine(seen),
            _machine(seen),
            _centre(seen),
            _past(seen),
            id="main",
            tabindex="-1",
        ),
        tag(
            "footer",
            tag("span", f"Skerry {seen.reported.agent_version}"),
            tag("span", "This page only shows. To act, at a shell: skerry-agent --help"),
            cls="foot",
        ),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _head(seen: Seen, *, again: bool) -> Markup:
    as_of = tag("time", f"{seen.at[_DATE]} {seen.at[_TIME]} UTC", datetime=seen.at)
    if again:
        look = [
            f"Looks again every {AGAIN_S} s. ",
            tag("a", "Stop", href="/"),
        ]
    else:
        look = [
            tag("a", "Look again", href="/"),
            " · ",
            tag("a", f"every {AGAIN_S} s", href=f"/?{AGAIN}"),
        ]
    return tag(
        "div",
        tag("h1", seen.reported.device, tag("span", f" on {seen.host}", cls="muted")),
        tag("p", "As of ", as_of, " by its clock. ", look, cls="muted"),
        cls="head",
    )


def _verdict(seen: Seen, found: tuple[Finding, ...]) -> Markup:
    first, *others = found
    return tag(
        "section",
        tag(
            "h2",
            state(first.state, first.state),
            _since(first.since, seen.at),
            id="verdict",
        ),
        _because(first),
        _others(others),
        _connection(seen),
        cls=f"card verdict v-{first.state}",
        aria_labelledby="verdict",
    )


def _others(others: list[Finding]) -> Markup | None:
    if not others:
        return None
    told = [
        tag("li", state(each.state, each.state), tag("div", _because(each)))
        for each in others[:_OTHERS_LIMIT]
    ]
    if len(others) > _OTHERS_LIMIT:
        told.append(tag("li", tag("p", f"and {len(others) - _OTHERS_LIMIT} more", cls="muted")))
    return tag("ul", told, cls="others")


def _because(finding: Finding) -> Markup:
    subject = f"{finding.subject}: " if finding.subject else ""
    next_step = finding.sentence.next_step
    return together(
        tag("p", subject, finding.sentence.meaning, " ", _code(finding.code), cls="why"),
        tag("p", tag("q", finding.message), cls="said") if finding.message else None,
        tag("p", tag("span", "Next", cls="label"), " ", next_step, cls="next")
        if next_step != "Nothing."
        else None,
    )


def _connection(seen: Seen) -> Markup:
    line = seen.line
    if line.connected:
        told = state("ok", "Connected to its centre")
        return tag("p", told, _since(line.since, seen.at), cls="line")
    why = f" ({line.why})" if line.why else ""
    return tag(
        "p",
        state("offline", "No connection to its centre"),
        _since(line.since, seen.at),
        f"{why}. What serves goes on, and what there is to tell waits.",
        cls="line",
    )


def _deployment(seen: Seen, record: Record, found: tuple[Finding, ...]) -> Markup:
    stands = _stands(seen, record)
    title = f"deployment-{stands.name}"
    return tag(
        "section",
        tag("h2", stands.name, id=title),
        _serves(seen, record, found),
        _facts(_installed(record.current, _answer(seen, stands))) if record.current else None,
        _why(record.current),
        _short(stands),
        _period(seen, record),
        None if record.phase is Phase.COMMITTED else _wanted(seen, record),
        cls="card",
        aria_labelledby=title,
    )


def _stands(seen: Seen, record: Record) -> Standing:
    return standing(record, seen.serving.get(record.name), seen.compared.get(record.name))


def _serves(seen: Seen, record: Record, found: tuple[Finding, ...]) -> Markup:
    """Say what answers under the name, and how it is."""
    serves = standing(record).serves
    if record.current is None:
        return tag("p", state("waiting", "nothing serves here yet"), cls="serves")
    of_it = {finding.state for finding in found if finding.deployment == record.name}
    if record.name in seen.given_up:
        told = state("failing", f"{serves} does not answer: its process died too often")
    elif record.name not in seen.answering:
        told = state("updating", f"{serves} is being started")
    elif State.DEGRADED in of_it:
        told = state("degraded", f"{serves} serves, not as well as it should")
    else:
        told = state("ok", f"{serves} serves")
    revision = tag("span", f"revision {record.current.revision}", cls="muted")
    return tag("p", told, " ", revision, cls="serves")


def _answer(seen: Seen, stands: Standing) -> str:
    """Say how many workers answer; of one that was given up nobody counts who is left."""
    if stands.answering is None:
        return "not all" if stands.name in seen.answering else "0"
    return str(stands.answering)


def _installed(now: Installed, answer: str) -> Iterator[tuple[str, Inside]]:
    yield "Runs on", now.accelerator
    yield "Threads", str(now.threads)
    yield "Workers", f"{answer} of {now.workers}"
    yield "Runtime", now.runtime
    yield "File", [now.format, " ", _digest(now.variant)]
    yield "Bundle", _digest(now.digest)
    yield "Self-test, median", latency(now.latency_p50_s) or "not measured"


def _why(now: Installed | None) -> Markup | None:
    """Say by what this way to serve was chosen, and why it is not on its accelerator."""
    if now is None:
        return None
    fallback = tag("p", f"Not on its accelerator: {now.fallback}", cls="sub")
    why = tag("p", now.why, cls="sub")
    return together(fallback if now.fallback else None, why if now.why else None)


def _short(stands: Standing) -> Markup | None:
    """Say that fewer workers answer than were chosen, and why."""
    if stands.short is None:
        return None
    meaning = sentence(stands.short, {}, beside=False).meaning
    return tag(
        "p",
        f"Fewer workers than chosen: {stands.short_because}. {meaning} ",
        _code(stands.short),
        cls="sub",
    )


def _period(seen: Seen, record: Record) -> Markup | None:
    if record.current is None:
        return None
    if seen.health is None:
        return tag("p", "Its requests are counted; the first period has not ended yet.", cls="sub")
    revision = record.current.revision
    for each in seen.health.deployments:
        if (each.name, each.revision) == (record.name, revision):
            break
    else:
        return tag("p", "It did not serve in the last period.", cls="sub")
    told: list[tuple[str, Inside]] = [
        ("Requests", f"{each.requests:,}"),
        ("Errors", f"{each.errors:,}"),
        ("p50", latency(quantile(each.latency, 0.5)) or "none asked"),
        ("p95", latency(quantile(each.latency, 0.95)) or "none asked"),
    ]
    if each.restarts:
        told.append(("Restarts", str(each.restarts)))
    title = f"Asked of it in the {span(seen.health.period_s)} to {seen.health.at[_TIME]} UTC"
    return together(tag("h3", title), _facts(told))


def _wanted(seen: Seen, record: Record) -> Markup:
    stands = _stands(seen, record)
    mark = _PHASE_MARKS.get(record.phase, "updating")
    held = seen.reported.hold is not None and record.phase is Phase.ACCEPTED
    problem = record.problem
    told = sentence(problem.reason, problem.parameters) if problem else None
    return tag(
        "div",
        tag("h3", "Wanted, and not there yet"),
        tag(
            "p",
            state("paused" if held else mark, f"{stands.wanted}: {PHASES[record.phase]}"),
            " ",
            tag("span", f"revision {stands.revision}", cls="muted"),
            _since(record.since, seen.at),
        ),
        tag("p", stands.so_far) if stands.so_far else None,
        _because(
            Finding(
                state=State.WAITING,
                sentence=told,
                code=problem.reason,
                message=problem.message,
            )
        )
        if problem and told
        else None,
        tag("p", "It waits until the device is released.") if held else None,
        cls="wanted",
    )


def _quarantine(seen: Seen) -> Markup | None:
    rows = seen.reported.quarantined
    if not rows:
        return None
    return tag(
        "section",
        tag("h2", "In quarantine", id="quarantine"),
        tag("p", "This content failed here, and is not tried again on this runtime.", cls="muted"),
        tag(
            "ul",
            [
                tag(
                    "li",
                    _digest(each.digest),
                    " ",
                    sentence(each.reason, {}).meaning,
                    " ",
                    _code(each.reason),
                    _since(each.since, seen.at),
                )
                for each in reversed(rows)
            ],
            cls="rows",
        ),
        tag(
            "p",
            tag("span", "Next", cls="label"),
            " If the machine was the cause, and is mended: ",
            tag("code", "skerry-agent lift-quarantine DIGEST"),
        ),
        cls="card",
        aria_labelledby="quarantine",
    )


def _machine(seen: Seen) -> Markup:
    now, period, machine = seen.vitals, seen.health, seen.machine
    told: list[tuple[str, Inside]] = []
    if now is not None:
        told += [
            ("Memory", _used(now.memory_used_bytes, now.memory_total_bytes)),
            ("Disk", _used(now.disk_total_bytes - now.disk_free_bytes, now.disk_total_bytes)),
            (
                "Temperature",
                "no sensor" if now.temperature_c is None else f"{now.temperature_c:.0f} °C",
            ),
        ]
    else:
        told.append(("Memory, disk, temperature", "can't be read just now: the disk is slow"))
    if period is not None and period.cpu_ratio is not None:
        told.append(("CPU, last period", f"{100 * period.cpu_ratio:.0f} %"))
    if period is not None and period.throttled is not None:
        told.append(("Slowed down", "yes" if period.throttled else "no"))
    told += [
        ("Clock", f"{seen.at[_DATE]} {seen.at[_TIME]} UTC"),
        ("Hardware", f"{machine.architecture}, {machine.cores} cores"),
        ("Accelerators", ", ".join(machine.accelerators)),
        ("Runtime", machine.runtime),
        (
            "Models are confined by",
            ", ".join(machine.sandbox) or "nothing: see skerry-agent doctor",
        ),
        (
            "Agent",
            [seen.reported.agent_version, tag("span", _since(seen.started, seen.at), cls="sub")],
        ),
    ]
    return tag(
        "section",
        tag("h2", "Machine", id="machine"),
        _facts(told),
        cls="card",
        aria_labelledby="machine",
    )


def _centre(seen: Seen) -> Markup:
    observed = seen.reported.observed
    order = f"generation {observed.generation}, epoch {observed.epoch}" if observed else "none yet"
    waiting: Inside = "nothing"
    if seen.outbox:
        events = "1 event" if seen.outbox == 1 else f"{seen.outbox:,} events"
        waiting = [events, tag("span", size(seen.outbox_bytes), cls="sub")]
    return tag(
        "section",
        tag("h2", "Centre", id="centre"),
        _facts(
            [
                ("Waits to be told", waiting),
                ("Acts on document", order),
                ("Connections so far", f"{seen.reported.session:,}"),
                ("May ask for", seen.may_ask or "can't be read just now: the disk is slow"),
            ]
        ),
        cls="card",
        aria_labelledby="centre",
    )


def _past(seen: Seen) -> Markup:
    if seen.past is None:
        told = tag("p", "It can't be read just now: the disk is slow, or fails.", cls="muted")
    elif not seen.past:
        told = tag("p", "Nothing yet.", cls="muted")
    else:
        told = tag("ol", [_event(each, seen.at) for each in seen.past], cls="past")
    return tag(
        "section",
        tag("h2", "What happened last", id="past"),
        told,
        cls="card",
        aria_labelledby="past",
    )


def _event(event: v1.Event, now: str) -> Markup:
    why = None
    if event.reason:  # what it does not ask for is in the message, or said by `_what`
        known = sentence(event.reason, event.parameters, beside=False)
        why = tag("p", known.meaning, " ", _code(event.reason))
    message = tag("p", tag("q", event.message), cls="said") if event.message else None
    return tag("li", _when(event.at, now), tag("div", tag("p", _what(event)), why, message))


def _what(event: v1.Event) -> Inside:
    """Say what happened, in words."""
    what = event.parameters.get("what", "")
    said: Inside = event.kind
    match event.kind:
        case v1.EventKind.PHASE if event.phase is not None:
            said = [_revision(event), PHASES[event.phase]]
        case v1.EventKind.WORKER:
            said = [_revision(event), _HAPPENED.get(what, what)]
        case v1.EventKind.REFUSED:
            said = "A document was refused."
        case v1.EventKind.HOLD:
            said = f"Somebody {what} the device."
        case v1.EventKind.QUARANTINE:
            done = "let out of" if what == "lifted" else "put into"
            said = [_digest(event.digest or ""), f" was {done} quarantine."]
        case v1.EventKind.STORE:
            became = "is whole in the store again" if what == "mended" else "rotted in the store"
            said = [_revision(event), _digest(event.digest or ""), f" {became}."]
        case v1.EventKind.BOOT:
            said = f"The agent started, version {event.parameters.get('agent_version', '?')}."
        case v1.EventKind.FOLDED:
            said = [_revision(event), f"{event.count:,} transitions of one cause, summed up"]
        case _:
            pass
    return said


def _revision(event: v1.Event) -> Inside:
    """Say what a transition is about, before what became of it."""
    if event.deployment is None:
        return None
    number = f" revision {event.revision}" if event.revision else ""
    return [tag("strong", event.deployment), f"{number}: "]


def _facts(told: Iterator[tuple[str, Inside]] | list[tuple[str, Inside]]) -> Markup:
    return tag(
        "dl",
        [tag("div", tag("dt", name), tag("dd", value)) for name, value in told],
        cls="facts",
    )


def _used(taken: int, total: int) -> Inside:
    if not total:
        return "not measured"
    return [f"{100 * taken / total:.0f} %", tag("span", f"of {size(total)}", cls="sub")]


def _digest(digest: str) -> Markup:
    return tag("code", digest.removeprefix("sha256:")[:_DIGITS], title=digest)


def _code(code: str) -> Markup | None:
    return tag("code", code, cls="code") if code else None


def _since(moment: str | None, now: str) -> Markup | None:
    if moment is None or moment.startswith(_NO_TIME):
        return None
    return tag("span", " since ", _when(moment, now), cls="muted")


def _when(moment: str, now: str) -> Markup:
    """Return a time of the device's clock: how long ago, where that makes sense, and when."""
    ago = None
    try:
        if moment <= now:
            ago = f"{age(moment, now)} ago "
        datetime.fromisoformat(moment)
    except ValueError:  # a text of the right form, and no date
        return tag("span", moment)
    today = moment[_DATE] == now[_DATE]
    absolute = f"{moment[_TIME]} UTC" if today else f"{moment[_DATE]} {moment[_TIME]} UTC"
    return tag("time", ago, tag("span", absolute, cls="abs"), datetime=moment)
