"""What one code says to a person. A value. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sentence:
    """What it means, and the next step, both with `{parameters}`."""

    meaning: str
    next_step: str
