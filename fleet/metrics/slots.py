"""Which values of a label have a name of their own: few, so that series are bounded. Pure.

A counter keeps its name for as long as it can: one that became a part of `other` would look
there like a flood. So slots are given when a value is first seen, and taken back only when the
fleet is looked at and others are larger; what was counted under them is then forgotten.
"""

from collections.abc import Callable, Collection, Iterable

OTHER = "other"
UNKNOWN = "unknown"

VALUE_LIMIT = 128
"""Characters of a label value. Names that people use are shorter; longer ones are `other`."""

Key = tuple[str, ...]


class Slots:
    """At most `limit` values of some labels, which are named together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: dict[Key, None] = {}
        self.overflow = 0

    def label(self, key: Key) -> Key:
        """Return the value as it is shown: itself, or `other` in every place."""
        shown = tuple(map(shown_value, key))
        if shown in self._held:
            return shown
        if len(self._held) < self._limit and all(len(each) <= VALUE_LIMIT for each in shown):
            self._held[shown] = None
            return shown
        self.overflow += 1
        return (OTHER,) * len(shown)

    @property
    def held(self) -> tuple[Key, ...]:
        """The values that have a name now."""
        return tuple(self._held)

    def release(self, gone: Callable[[Key], bool]) -> None:
        """Give back the slots of values that are gone."""
        self._held = {key: None for key in self._held if not gone(key)}

    def settle(self, ranked: Iterable[Key]) -> Collection[Key]:
        """Give the slots to the first of these where there are more; return who lost theirs."""
        first: dict[Key, None] = {}
        for key in ranked:
            shown = tuple(map(shown_value, key))
            if all(len(each) <= VALUE_LIMIT for each in shown):
                first.setdefault(shown)
        held = list(self._held)  # at once: another thread may be given a slot meanwhile
        if len({*first, *held}) <= self._limit:
            self._held |= first
            return ()
        kept = dict.fromkeys(list(first)[: self._limit])
        for old in held:
            if len(kept) < self._limit:
                kept.setdefault(old)
        lost = [old for old in held if old not in kept]
        self._held = kept
        return lost


def shown_value(text: str) -> str:
    """Return a label value that any reader takes: UTF-8, and never empty, which means no label."""
    return text.encode("utf-8", "replace").decode() or UNKNOWN
