"""What a reason code, a phase or a state means to a person, and what to do next. Pure.

Codes travel with parameters and never with prose; the prose is here, with the
reader, so that it can improve without a device. A parameter that a sentence
asks for and doesn't get shows as `?`; those it doesn't ask for follow in
brackets. A code nobody here knows shows itself: it comes from something newer.
"""

from collections.abc import Mapping

from fleet.sentences.health import HEALTH, STATES
from fleet.sentences.rollouts import DECIDED, PLANNED, ROLLOUTS, TARGETS, WAVES
from fleet.sentences.sentence import Sentence
from fleet.sentences.why import WAITING
from fleet.sentences.wire import PHASES, WIRE

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


class _Parameters(dict[str, str]):
    """What a device said beside the code, and which of it a sentence has used."""

    def __init__(self, given: Mapping[str, str]) -> None:
        super().__init__(given)
        self.left = dict(given)

    def __getitem__(self, name: str) -> str:
        self.left.pop(name, None)
        return self.get(name, "?")


def explain(code: str, parameters: Mapping[str, str] | None = None) -> Sentence:
    """Return what a reason code means, with its parameters put in."""
    values = _Parameters(parameters or {})
    known = REASONS.get(code)
    if known is None:  # from outside: a text to show, not one to format
        meaning, next_step = code, UNKNOWN_NEXT
    else:
        meaning = known.meaning.format_map(values)
        next_step = known.next_step.format_map(values)
    details = ", ".join(f"{name} {value}" for name, value in values.left.items())
    return Sentence(f"{meaning} ({details})" if details else meaning, next_step)
