"""What the reason codes of the wire, and the phases of a revision, mean to a person. Pure.

Nothing here travels: the wire carries codes and parameters. These sentences are for whoever
reads them, at the centre (`fleet.sentences` adds the centre's own) and before the device.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from agent.wire.phases import Phase
from agent.wire.reasons import Reason


@dataclass(frozen=True, slots=True)
class Sentence:
    """What one code means, and the next step, both with `{parameters}`.

    `bare` is the meaning where some of them are missing: an older device, or a record of the past.
    """

    meaning: str
    next_step: str
    bare: str = ""


class _Parameters(dict[str, str]):
    """What a device said beside the code, and which of it a sentence has used."""

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__(given)
        self.left = dict(given)
        self.missing = False

    def __getitem__(self, name: str) -> str:
        self.left.pop(name, None)
        self.missing = self.missing or name not in self
        return self.get(name, "?")


def filled(known: Sentence, parameters: Mapping[str, str], *, beside: bool = True) -> Sentence:
    """Return a sentence with its parameters put in, and in brackets those it did not ask for.

    Without `beside` those are left out. Where one is missing that it asks for, and it has bare
    words, these are said.
    """
    values = _Parameters(parameters)
    meaning = known.meaning.format_map(values)
    if values.missing and known.bare:
        values, meaning = _Parameters(parameters), known.bare
    next_step = known.next_step.format_map(values)
    return Sentence(bracketed(meaning, values.left if beside else {}), next_step)


def bracketed(meaning: str, parameters: Mapping[str, str]) -> str:
    """Return a meaning, and in brackets what was said beside it."""
    details = ", ".join(f"{name} {value}" for name, value in parameters.items())
    return f"{meaning} ({details})" if details else meaning


COMPARED = Sentence(
    "It is compared with what serves, unseen, and goes on once enough live requests were compared.",
    "Wait. It needs requests: without them it is refused when its shadow's limit_s is over.",
)
"""Of a candidate in its shadow: it waits for others' requests, not for its own next step."""

