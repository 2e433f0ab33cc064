"""Selectors: a query over labels and facts, in Kubernetes label-selector syntax. Pure.

Requirements are joined by commas, and all must hold:

    shop=oslo, tier!=lab, model in (a, b), zone notin (x), camera, !spare

As in Kubernetes, `!=` and `notin` also hold where the key is absent, and the
empty selector holds for everything. Facts are read like labels, under
`skerry/`. Writing a parsed selector gives the canonical form, and parsing that
gives the same selector again.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

TEXT_LIMIT = 2048
"""Characters of a selector: longer ones are lists of targets, which a request can name."""

EVERYTHING = "all"
"""What a person says to reach everything."""

GRAMMAR = "KEY=VALUE, KEY!=VALUE, KEY in (A, B), KEY notin (A, B), KEY, !KEY, with commas between"
"""The whole syntax in one line, for who got it wrong."""

_KEY = re.compile(
    r"([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z"
)
_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?\Z")
_WORD = re.compile(r"[^\s,()=!]+")
_SPACE = re.compile(r"\s*")
_EQUALITY = re.compile(r"==|=|!=")
_LISTED = re.compile(r"(in|notin)(?=[\s(]|\Z)")


class Operator(StrEnum):
    """How a requirement reads the value under its key."""

    EQUALS = "="
    DIFFERS = "!="
    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    ABSENT = "!"


_ONE_VALUE = frozenset({Operator.EQUALS, Operator.DIFFERS})
_VALUES = frozenset({Operator.IN, Operator.NOT_IN})
_INCLUDING = frozenset({Operator.EQUALS, Operator.IN})
_PRESENCE = frozenset({Operator.EXISTS, Operator.ABSENT})


class SelectorError(ValueError):
    """A selector can't be read; `position` is where, counted from 0."""

    def __init__(self, text: str, position: int, problem: str) -> None:
        super().__init__(f"selector {text[:120]!r}, character {position + 1}: {problem}")
        self.position = position
        self.problem = problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One condition. `values` are sorted and distinct, so that equal conditions are equal."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_key(self.key)
        if wrong := [value for value in self.values if not _VALUE.match(value)]:
            raise ValueError(f"not a label's value: {wrong[0][:80]!r}")
        if self.values != tuple(sorted(set(self.values))):
            raise ValueError("values are sorted and distinct")
        if self.operator in _VALUES:
            fits = bool(self.values) and "" not in self.values
        else:
            fits = len(self.values) == (self.operator in _ONE_VALUE)
        if not fits:
            raise ValueError(f"{self.operator} doesn't take {len(self.values)} such values")

    def matches(self, attributes: Mapping[str, str]) -> bool:
        """Say whether the condition holds for these labels and facts."""
        value = attributes.get(self.key)
        if self.operator in _PRESENCE:
            return (value is not None) is (self.operator is Operator.EXISTS)
        return (value in self.values) is (self.operator in _INCLUDING)

    def __str__(self) -> str:
        if self.operator is Operator.EXISTS:
            return self.key
        if self.operator is Operator.ABSENT:
            return f"!{self.key}"
        if self.operator in _ONE_VALUE:
            return f"{self.key}{self.operator}{self.values[0]}"
        return f"{self.key} {self.operator} ({','.join(self.values)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """All of these must hold. None of them: everything matches."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, attributes: Mapping[str, str]) -> bool:
        """Say whether every requirement holds for these labels and facts."""
        return all(requirement.matches(attributes) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


def check_key(key: str) -> None:
    """Refuse what is no label's name.

    Raises:
        ValueError: it is none.
    """
    if not _KEY.match(key):
        raise ValueError(f"not a label's name: {key[:80]!r}")


def asked(text: str) -> Selector:
    """Return what a person asks for: a selector, or `all` for everything, which must be said.

    An empty text is refused: it is more often a variable that nobody set than a
    wish for everything. A label that is called `all` can be asked for by its values.

    Raises:
        SelectorError: it is empty, or no selector.
    """
    if text.strip() == EVERYTHING:
        return Selector()
    if not text.strip():
        raise SelectorError(text, 0, f"it is empty; to reach everything, say: {EVERYTHING}")
    return parse(text)


def parse(text: str) -> Selector:
    """Return the selector written in `text`.

    Raises:
        SelectorError: it is not one; the error says where and what was expected.
    """
    if len(text) > TEXT_LIMIT:
        raise SelectorError(
            text, TEXT_LIMIT, f"longer than {TEXT_LIMIT} characters; name the targets instead"
        )
    reader = _Reader(text)
    requirements = []
    reader.skip_space()
    while not reader.at_end:
        requirements.append(reader.requirement())
        reader.skip_space()
        if not reader.at_end:
            reader.expect(",", "',' or the end")
            reader.skip_space()
            if reader.at_end:
                raise reader.error("a requirement must follow ','")
    return Selector(requirements=tuple(requirements))


class _Reader:
    """A position in the text, moving forward only."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0

    @property
    def at_end(self) -> bool:
        return self._position == len(self._text)

    def error(self, problem: str) -> SelectorError:
        return SelectorError(self._text, self._position, problem)

    def skip_space(self) -> None:
        self._take(_SPACE)

    def expect(self, sign: str, expected: str) -> None:
        if not self._text.startswith(sign, self._position):
            raise self.error(f"expected {expected}")
        self._position += len(sign)

    def requirement(self) -> Requirement:
        if self._text.startswith("!", self._position):
            self._position += 1
            self.skip_space()
            return Requirement(key=self._key(), operator=Operator.ABSENT)
        key = self._key()
        self.skip_space()
        if sign := self._take(_EQUALITY):
            self.skip_space()
            operator = Operator.DIFFERS if sign == "!=" else Operator.EQUALS
            return Requirement(key=key, operator=operator, values=(self._value(),))
        if word := self._take(_LISTED):
            self.skip_space()
            return Requirement(key=key, operator=Operator(word), values=self._list())
        return Requirement(key=key, operator=Operator.EXISTS)

    def _key(self) -> str:
        start = self._position
        key = self._take(_WORD)
        if not _KEY.match(key):
            self._position = start
            raise self.error(f"expected a label's name, not {key[:80]!r}")
        return key

    def _value(self) -> str:
        start = self._position
        value = self._take(_WORD)
        if not _VALUE.match(value):
            self._position = start
            raise self.error(f"expected a label's value, not {value[:80]!r}")
        return value

    def _list(self) -> tuple[str, ...]:
        self.expect("(", "'('")
        values: set[str] = set()
        while True:
            self.skip_space()
            value = self._value()
            if not value:
                raise self.error("expected a value")
            values.add(value)
            self.skip_space()
            if self._text.startswith(")", self._position):
                self._position += 1
                return tuple(sorted(values))
            self.expect(",", "',' or ')'")

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._position)
        if found is None:
            return ""
        self._position = found.end()
        return found.group()
