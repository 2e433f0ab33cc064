"""How a device is: the state words, and the reasons that no device says itself. Pure."""

from collections.abc import Mapping

from agent.wire.sentences import COMPARED, Sentence
from fleet.health.states import HealthReason, State

STATES: Mapping[State, str] = {
    State.UNKNOWN: "never heard of; not good, not bad",
    State.OFFLINE: "not here; goes on with what it had",
    State.FAILING: "something that is wanted does not serve",
    State.DEGRADED: "serves, not as well as it should",
    State.UPDATING: "on its way to a newer revision",
    State.WAITING: "something newer is wanted, and held up",
    State.OK: "as wanted",
}

HEALTH: Mapping[str, Sentence] = {
    HealthReason.NEVER_REPORTED: Sentence(
        "It has joined, and never said what it is.",
        "Start its agent: skerry-agent run. If it runs, read its log.",
    ),
    HealthReason.DISCONNECTED: Sentence(
        "It left, or its connection broke.",
        "Nothing, if it was switched off or moves. Otherwise check its power and its network.",
    ),
    HealthReason.SILENT: Sentence(
        "It is connected, and has said nothing for longer than it may.",
        "Look at the device: its agent hangs, or its network lets nothing through.",
    ),
    HealthReason.NOT_SERVING: Sentence(
        "It does not serve here, and the device's report had no room to say why.",
        "Read the device's last events: skerry device show.",
    ),
    HealthReason.THROTTLED: Sentence(
        "The device slows itself down, for heat or for power.",
        "Cool it, or check its power supply.",
    ),
    HealthReason.ERRORS_HIGH: Sentence(
        "Of its last {requests} requests, {errors} failed.",
        "Read the device's last events for why; compare with the other devices of its class.",
        bare="Too many of its last requests failed.",
    ),
    HealthReason.DISK_NEARLY_FULL: Sentence(
        "Its disk is nearly full: {free} are free.",
        "Free some room on the device; an update may not fit any more.",
        bare="Its disk is nearly full.",
    ),
    HealthReason.DRIFTING: Sentence(
        "What the model sees or says is no longer as when it was packed: of {requests} requests,"
        " {subject} has a PSI of {psi}.",
        "Look at what it sees: a dirty lens, another light, a stuck sensor. If the world has"
        " changed, train the model again.",
        bare="What the model sees or says is no longer as when it was packed.",
    ),
    HealthReason.ON_THE_WAY: Sentence(
        "It is on its way: {phase}.",
        "Nothing: wait.",
        bare="It is on its way.",
    ),
    HealthReason.COMPARED: COMPARED,
    HealthReason.NOT_BEGUN: Sentence("It is wanted, and not begun yet.", "Nothing: wait."),
    HealthReason.NOT_ANSWERED: Sentence(
        "Something newer is wanted, and the device has not answered yet.",
        "Nothing: wait. If it lasts, check that the centre reaches its broker.",
    ),
    HealthReason.AHEAD_OF_STORE: Sentence(
        "It acts on document {observed}; the store's is older, so the store was restored.",
        "Restore a newer store: the device is not driven back.",
        bare="It acts on a newer document than the store's, so the store was restored.",
    ),
    HealthReason.NOTHING_WANTED: Sentence(
        "Nothing is wanted of it yet.", "Bring a bundle to it: skerry rollout plan."
    ),
    HealthReason.AS_WANTED: Sentence("It serves all that is wanted of it.", "Nothing."),
    HealthReason.NOT_WATCHED: Sentence(
        "The centre did not look at its devices then: nobody knows how this one was.",
        "Read what it told afterwards: skerry device history.",
    ),
}
"""What the centre finds out by itself (`fleet.health.states`)."""