WIRE: Mapping[str, Sentence] = {
    # A document from outside
    Reason.MALFORMED: Sentence(
        "A document can't be read.",
        "Look for a proxy or a program of another version between device and centre.",
    ),
    Reason.TOO_LARGE: Sentence(
        "It is larger than is accepted.",
        "Remove deployments or settings, or split the request.",
    ),
    Reason.UNKNOWN_SCHEMA: Sentence(
        "A document is of a kind or version that its reader doesn't know.",
        "Upgrade the older of the two sides.",
    ),
    Reason.SECRET_IN_DOCUMENT: Sentence(
        "A setting carries a secret in plain text, and was not sent.",
        'Store the secret on the device and name it: {{"secret": "its-name"}}.',
    ),
    Reason.SIGNATURE_MISSING: Sentence(
        "There is no signature by a key that is trusted here.",
        "Sign the bundle with a key that this fleet trusts, and publish it again.",
    ),
    Reason.SIGNATURE_INVALID: Sentence(
        "The signature doesn't match the content: it was changed after it was signed.",
        "Publish it again from its source, and find out who changed it.",
    ),
    Reason.WRONG_FLEET: Sentence(
        "A document for another fleet was refused.",
        "Check which centre and broker this device is joined to.",
    ),
    Reason.WRONG_TARGET: Sentence(
        "A document for another device was refused.",
        "Check the broker's access rules: a device must see only its own topics.",
    ),
    Reason.WRONG_KIND: Sentence(
        "A document of one kind arrived where another belongs, and was refused.",
        "Check what else publishes to this broker.",
    ),
    Reason.STALE_GENERATION: Sentence(
        "An older document than the one held was refused; nothing changed.",
        "Nothing, if it was a late copy. Otherwise check whether the centre's store was restored.",
    ),
    Reason.CONFLICTING_GENERATION: Sentence(
        "Two different documents carry one generation: two centres speak for this fleet.",
        "Stop one of the centres, and check where the signing key is kept.",
    ),
    Reason.COMMAND_EXPIRED: Sentence(
        "A command came after its time had passed, and was not carried out.",
        "Ask again; check the device's clock if this repeats.",
    ),
    Reason.COMMAND_NOT_ALLOWED: Sentence(
        "The device refuses this command.",
        "Ask its owner to allow it (skerry-agent policy --allow), or give it an agent that knows "
        "this command.",
    ),
    Reason.COMMAND_INTERRUPTED: Sentence(
        "The agent ended while it had this command, and does not begin it again.",
        "Ask again; if it ends again, look who or what ends it: memory, or somebody.",
    ),
    Reason.UPDATE_UNDER_WAY: Sentence(
        "The device is changing what serves, and that would be disturbed.",
        "Ask again when it is over: skerry device show says how far it is.",
    ),
    # A bundle and its parts
    Reason.MODEL_MALFORMED: Sentence(
        "The model file is damaged, or no TFLite model.",
        "Copy it again from its source, or convert it again.",
    ),
    Reason.MODEL_TOO_LARGE: Sentence(
        "The model, or a part of it, is larger than the limit.",
        "Quantize it, or take a smaller model.",
    ),
    Reason.MODEL_UNSUPPORTED: Sentence(
        "The model needs something that the runtime here doesn't do, or does wrongly.",
        "Pack a variant without it, or change the runtime on these devices.",
    ),
    Reason.CARD_MALFORMED: Sentence(
        "The bundle's card can't be read.", "Pack the model again: skerry model pack."
    ),
    Reason.BUNDLE_MALFORMED: Sentence(
        "The bundle's parts contradict each other.", "Pack the model again: skerry model pack."
    ),
    Reason.BUNDLE_INCOMPLETE: Sentence(
        "A file that belongs to the bundle is missing.", "Publish the whole bundle again."
    ),
    Reason.DIGEST_MISMATCH: Sentence(
        "Bytes are not the ones that were signed for.",
        "They are fetched again by themselves; if it repeats, check the disk and the registry.",
    ),
    Reason.SIZE_MISMATCH: Sentence(
        "A file has another size than its bundle says.",
        "They are fetched again by themselves; if it repeats, publish the bundle again.",
    ),
    Reason.ACCURACY_BUDGET: Sentence(
        "Quantizing cost more accuracy than the declared budget allows.",
        "Calibrate on more fitting data, or allow more on purpose.",
    ),
    Reason.NO_VARIANT_FITS: Sentence(
        "No file in the bundle runs on this hardware.",
        "Pack a variant for it: skerry model inspect shows what each needs.",
    ),
    # Fetching
    Reason.REGISTRY_UNREACHABLE: Sentence(
        "The registry can't be reached; what served goes on serving.",
        "Nothing: it is tried again. Check the network if it lasts.",
    ),
    Reason.REGISTRY_REFUSED: Sentence(
        "The registry refused to give the file.",
        "Check the device's certificate and the centre's log.",
    ),
    Reason.NOT_FOUND: Sentence("What was asked for isn't there.", "Check its name and digest."),
    Reason.DISK_FULL: Sentence(
        "There is not enough room on the disk.", "Free some room on the device; it is tried again."
    ),
    Reason.OUT_OF_MEMORY: Sentence(
        "There is not enough memory for it.",
        "Remove a deployment, or take a smaller variant.",
    ),
    Reason.TIMED_OUT: Sentence(
        "It took longer than it may.", "Nothing: it is tried again. If it lasts, look for load."
    ),
    Reason.DOWNLOAD_WINDOW_CLOSED: Sentence(
        "It has to be fetched, and this device may fetch again from {opens} on.",
        "Nothing: it begins by itself then. To fetch now: skerry device set NAME "
        "--download-windows none, or carry it there: skerry device export.",
        bare="It has to be fetched, and this device may not fetch now.",
    ),
    Reason.MAINTENANCE_WINDOW_CLOSED: Sentence(
        "It is here and ready, and what serves on this device may be changed from {opens} on.",
        "Nothing: it goes on by itself then. To let it go on now: skerry device set NAME "
        "--maintenance-windows none.",
        bare="It is here and ready, and what serves on this device may not be changed now.",
    ),
    Reason.CLOCK_WRONG: Sentence(
        "The device's clock is wrong, earlier than {issued_at}, so it can't keep its windows.",
        "Set its clock (or let it have NTP); or skerry device set NAME --download-windows none "
        "--maintenance-windows none.",
        bare="The device's clock is wrong, so it can't keep its windows.",
    ),
    Reason.TIME_ZONE_UNKNOWN: Sentence(
        "The device doesn't know the time zone {zone}, so its windows can't be kept.",
        "Upgrade tzdata on the device, or name another: skerry device set NAME --time-zone ZONE.",
        bare="The device doesn't know its time zone, so its windows can't be kept.",
    ),
    Reason.BLOB_ROTTEN: Sentence(
        "Something that the device keeps has rotted in its store; what serves goes on serving.",
        "Nothing: it is fetched again when the network allows. If it repeats, replace the disk.",
    ),
    # Answering what was asked
    Reason.CENTRE_UNREACHABLE: Sentence(
        "The device heard what was asked, and could not send its answer: no way to the centre.",
        "Ask again; if it lasts, run skerry-agent doctor on the device: registry is the same way.",
    ),
    Reason.CENTRE_REFUSED: Sentence(
        "The centre did not take the device's answer.",
        "Ask again; if it lasts, check the device's certificate and the centre's log.",
    ),
    # Self-test, workers, probation
    Reason.RUNTIME_MISSING: Sentence(
        "No TFLite runtime is installed on the device.",
        "Install one beside the agent: pip install 'skerry[agent,litert]'.",
    ),
    Reason.RUNTIME_BROKEN: Sentence(
        "The TFLite runtime is installed and does not start.",
        "Install it again for this Python and numpy.",
    ),
    Reason.LOAD_FAILED: Sentence(
        "The runtime refuses to load the model.",
        "Check the operators it needs (skerry model inspect) against the runtime's version.",
    ),
    Reason.GOLDEN_MISMATCH: Sentence(
        "The model answers its golden vectors wrongly on this device, so it may not serve there.",
        "Don't roll it out to this class of devices; pack a variant that is right there.",
    ),
    Reason.WORKER_CRASHED: Sentence(
        "The process that runs the model died.",
        "It is started again by itself; a model that keeps dying gives way to the one before it.",
    ),
    Reason.WORKER_STUCK: Sentence(
        "A call took longer than its deadline, and the process was ended.",
        "Raise timeout_s, or use fewer threads; it is started again by itself.",
    ),
    Reason.PROBATION_FAILED: Sentence(
        "It served badly on trial, and the revision before it serves again.",
        "Read the device's last events for errors and latency.",
    ),
    Reason.QUARANTINED: Sentence(
        "This content failed here before ({cause}), and is not tried again.",
        "Publish a repaired version: quarantine is of exactly these bytes. If the machine was the "
        "cause, let it be tried again, at the device: skerry-agent lift-quarantine.",
        bare="This content failed here before, and is not tried again.",
    ),
    Reason.TOO_SLOW: Sentence(
        "It takes longer on this device than its latency budget allows: {measured} ms, and "
        "{budget} ms are allowed.",
        "Pack a faster variant, or raise latency_budget_s.",
        bare="It takes longer on this device than its latency budget allows.",
    ),
    Reason.TOO_MUCH_MEMORY: Sentence(
        "It takes more memory on this device than its memory budget allows: {measured} MiB, and "
        "{budget} MiB are allowed.",
        "Pack a smaller variant, or raise memory_budget_bytes.",
        bare="It takes more memory on this device than its memory budget allows.",
    ),
    Reason.SHADOW_DISAGREED: Sentence(
        "On live requests it answered other than the one that serves: {agreed} of {compared} "
        "agreed.",
        "Find out which of the two is right; if it is the new one, roll out with settings that "
        "have no shadow.",
        bare="On live requests it answered other than the one that serves.",
    ),
    Reason.SHADOW_INCONCLUSIVE: Sentence(
        "There was too little to compare it by: {compared} of {wanted} live requests.",
        "Raise limit_s or lower requests of its shadow, or roll out with settings that have none.",
        bare="There were too few live requests to compare it by.",
    ),
    Reason.ACCELERATOR_FALLBACK: Sentence(
        "It runs, on a slower path than it was built for.",
        "Check the accelerator's driver on the device.",
    ),
    Reason.ACCELERATOR_MISSING: Sentence(
        "The accelerator it was built for is not there.",
        "Connect it, or pack a variant for the CPU.",
    ),
    # Order of things
    Reason.SUPERSEDED: Sentence("Something newer is wanted.", "Nothing."),
    Reason.REMOVED: Sentence("It is not wanted here any more.", "Nothing."),
    Reason.HELD_BY_OWNER: Sentence(
        "A technician holds this device as it is.",
        "Ask them to release it on the device.",
    ),
    Reason.INTERRUPTED: Sentence(
        "It was stopped in the middle, and carries on where it was.",
        "Nothing; if it comes again, look who or what kills it: memory, or somebody.",
    ),
    Reason.INCUMBENT_KEPT: Sentence(
        "The revision before keeps serving.", "See why the newer one failed."
    ),
    Reason.LEDGER_CORRUPT: Sentence(
        "The device's own records were damaged, and it began new ones.",
        "Check its disk. It is told again what to serve.",
    ),
    Reason.LEDGER_UNWRITABLE: Sentence(
        "The device can't write its ledger: it serves what it served, and begins nothing new.",
        "Mend its disk, or who owns its folder, and start the agent again.",
    ),
    Reason.OUTBOX_FULL: Sentence(
        "So much was left to tell that the oldest of it was summed up.",
        "Nothing: the sums are kept. Check why the device was away so long.",
    ),
    # Joining
    Reason.TOKEN_UNKNOWN: Sentence(
        "The join token is not one of this centre's.", "Copy it again, or make a new one."
    ),
    Reason.TOKEN_USED: Sentence(
        "The join token has been used up.", "Make a new one: skerry token create."
    ),
    Reason.TOKEN_EXPIRED: Sentence(
        "The join token's time has passed.", "Make a new one: skerry token create."
    ),
    Reason.NAME_TAKEN: Sentence(
        "Another device of this fleet has the name.",
        "Join with another one: skerry-agent join … --name NAME.",
    ),
    Reason.CA_MISMATCH: Sentence(
        "The centre at this address is not the one the token is from.",
        "Check the address; if it is right, somebody stands between.",
    ),
    Reason.CSR_INVALID: Sentence(
        "The device's signing request is not acceptable.",
        "Join again with this version of skerry-agent.",
    ),
    # A defect of ours
    Reason.INTERNAL: Sentence(
        "Skerry made a mistake.", "Report it, with the log around this time."
    ),
}

PHASES: Mapping[Phase, str] = {
    Phase.ACCEPTED: "wanted, not begun",
    Phase.FETCHING: "fetching its files",
    Phase.VERIFYING: "checking signature and digests",
    Phase.STAGING: "putting it in place",
    Phase.TESTING: "answering its golden vectors",
    Phase.SHADOWING: "answering beside the one that serves, unseen",
    Phase.ACTIVATING: "starting beside the one that serves",
    Phase.PROBATION: "serving on trial",
    Phase.COMMITTED: "serving",
    Phase.ROLLING_BACK: "going back to the one before",
    Phase.ROLLED_BACK: "went back to the one before",
    Phase.REFUSED: "refused; it never served",
    Phase.RETIRED: "replaced",
}
