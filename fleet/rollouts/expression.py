"""Checks as people write them: `latency_p95 / control.latency_p95 <= 1.3`. Pure.

A check is one comparison (`<`, `<=`, `>`, `>=`) of two sums of numbers and measures, with
`+ - * /` and brackets. `control.NAME` is a measure as it is with what served before. What has no
value makes the whole have none: no data, a division by zero, and what is no number (NaN, infinity).
"""

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from fleet.rollouts.measures import MEASURES

LENGTH_LIMIT = 200
_DEPTH_LIMIT = 16
_CONTROL = "control."


class ExpressionError(ValueError):
    """That is no check: where, and why."""

    def __init__(self, text: str, at: int, why: str) -> None:
        super().__init__(f"{text!r} is no check: column {at + 1}: {why}")


@dataclass(frozen=True, slots=True)
class Name:
    """A measure: of what is rolled out, or of what served before."""

    measure: str
    control: bool = False


@dataclass(frozen=True, slots=True)
class Sum:
    """Two parts with `+`, `-`, `*` or `/` between them."""

    sign: str
    left: "Part"
    right: "Part"


Part = float | Name | Sum


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A check that was read."""

    left: Part
    sign: str
    right: Part

    def names(self) -> frozenset[Name]:
        """Return the measures in it."""
        return frozenset((*_names(self.left), *_names(self.right)))

    def holds(self, left: float, right: float) -> bool:
        """Tell whether these values of its two sides are as it wants them."""
        return _COMPARED[self.sign](left, right)


_COMPARED: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_SIGNS: Mapping[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
}


def value(part: Part, read: Callable[[Name], float | None]) -> float | None:
    """Return the value of one side; None: it has none."""
    match part:
        case Name():
            found = read(part)
        case Sum():
            left, right = value(part.left, read), value(part.right, read)
            if left is None or right is None or (part.sign == "/" and right == 0):
                return None
            found = _SIGNS[part.sign](left, right)
        case _:
            found = part
    return found if found is not None and math.isfinite(found) else None


@lru_cache(maxsize=1024)
def parse(text: str) -> Comparison:
    """Read a check.

    Raises:
        ExpressionError: it is none; with the column.
    """
    if len(text) > LENGTH_LIMIT:
        raise ExpressionError(
            text[:20] + "…", LENGTH_LIMIT, f"it has more than {LENGTH_LIMIT} characters"
        )
    return _Reader(text).comparison()


def _names(part: Part) -> Iterator[Name]:
    if isinstance(part, Name):
        yield part
    elif isinstance(part, Sum):
        yield from _names(part.left)
        yield from _names(part.right)


_TOKEN = re.compile(
    r"[ ]*(?:(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<name>[a-z][a-z0-9_.]*)"
    r"|(?P<sign><=|>=|[<>+*/()-]))",
    re.ASCII,
)


class _Reader:
    """Reads a text from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def comparison(self) -> Comparison:
        left = self._sum()
        at, sign = self._next("sign")
        if sign not in _COMPARED:
            raise self._wrong(at, "here it wants one of < <= > >=")
        read = Comparison(left=left, sign=sign, right=self._sum())
        if self._text[self._at :].strip():
            raise self._wrong(self._at, "here it should end: a check is one comparison")
        if all(name.control for name in read.names()):
            raise self._wrong(0, "it names no measure of what is rolled out")
        return read

    def _sum(self) -> Part:
        found = self._product()
        while sign := self._takes("+", "-"):
            found = Sum(sign, found, self._product())
        return found

    def _product(self) -> Part:
        found = self._single()
        while sign := self._takes("*", "/"):
            found = Sum(sign, found, self._single())
        return found

    def _single(self) -> Part:
        if self._takes("("):
            return self._bracket()
        match = _TOKEN.match(self._text, self._at)
        at = self._begins()
        if match is None or match["sign"]:
            raise self._wrong(at, "here it wants a number, a measure or a bracket")
        self._at = match.end()
        if match["name"]:
            return self._named(at, match["name"])
        number = float(match["number"])
        if not math.isfinite(number):
            raise self._wrong(at, "that number is too large")
        return number

    def _bracket(self) -> Part:
        self._depth += 1
        if self._depth > _DEPTH_LIMIT:
            raise self._wrong(self._at, f"more than {_DEPTH_LIMIT} brackets in one another")
        found = self._sum()
        if not self._takes(")"):
            raise self._wrong(self._begins(), "a bracket is not closed")
        self._depth -= 1
        return found

    def _named(self, at: int, text: str) -> Name:
        measure = text.removeprefix(_CONTROL)
        if measure not in MEASURES:
            known = ", ".join(MEASURES)
            raise self._wrong(at, f"there is no measure {text}; there are {known}")
        if text != measure and MEASURES[measure].alone:
            raise self._wrong(at, f"{measure} is compared with the card already: it has no control")
        return Name(measure, control=text != measure)

    def _takes(self, *signs: str) -> str:
        match = _TOKEN.match(self._text, self._at)
        if match is None or match["sign"] not in signs:
            return ""
        self._at = match.end()
        return match["sign"]

    def _next(self, kind: str) -> tuple[int, str]:
        at, match = self._begins(), _TOKEN.match(self._text, self._at)
        if match is None or not match[kind]:
            return at, ""
        self._at = match.end()
        return at, match[kind]

    def _begins(self) -> int:
        rest = self._text[self._at :]
        return self._at + len(rest) - len(rest.lstrip(" "))

    def _wrong(self, at: int, why: str) -> ExpressionError:
        return ExpressionError(self._text, at, why)
