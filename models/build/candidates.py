"""Candidates for golden vectors: synthetic inputs of many kinds, for a model nothing is known of.

A model's own data is the engineer's to give (`--inputs`). Without it these
reach into as many corners as they can: noise, slow curves, sparse points,
constants, waves, steps and smooth pictures, over the whole range of a
quantized input and over four decades of a float one, whose range the file
doesn't say. Deterministic: a seed in, the same arrays out. Imports numpy: only
in a child.
"""

from collections.abc import Callable, Sequence

import numpy as np

from models.runtime import Array, Slot

_Random = np.random.Generator
Kind = Callable[[tuple[int, ...], _Random], Array]


def _noise(shape: tuple[int, ...], random: _Random) -> Array:
    return random.uniform(-1, 1, shape)


def _bell(shape: tuple[int, ...], random: _Random) -> Array:
    return random.normal(random.uniform(-0.6, 0.6), random.uniform(0.02, 0.5), shape)


def _curve(shape: tuple[int, ...], random: _Random) -> Array:
    count = int(np.prod(shape))
    knots = int(random.integers(2, 16))
    return np.interp(
        np.linspace(0, knots - 1, count), np.arange(knots), random.uniform(-1, 1, knots)
    ).reshape(shape)


def _points(shape: tuple[int, ...], random: _Random) -> Array:
    field = np.full(shape, random.uniform(-1, 1))
    field[random.random(shape) < random.uniform(0.005, 0.4)] = random.uniform(-1, 1)
    return field


def _flat(shape: tuple[int, ...], random: _Random) -> Array:
    return np.full(shape, random.uniform(-1, 1))


def _wave(shape: tuple[int, ...], random: _Random) -> Array:
    steps = np.arange(int(np.prod(shape)))
    wave: Array = np.sin(steps * 10 ** random.uniform(-3, 0.2) + random.uniform(0, 6))
    wave = wave * random.uniform(0.1, 1) + random.uniform(-0.5, 0.5)
    return wave.reshape(shape)


def _smooth(shape: tuple[int, ...], random: _Random) -> Array:
    """A slowly changing field along every axis: what pictures and spectrograms look like."""
    field = np.zeros(shape)
    for axis, size in enumerate(shape):
        if size > 1:
            knots = int(random.integers(2, 9))
            line = np.interp(
                np.linspace(0, knots - 1, size), np.arange(knots), random.uniform(-1, 1, knots)
            )
            along = [1] * len(shape)
            along[axis] = size
            field = field + line.reshape(along) * random.uniform(0.3, 1)
    return field + random.normal(0, 10 ** random.uniform(-3, -0.7), shape)


def _bands(shape: tuple[int, ...], random: _Random) -> Array:
    """A quiet ground with a few loud boxes: a word in a spectrogram, an object in a picture."""
    field = np.full(shape, random.uniform(-1, 0.2))
    for _ in range(int(random.integers(1, 6))):
        box = tuple(
            slice(start, start + int(random.integers(1, max(2, size))))
            for size, start in ((size, int(random.integers(0, size))) for size in shape)
        )
        field[box] += random.uniform(-1.5, 1.5)
    return field + random.normal(0, 10 ** random.uniform(-3, -0.7), shape)


KINDS: tuple[Kind, ...] = (_noise, _bell, _curve, _points, _flat, _wave, _smooth, _bands)


def draw(slots: Sequence[Slot], random: _Random, place: int) -> list[Array]:
    """Return one set of inputs; `place` walks through the kinds, so that all are as frequent."""
    kind = KINDS[place % len(KINDS)]
    return [_scaled(kind(slot.shape, random), slot, random) for slot in slots]


def _scaled(field: Array, slot: Slot, random: _Random) -> Array:
    """Put a field of about -1…1 into the input's own range."""
    if slot.dtype.kind == "f":
        if random.random() < 0.5:  # noqa: PLR2004  # half are pictures and rates: never negative
            field = (field + 1) / 2
        return np.asarray(field * 10 ** random.uniform(-1, 2.5), slot.dtype)
    if slot.dtype.kind == "b":
        return np.asarray(field > 0)
    if slot.dtype.itemsize > 2:  # noqa: PLR2004  # wide integers are counts and indices
        return np.asarray(np.clip(np.round((field + 1) * 4), 0, 8), slot.dtype)
    limits = np.iinfo(slot.dtype)
    spread = random.choice([1.0, 1.0, 0.5, 0.1])
    middle = (limits.max + limits.min + 1) / 2
    scaled = middle + field * spread * (limits.max - middle)
    return np.asarray(np.clip(np.round(scaled), limits.min, limits.max), slot.dtype)


def vary(parent: Array, other: Array, random: _Random) -> Array:
    """Return a neighbour of `parent`: mixed with another, stretched, shifted, patched or shaken."""
    if parent.dtype.kind == "b":
        return np.where(random.random(parent.shape) < 0.1, other, parent)  # noqa: PLR2004  # a tenth
    a, b = parent.astype(np.float64), other.astype(np.float64)
    spread = float(np.abs(a).max()) + 1e-6
    choice = int(random.integers(0, 6))
    if choice == 0:
        share = random.uniform(0, 0.6)
        a = a * (1 - share) + b * share
    elif choice == 1:
        a = a * random.uniform(0.6, 1.6)
    elif choice == 2:  # noqa: PLR2004  # one of six
        a = a + spread * random.normal(0, 0.2)
    elif choice == 3:  # noqa: PLR2004  # one of six
        start, stop = sorted(random.integers(0, a.size + 1, 2))
        a.reshape(-1)[start:stop] = b.reshape(-1)[start:stop]
    elif choice == 4:  # noqa: PLR2004  # one of six
        a = a + _smooth(a.shape, random) * spread * 10 ** random.uniform(-2, 0)
    else:
        a = a + random.normal(0, spread * 10 ** random.uniform(-2.5, -0.5), a.shape)
    return fitted(a, parent)


def between(one: Array, other: Array, share: float) -> Array:
    """Return the array that is `share` of the way from one to the other."""
    if one.dtype.kind == "b":
        return other if share > 0.5 else one  # noqa: PLR2004  # there is no half
    return fitted(one.astype(np.float64) * (1 - share) + other.astype(np.float64) * share, one)


def shaken(array: Array, random: _Random) -> Array:
    """Return the array with its last bit shaken: what another rounding would make of it."""
    if array.dtype.kind == "b" or (array.dtype.kind != "f" and array.dtype.itemsize > 2):  # noqa: PLR2004  # counts and indices
        return array
    step = 1.0 if array.dtype.kind != "f" else float(np.abs(array).max()) / 256
    shift = random.integers(-1, 2, array.shape) * (random.random(array.shape) < 0.25)  # noqa: PLR2004
    return fitted(array.astype(np.float64) + shift * step, array)


def fitted(values: Array, like: Array) -> Array:
    """Round and clip to the type of `like`."""
    if like.dtype.kind == "f":
        return np.asarray(values, like.dtype)
    limits = np.iinfo(like.dtype)
    return np.asarray(np.clip(np.round(values), limits.min, limits.max), like.dtype)
