"""What is decided: by the planner, a gate or a person; and the states of a rollout. Pure."""

from collections.abc import Mapping

from agent.wire.sentences import Sentence
from fleet.rollouts.errors import PlanReason
from fleet.rollouts.foresee import ObstacleReason
from fleet.rollouts.gate import GateReason
from fleet.rollouts.progress import PersonReason
from fleet.rollouts.states import RolloutState, TargetState, WaveState
from fleet.selector import EVERYTHING, GRAMMAR

PLANNED: Mapping[str, Sentence] = {
    PlanReason.NO_CHANGE: Sentence("It already wants exactly this.", "Nothing."),
    PlanReason.DEPLOYMENTS_LIMIT: Sentence(
        "It has {limit} deployments, the most a device may have.", "Remove one first."
    ),
    PlanReason.FACTS_UNKNOWN: Sentence(
        "It hasn't said enough of itself (architecture, memory, runtime) to tell what fits.",
        "Start its agent; it says so when it connects.",
    ),
    PlanReason.TARGET_UNKNOWN: Sentence(
        "There is no device with this id.", "Look it up: skerry device ls."
    ),
    PlanReason.TARGET_AHEAD: Sentence(
        "It acts on document {observed}, newer than any in the store: the store was restored.",
        "Nothing is sent to it, so that it isn't driven back. Restore a newer store.",
    ),
    PlanReason.BUNDLE_UNKNOWN: Sentence(
        "No such bundle is published here.", "Publish it first; skerry bundle ls shows what is."
    ),
    PlanReason.POLICY_UNKNOWN: Sentence(
        "There is no such policy.", "Take one that there is: skerry policy ls."
    ),
    PlanReason.SELECTOR_MALFORMED: Sentence(
        "That is no selector.", f"Write {GRAMMAR}; or {EVERYTHING}, for every device."
    ),
    PlanReason.PLAN_CHANGED: Sentence(
        "The world is not as it was when that plan was made.",
        "Look at the new plan, and start that one.",
    ),
    PlanReason.OVERTAKEN: Sentence(
        "A newer change of this deployment came first; this one changed nothing.", "Nothing."
    ),
}
"""Why a target is left out, or nothing can be planned."""

