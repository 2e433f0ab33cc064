"""What a device told that happened to it, in words: the same wherever it is read. Pure."""

from collections.abc import Mapping
from typing import Any

from agent.wire.phases import Phase
from fleet.sentences import PHASES, explain


def happened(event: Mapping[str, Any]) -> str:
    """Return what happened, why, and what the device said of it; `event` is as the API tells it."""
    said = f"({event['message']})" if event["message"] else ""
    return " ".join(filter(None, [f"{_what(event)}.", _why(event), said]))


def _what(event: Mapping[str, Any]) -> str:
    parameters, name = event["parameters"], event["deployment"] or "the device"
    what, revision = parameters.get("what", "?"), f"revision {event['revision']}"
    match event["kind"]:
        case "phase" if event["phase"] is not None:
            said = f"{name} {revision}: {PHASES[Phase(event['phase'])]}"
        case "worker":
            said = f"{name} {revision}: its worker {_WORKER.get(what, what)}"
        case "refused":
            said = f"a document was refused ({parameters.get('kind', '?')})"
        case "boot":
            said = f"the agent started, version {parameters.get('agent_version', '?')}"
        case "hold":
            said = "released" if what == "released" else "held as it is"
        case "quarantine":
            said = f"{name}: {event['digest']} {_QUARANTINE.get(what, what)}"
        case "store":
            said = f"{name}: {event['digest']} {_STORE.get(what, what)}"
        case "folded":
            said = _summed_up(event)
        case kind:
            said = f"{name}: {kind}"
    return said


_WORKER = {
    "crashed": "died",
    "stuck": "was stuck, and was ended",
    "restarted": "was started again",
    "missing": "can't be started again for now; others answer",
    "gave-up": "died too often, and is not started again",
}
_STORE = {
    "rotten": "is no longer whole in the store",
    "mended": "is whole in the store again",
}
_QUARANTINE = {
    "quarantined": "is not tried again here",
    "lifted": "may be tried again here",
}


def _summed_up(event: Mapping[str, Any]) -> str:
    parameters = event["parameters"]
    kind, since = parameters.get("kind", "?"), parameters.get("first_at", "?")
    if kind == "health":
        return f"{event['count']} health documents since {since} were dropped"
    about = f" about {event['deployment']}" if event["deployment"] else ""
    return f"{event['count']} events{about} since {since} were summed up, the last of kind {kind}"


def _why(event: Mapping[str, Any]) -> str:
    if event["reason"] is None:
        return ""
    # Of a phase the parameters belong to the reason; of the others they were said above.
    parameters = event["parameters"] if event["kind"] == "phase" else {}
    return f"{explain(event['reason'], parameters).meaning} [{event['reason']}]"
