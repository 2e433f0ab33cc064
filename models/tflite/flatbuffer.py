"""A flatbuffer read with suspicion: every offset is checked before it is followed. Pure.

FlatBuffers binary format (flatbuffers.dev, internals). Little-endian. The rules
are those of the official verifier: offsets stay inside the file and are
aligned, strings end in zero, tables lie within their vtable's bounds. Beyond it:
following the same bytes again and again uses up an allowance, so that a small
file can't cost a lot of time.
"""

import struct

from models.errors import RefusedError

_WORK_LIMIT = 16 * 1024 * 1024
"""Bytes of tables and vectors looked at, weights aside: hundreds of times an edge model's."""

_U16 = struct.Struct("<H")
_I32 = struct.Struct("<i")
_U32 = struct.Struct("<I")
_TABLE_COST = 32


class Flatbuffer:
    """The bytes of one file, how much looking they still allow, and how far it went."""

    __slots__ = ("_work", "end", "raw", "size")

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.size = len(raw)
        self.end = 8
        # Tables are small and may share a vtable, so a file costs a few times its own size at most.
        self._work = min(_WORK_LIMIT, 8 * self.size + 4096)

    def root(self) -> "Table":
        """Return the table the file begins with."""
        return self.table(0)

    def table(self, at: int) -> "Table":
        """Return the table that the offset stored at `at` leads to."""
        return Table(self, self._follow(at))

    def vector(self, at: int, width: int) -> tuple[int, int]:
        """Return where the vector that `at` leads to has its first element, and how many it has."""
        position = self._follow(at)
        count: int = _U32.unpack_from(self.raw, position)[0]
        start = position + 4
        self._reach(start, count * width)
        return start, count

    def numbers(self, at: int, code: str) -> tuple[float, ...]:
        """Return the numbers of the vector that `at` leads to; `code` is their `struct` letter."""
        start, count = self.vector(at, struct.calcsize("<" + code))
        self.spend(count * struct.calcsize("<" + code))
        return struct.unpack_from(f"<{count}{code}", self.raw, start)

    def tables(self, at: int, limit: int) -> "list[Table]":
        """Return the tables of the vector that `at` leads to; more than `limit` are refused."""
        start, count = self.vector(at, 4)
        if count > limit:
            raise RefusedError("MODEL_TOO_LARGE", f"a list of {count} parts; at most {limit}")
        return [self.table(start + 4 * number) for number in range(count)]

    def text(self, at: int) -> str:
        """Return the string that `at` leads to."""
        start, count = self.vector(at, 1)
        self.spend(count)
        self._reach(start, count + 1)
        if self.raw[start + count] != 0:
            raise malformed(f"the text at byte {start} doesn't end")
        try:
            return self.raw[start : start + count].decode()
        except UnicodeDecodeError as error:
            raise malformed(f"the text at byte {start} is not UTF-8") from error

    def spend(self, cost: int) -> None:
        """Use up some of the allowance."""
        self._work -= cost
        if self._work < 0:
            raise RefusedError(
                "MODEL_TOO_LARGE",
                "its parts refer to the same bytes over and over, or are too many",
            )

    def _follow(self, at: int) -> int:
        self._reach(at, 4)
        offset: int = _U32.unpack_from(self.raw, at)[0]
        position = at + offset
        if offset == 0 or position % 4:
            raise malformed(f"the offset at byte {at} leads nowhere")
        self._reach(position, 4)
        return position

    def _reach(self, start: int, length: int) -> None:
        end = start + length
        if end > self.size:
            raise malformed(f"it ends at byte {self.size}, and a part of it reaches to byte {end}")
        self.end = max(self.end, end)


class Table:
    """One table: its fields by their number in the schema."""

    __slots__ = ("_fields", "_file", "_position", "_size", "_vtable")

    def __init__(self, file: Flatbuffer, position: int) -> None:
        file.spend(_TABLE_COST)
        self._file = file
        self._position = position
        self._vtable = position - _I32.unpack_from(file.raw, position)[0]
        if self._vtable % 2 or not 0 <= self._vtable <= file.size - 4:
            raise malformed(f"the table at byte {position} has no description")
        length: int = _U16.unpack_from(file.raw, self._vtable)[0]
        self._size: int = _U16.unpack_from(file.raw, self._vtable + 2)[0]
        if (
            length < 4  # noqa: PLR2004  # its own two sizes
            or length % 2
            or self._vtable + length > file.size
            or self._size < 4  # noqa: PLR2004  # the way to its vtable
            or position + self._size > file.size
        ):
            raise malformed(f"the table at byte {position} is larger than the file")
        self._fields = (length - 4) // 2
        file.end = max(file.end, self._vtable + length, position + self._size)

    def at(self, field: int, width: int) -> int:
        """Return where a field of `width` bytes lies, or 0 where it is absent."""
        if field >= self._fields:
            return 0
        offset: int = _U16.unpack_from(self._file.raw, self._vtable + 4 + 2 * field)[0]
        if offset == 0:
            return 0
        if offset < 4 or offset + width > self._size or (self._position + offset) % width:  # noqa: PLR2004  # as above
            raise malformed(f"field {field} of the table at byte {self._position} is outside it")
        return self._position + offset

    def number(self, field: int, code: str, default: int = 0) -> int:
        """Return a whole-number field; `code` is its `struct` letter."""
        at = self.at(field, struct.calcsize("<" + code))
        if not at:
            return default
        value: int = struct.unpack_from("<" + code, self._file.raw, at)[0]
        return value

    def text(self, field: int) -> str | None:
        """Return a string field, or None where it is absent."""
        at = self.at(field, 4)
        return self._file.text(at) if at else None

    def wholes(self, field: int, code: str = "i") -> tuple[int, ...]:
        """Return a vector of whole numbers; empty where it is absent."""
        at = self.at(field, 4)
        return tuple(int(value) for value in self._file.numbers(at, code)) if at else ()

    def reals(self, field: int) -> tuple[float, ...]:
        """Return a vector of 32-bit floats; empty where it is absent."""
        at = self.at(field, 4)
        return self._file.numbers(at, "f") if at else ()

    def span(self, field: int, width: int = 1) -> tuple[int, int]:
        """Return a vector's start and its number of elements; (0, 0) where it is absent."""
        at = self.at(field, 4)
        return self._file.vector(at, width) if at else (0, 0)

    def table(self, field: int) -> "Table | None":
        """Return a table field, or None where it is absent."""
        at = self.at(field, 4)
        return self._file.table(at) if at else None

    def tables(self, field: int, limit: int) -> "list[Table]":
        """Return a vector of at most `limit` tables; empty where it is absent."""
        at = self.at(field, 4)
        return self._file.tables(at, limit) if at else []


def malformed(why: str) -> RefusedError:
    """Return the error that says a file is damaged, or never was one."""
    return RefusedError("MODEL_MALFORMED", f"not a whole .tflite file: {why}")
