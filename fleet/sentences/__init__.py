"""What a reason code, a phase or a state means to a person, and what to do next. Pure.

Codes travel with parameters and never with prose; the prose is here, with the
reader, so that it can improve without a device. A parameter that a sentence
asks for and doesn't get shows as `?`; those it doesn't ask for follow in
brackets. A code nobody here knows shows itself: it comes from something newer.
"""

from collections.abc import Mapping

from agent.wire.sentences import PHASES, WIRE, Sentence, bracketed, filled
from fleet.sentences.health import HEALTH, STATES
from fleet.sentences.rollouts import DECIDED, PLANNED, ROLLOUTS, TARGETS, WAVES
from fleet.sentences.why import WAITING

__all__ = [
    "PHASES",
    "REASONS",
    "ROLLOUTS",
    "STATES",
    "TARGETS",
    "UNKNOWN_NEXT",
    "WAVES",
    "Sentence",
    "explain",
]

UNKNOWN_NEXT = "It is newer than this version of Skerry: upgrade the centre to read it."

REASONS: Mapping[str, Sentence] = {**WIRE, **PLANNED, **DECIDED, **WAITING, **HEALTH}
"""Every code of the wire and of the centre. A test fails on one without both parts."""


def explain(
    code: str, parameters: Mapping[str, str] | None = None, *, beside: bool = True
) -> Sentence:
    """Return what a reason code means, with its parameters put in.

    Without `beside` those that its sentence does not ask for are left out.
    """
    known = REASONS.get(code)
    if known is None:  # from outside: a text to show, not one to format
        return Sentence(bracketed(code, (parameters or {}) if beside else {}), UNKNOWN_NEXT)
    return filled(known, parameters or {}, beside=beside)
