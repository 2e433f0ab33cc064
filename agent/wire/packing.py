"""Sketches as short text: how 64 buckets fit beside 15 other deployments in 8 KB. Pure.

As JSON, a bucket costs some ten bytes; packed, two to four characters. The text
is base64 without padding over unsigned LEB128 numbers, buckets in rising order:

    first   the lowest index, zigzag (0, -1, 1, -2 … become 0, 1, 2, 3 …)
    then    for each bucket: count * 2, plus 1 when the next bucket is not the
            very next index; in that case the number of indexes left out follows

The lowest buckets are collapsed into one while the text is longer than
`PACKED_LIMIT`: the upper quantiles keep their 5 %.

The counts of a drift sketch are such numbers as well, all of them, in order.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping

from agent.wire.limits import DRIFT_COUNTS_LIMIT, SKETCH_INDEX_LIMIT

PACKED_LIMIT = 176
"""Characters of a packed sketch: with the longest name and counts in millions, a deployment's part
has then 412 bytes, and 16 of them fit 8 KB beside the device's 512, one deployment's drift and what
an event has around it. Enough for 64 neighbouring buckets of up to 8191 requests each, for 64 of
which those that stand apart have up to 63, or for 43 that all do and have more."""

_NUMBER_BITS = 53 + 1
"""A whole number of the wire, and the bit that says whether a gap follows."""


def pack(buckets: Mapping[int, int]) -> str:
    """Return the text of a sketch's buckets, the lowest collapsed where it would be too long."""
    if not buckets:
        return ""
    rest = sorted(buckets.items())
    while len(text := _text(rest)) > PACKED_LIMIT:
        (_, lowest), (index, count), *above = rest
        rest = [(index, lowest + count), *above]
    return text


def unpack(text: str) -> dict[int, int]:
    """Return the buckets that `pack` wrote.

    Raises:
        ValueError: it is not what `pack` writes.
    """
    if not text:
        return {}
    numbers = unleb128(_bytes(text))
    try:
        zigzag = next(numbers)
        index = (zigzag >> 1) ^ -(zigzag & 1)
        buckets: dict[int, int] = {}
        for number in numbers:
            if number < 2 or abs(index) > SKETCH_INDEX_LIMIT:  # noqa: PLR2004  # a count of at least one
                raise ValueError("a sketch with an empty bucket, or one out of range")
            buckets[index] = number >> 1
            index += 1 + (next(numbers) if number & 1 else 0)
    except StopIteration:
        raise ValueError("a sketch that ends early") from None
    return buckets


def pack_counts(counts: Iterable[int]) -> str:
    """Return the text of a drift sketch's counts."""
    return _base64(counts)


def unpack_counts(text: str) -> tuple[int, ...]:
    """Return the counts that `pack_counts` wrote.

    Raises:
        ValueError: it is not what `pack_counts` writes.
    """
    counts = tuple(unleb128(_bytes(text)))
    if not 0 < len(counts) <= DRIFT_COUNTS_LIMIT:
        raise ValueError(f"a sketch of {len(counts)} bins; 1 to {DRIFT_COUNTS_LIMIT}")
    return counts


def _text(buckets: list[tuple[int, int]]) -> str:
    first = buckets[0][0]
    numbers = [first << 1 if first >= 0 else (-first << 1) - 1]
    following = [index for index, _ in buckets[1:]]
    for (index, count), after in zip(buckets, [*following, buckets[-1][0] + 1], strict=True):
        gap = after - index - 1
        numbers += [count << 1 | 1, gap] if gap else [count << 1]
    return _base64(numbers)


def _base64(numbers: Iterable[int]) -> str:
    raw = b"".join(map(leb128, numbers))
    return base64.b64encode(raw).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    if len(text) > PACKED_LIMIT:
        raise ValueError(f"a sketch of {len(text)} characters; at most {PACKED_LIMIT}")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("a sketch that is not base64") from error


def leb128(number: int) -> bytes:
    """Return a number, none below 0, in as few bytes as it needs."""
    groups = bytearray()
    while number > 0x7F:  # noqa: PLR2004  # seven bits a byte
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def unleb128(raw: bytes) -> Iterator[int]:
    """Yield the numbers that `leb128` wrote.

    Raises:
        ValueError: they end early, or one is larger than a number of the wire.
    """
    number = shift = 0
    for byte in raw:
        number |= (byte & 0x7F) << shift
        shift += 7
        if number >> _NUMBER_BITS:
            raise ValueError("a sketch with a number too large")
        if byte < 0x80:  # noqa: PLR2004  # the last group of a number
            yield number
            number = shift = 0
    if shift:
        raise ValueError("a sketch that ends early")