DECIDED: Mapping[str, Sentence] = {
    # Gates
    GateReason.CANARY_FAILED: Sentence(
        "In wave {wave}, {target} did not take it ({cause}), first of its class ({class_name}).",
        "See why: skerry device history {target}. Then fix what failed, and roll out anew.",
    ),
    GateReason.ERRORS_ABOVE: Sentence(
        "In wave {wave}, {bad} of {of} did not take it; the gate lets pass {limit} %.",
        "See who and why: skerry rollout show. Then fix the model, and roll out a new version.",
    ),
    GateReason.UNDER_WAY: Sentence(
        "In wave {wave}, {under_way} have not come to an end yet.", "Wait."
    ),
    GateReason.WAITS_FOR_AWAY: Sentence(
        "In wave {wave}, {sample} came to an end, too few to decide; {away} are set aside.",
        "See why, one by one: skerry rollout show. Bring them back, or resume it once its "
        "deadline has passed.",
    ),
    GateReason.SAMPLE_TOO_SMALL: Sentence(
        "In wave {wave}, only {sample} came to an end: too few for the gate to decide.",
        "Look at them. Then go on (skerry rollout approve), or back (skerry rollout rollback).",
    ),
    GateReason.BETWEEN_THRESHOLDS: Sentence(
        "In wave {wave}, of {sample} too few took it to pass, and too many to fail.",
        "Look at who did not. Then skerry rollout retry asks them again, approve goes on, and "
        "rollback goes back.",
    ),
    GateReason.ENOUGH_COMMITTED: Sentence(
        "In wave {wave}, {good} of the {sample} that came to an end serve it: enough.", "Nothing."
    ),
    GateReason.CHECK_FAILED: Sentence(
        "In wave {wave}, the check {check} fails on {class_name}: {observed} against {limit}, of "
        "{sample} told (compared with {against}).",
        "See what it measured: skerry rollout show. Then fix the model, and roll out a new "
        "version.",
    ),
    GateReason.MEASURING: Sentence(
        "In wave {wave}, {sample} of {least} were told yet that the check {check} wants of "
        "{class_name}.",
        "Wait, or let it be used: it soaks on until its deadline.",
    ),
    GateReason.CHECK_UNDECIDED: Sentence(
        "In wave {wave}, only {sample} of {least} were told that the check {check} wants of "
        "{class_name}: too few for the gate to decide.",
        "Look at them. Then go on (skerry rollout approve), or back (skerry rollout rollback).",
    ),
    # What a plan says beforehand
    ObstacleReason.SAMPLE_OUT_OF_REACH: Sentence(
        "Wave {wave} has {targets} targets and its gate wants {sample} of them: it will {then}.",
        "Take more targets or another policy, or be there to resume it.",
    ),
    ObstacleReason.WAVE_AWAY: Sentence(
        "None of the {targets} targets of wave {wave} can be reached: it waits for one to be "
        "back; after its deadline its gate will {then}.",
        "Bring them back, or leave them out.",
    ),
    ObstacleReason.SAMPLE_AWAY: Sentence(
        "Of wave {wave}, {here} can be reached, and its gate wants {sample} of {targets}: it waits "
        "for the others, and after its deadline it will {then}.",
        "Bring them back, or leave them out.",
    ),
    ObstacleReason.CLASS_LATER: Sentence(
        "No target of class {class_name} is in the first wave ({targets} wait).",
        "Nothing: the first of them goes alone in its wave, and the others follow it.",
    ),
    ObstacleReason.APPROVAL_WANTED: Sentence(
        "Wave {wave} waits for a person's approval, once it has soaked.",
        "Be there for it: skerry rollout approve.",
    ),
    ObstacleReason.SHADOW_NEEDS_TRAFFIC: Sentence(
        "In wave {wave}, {targets} compare it on live requests: one with fewer than {requests} in "
        "{limit_s} s refuses it, which counts as failed.",
        "Where there is less traffic, ask for fewer requests, or for no shadow (--settings).",
    ),
    ObstacleReason.DEADLINE_TOO_SHORT: Sentence(
        "In wave {wave}, the trial alone takes {needs_s} s; who takes {deadline_s} s has failed.",
        "Take a shorter trial (probation_s), or a policy with a later deadline (deadline_s).",
    ),
    ObstacleReason.KEEPS_WINDOWS: Sentence(
        "Of the {targets} targets of wave {wave}, {keeping} download, or change what they serve, "
        "in windows of their own: it waits for these.",
        "Nothing: each goes on by itself when its window opens. To go sooner: skerry device set "
        "NAME --download-windows none --maintenance-windows none.",
    ),
    ObstacleReason.CHECK_NEEDS_TRAFFIC: Sentence(
        "In wave {wave}, the check {check} wants {least} {counts} of each class while it soaks: "
        "with fewer in {limit_s} s its gate will {then}.",
        "Where there is less traffic, ask for a smaller minimum_sample, or for a later deadline_s.",
    ),
    ObstacleReason.CHECK_NEEDS_INCUMBENT: Sentence(
        "In wave {wave}, the check {check} compares with what served before, and {targets} serve "
        "nothing under that name: where a whole class does not, its gate will {then}.",
        "Take a policy with a fixed limit for a first rollout, or be there to approve it.",
    ),
    ObstacleReason.CLASS_AWAY: Sentence(
        "No target of class {class_name} can be reached, so none is a canary ({targets} wait).",
        "Nothing: the first of them that is back goes alone, and the others follow it.",
    ),
    # A person's words
    PersonReason.PAUSED_BY_PERSON: Sentence(
        "A person paused it: nobody new is asked.", "Go on: skerry rollout resume."
    ),
    PersonReason.ABORTED_BY_PERSON: Sentence(
        "A person ended it: whoever has it keeps it.",
        "To bring them back to what they had: skerry rollout rollback.",
    ),
    PersonReason.ROLLED_BACK_BY_PERSON: Sentence(
        "A person had it rolled back: its targets return to what they had.", "Nothing."
    ),
}
"""Why a rollout is as it is, and what a plan says beforehand."""

TARGETS: Mapping[TargetState, str] = {
    TargetState.PLANNED: "not asked yet",
    TargetState.ASKED: "asked, no word yet",
    TargetState.UPDATING: "on its way",
    TargetState.COMMITTED: "serves it",
    TargetState.ROLLED_BACK: "tried it and went back",
    TargetState.REFUSED: "refused it",
    TargetState.SUPERSEDED: "something newer is wanted",
    TargetState.TIMED_OUT: "did not come to an end in time",
    TargetState.RETURNING: "on its way back",
    TargetState.RETURNED: "back on what it had",
    TargetState.NOT_RETURNED: "could not go back",
    TargetState.NOT_ASKED: "was never asked",
}

WAVES: Mapping[WaveState, str] = {
    WaveState.WAITING: "a wave before it has not passed",
    WaveState.RUNNING: "its targets are asked, and on their way",
    WaveState.SOAKING: "enough of them serve it, and are watched for a while",
    WaveState.TO_APPROVE: "it has soaked, and waits for a person's approval",
    WaveState.INCONCLUSIVE: "its gate can't decide",
    WaveState.PASSED: "its gate let the next wave start",
    WaveState.FAILED: "its gate failed",
    WaveState.ABORTED: "the rollout ended before its gate decided",
    WaveState.SUPERSEDED: "something newer is wanted on all of its targets",
}

ROLLOUTS: Mapping[RolloutState, str] = {
    RolloutState.PLANNED: "not started",
    RolloutState.RUNNING: "its waves are under way",
    RolloutState.PAUSED: "nobody new is asked until a person resumes it",
    RolloutState.ROLLING_BACK: "its targets go back to what they had",
    RolloutState.DONE: "all of its waves have passed",
    RolloutState.ROLLED_BACK: "whoever could be reached is back on what they had",
    RolloutState.FAILED: "a target did not take it, or could not go back",
    RolloutState.ABORTED: "a person ended it, and whoever has it keeps it",
    RolloutState.SUPERSEDED: "something newer is wanted on all of its targets",
}
