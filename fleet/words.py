"""Keeps how devices are over time, in state words: another word is written, and nothing else.

Who judges all devices says what was found (`keep`); what was said last is remembered, so that a
fleet that is as it was costs no query. A first look reads a large fleet's words, and writes those
that are others, some hundreds at a time: nobody else waits for long. Blocking.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from fleet.health.spoken import Word, word_of
from fleet.health.states import Verdict
from fleet.store import words
from fleet.store.engine import Store

_AT_ONCE = 500
_EACH = timedelta(minutes=1)


class Words:
    """Remembers each device's word, and that somebody looks."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._last: dict[str, Word] = {}
        self._looked: datetime | None = None

    def keep(self, found: Iterable[tuple[str, Verdict]], now: datetime) -> None:
        """Keep the words of a look at devices."""
        if self._looked is None or abs(now - self._looked) >= _EACH:
            with self._store.write() as connection:
                words.watched(connection, now)
            self._looked = now
        changed = [each for each in found if self._last.get(each[0]) != word_of(each[1])]
        for start in range(0, len(changed), _AT_ONCE):
            some = dict(changed[start : start + _AT_ONCE])
            with self._store.write() as connection:
                words.note(connection, some, now)
            self._last |= {device: word_of(verdict) for device, verdict in some.items()}
