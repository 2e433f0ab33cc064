"""Why a rollout or one of its targets is no further, in words. Pure."""

from collections.abc import Mapping

from agent.wire.sentences import COMPARED, Sentence
from fleet.rollouts.why import WhyReason

WAITING: Mapping[str, Sentence] = {
    # Of a rollout
    WhyReason.NOT_STARTED: Sentence("It has not been started.", "Start it: skerry rollout start."),
    WhyReason.SOAKING: Sentence(
        "Wave {wave} is soaking: it is watched until {until}, and then its gate decides.",
        "Wait. If you see something wrong: skerry rollout pause, or rollback.",
    ),
    WhyReason.SOAK_IS_HELD: Sentence(
        "Wave {wave} soaks until {until}, and passes no sooner than the rollout is resumed.",
        "To go on: skerry rollout resume.",
    ),
    WhyReason.TARGETS_UNDER_WAY: Sentence(
        "Wave {wave} waits for {count} on the way: {names}.",
        "Wait. For one of them: skerry rollout why ID DEVICE.",
    ),
    WhyReason.WAITS_FOR_APPROVAL: Sentence(
        "Wave {wave} waits for a person's approval.",
        "Look at it: skerry rollout show. Then skerry rollout approve, or rollback.",
    ),
    WhyReason.WAVES_PASSED: Sentence("All of its waves have passed.", "Nothing to do."),
    WhyReason.OVERTAKEN_IN_PART: Sentence(
        "It is done, and of its {targets} targets {count} got something newer instead: {names}.",
        "Look at the newer one: skerry rollout show {newer}.",
    ),
    WhyReason.CATCHES_UP: Sentence(
        "Away were {count}: {names}. They get it when they are back, under the same gates.",
        "Nothing to do. To see who: skerry rollout show.",
    ),
    WhyReason.TARGETS_RETURNING: Sentence(
        "It waits for {count} that go back to what they had: {names}.", "Wait a little."
    ),
    WhyReason.RETURNS_LATER: Sentence(
        "Away are {count}: {names}. They go back to what they had when they return.",
        "Nothing to do: what waits for them is the document from before.",
    ),
    WhyReason.SOME_NOT_RETURNED: Sentence(
        "Not back on what they had are {count}: {names}.",
        "Look at each: skerry device show. Then roll out a version that they take.",
    ),
    WhyReason.OVERTAKEN_EVERYWHERE: Sentence(
        "A newer rollout of this deployment has overtaken it on all of its targets.",
        "Look at the newer one: skerry rollout show {newer}.",
    ),
    # Of a target
    WhyReason.NOT_MEANT: Sentence(
        "It is not part of this rollout: neither the selector nor a name means it.",
        "To reach it, start another one: skerry rollout start --device.",
    ),
    WhyReason.WAITS_FOR_WAVE: Sentence(
        "It is in wave {wave}, and waits until wave {before} has passed.",
        "Wait. See what that one waits for: skerry rollout why.",
    ),
    WhyReason.CLASS_UNPROVEN: Sentence(
        "No other of its class ({class_name}) has committed yet: {waits_for} goes first.",
        "Wait for that one.",
    ),
    WhyReason.BUDGET_FULL: Sentence(
        "It waits: {taken} of {limit} of {group} are under way or down.",
        "Wait until one of them has come to an end. See which: skerry rollout show.",
    ),
    WhyReason.ASKED_AGAIN: Sentence(
        "What it failed by may pass: it is asked again at {until}.",
        "Wait. If it fails each time, look at the device: skerry device show.",
    ),
    WhyReason.NOBODY_NEW: Sentence(
        "The rollout is paused, so nobody new is asked.", "To go on: skerry rollout resume."
    ),
    WhyReason.GATE_CLOSED: Sentence(
        "The gate of wave {wave} has failed since, so it is not asked any more.",
        "See who failed: skerry rollout show.",
    ),
    WhyReason.ASKED_NEXT: Sentence("It is asked in the next moment.", "Wait a moment."),
    WhyReason.AWAY: Sentence(
        "It can't be reached: it is set aside, which is no failure and has no deadline.",
        "Bring it back; it then goes on by itself.",
    ),
    WhyReason.NO_WORD_YET: Sentence(
        "Its new document is written, and it has not said anything about it yet.",
        "Wait. If it lasts, look at the device: skerry device show.",
    ),
    WhyReason.ON_ITS_WAY: Sentence("It is on its way, at: {phase}.", "Wait for its next word."),
    WhyReason.COMPARED: COMPARED,
    WhyReason.HAS_UNTIL: Sentence(
        "If it has not come to an end by {until}, it counts as failed.",
        "See how far it is: skerry device show.",
    ),
    WhyReason.SERVES_IT: Sentence("It serves what was rolled out.", "Nothing left to do."),
    WhyReason.WENT_BACK: Sentence(
        "It tried the revision and went back to the one before, which serves.",
        "See what happened there: skerry device history.",
    ),
    WhyReason.REFUSED_IT: Sentence(
        "It refused the revision, which never served there; what served before still does.",
        "See what happened there: skerry device history.",
    ),
    WhyReason.TOO_LATE: Sentence(
        "It could be reached and did not come to an end in time, so it counts as failed.",
        "See what holds it up: skerry device show. A late end still counts.",
    ),
    WhyReason.GOES_BACK: Sentence(
        "It has been told to go back to what it had, and has not said that it is there.",
        "Wait. If it lasts, look at the device: skerry device show.",
    ),
    WhyReason.IS_BACK: Sentence("It serves what it had before.", "Nothing left to do here."),
    WhyReason.IS_WITHOUT: Sentence(
        "It had nothing under this name before, so it serves no {deployment} now.",
        "To have it serve one: skerry rollout start.",
    ),
    WhyReason.NOT_BACK: Sentence(
        "It was told to go back to what it had, and could not.",
        "See why: skerry device show. Then roll out a version that it takes.",
    ),
    WhyReason.OVERTAKEN_HERE: Sentence(
        "A newer rollout of this deployment has decided about it since.",
        "Look at the newer one: skerry rollout show {newer}.",
    ),
    WhyReason.SPARED: Sentence(
        "The rollout ended before its turn: it was never asked, and keeps what it has.",
        "Nothing. To reach it, start another rollout.",
    ),
}
"""Every code of `fleet.rollouts.why`."""
