"""Harms one packed model again and again on one runtime, and says what its golden vectors saw.

Run by `test_silabs_models` as a process of its own, on either interpreter, because damaged models
crash: `python harm.py FOLDER COPIES FIRST`, where FOLDER holds model, card and golden. One JSON
line per copy, so that what came before a crash is known.

A copy is *harmed* when its answers agree with the original's on less than 90 % of 200 fresh
inputs: the same class, or, where values count, no element further off than the card's `largest`.
"""

import json
import resource
import sys
from pathlib import Path

import numpy as np

from models import card_codec, tflite
from models.card import Card
from models.errors import RefusedError
from models.judge import distance, judge
from models.runtime import Array, Runner, open_model

FRESH = 200
AGREEING = 0.9
FIRST_BYTES = 64
WEIGHT_BYTES = 64  # shorter constants are shapes and axes
MEMORY_BYTES = 3 << 30


def fresh(runner: Runner) -> list[list[Array]]:
    """Draw inputs that have nothing to do with how golden vectors are chosen."""
    random = np.random.default_rng(7)
    rows = []
    for place in range(FRESH):
        row = []
        for slot in runner.inputs:
            field = random.uniform(-1, 1, slot.shape)
            if place % 2:  # slow waves along every axis, with a little noise
                field = field * 0.1
                for axis, size in enumerate(slot.shape):
                    line = np.sin(
                        np.arange(size) * random.uniform(0.02, 0.6) + random.uniform(0, 6)
                    )
                    field = field + (line * random.uniform(0, 0.8)).reshape(
                        [-1 if each == axis else 1 for each in range(len(slot.shape))]
                    )
            if slot.dtype.kind == "f":
                # The file doesn't say its range: rates, accelerations and pixels.
                values = (field + 1) / 2 if place % 3 else field
                row.append((values * (1, 10, 100)[place // 2 % 3]).astype(slot.dtype))
            else:
                limits = np.iinfo(slot.dtype)
                middle = (limits.max + limits.min) / 2
                values = np.round(middle + field * (limits.max - middle))
                row.append(np.clip(values, limits.min, limits.max).astype(slot.dtype))
        rows.append(row)
    return rows


def agreement(card: Card, answers: list[list[Array]], wanted: list[list[Array]]) -> float:
    """Return the share of inputs that are answered as before."""
    decision = card.golden.decision
    if decision is not None:
        same = [
            answer[decision].argmax() == before[decision].argmax()
            for answer, before in zip(answers, wanted, strict=True)
        ]
    else:
        same = [
            all(
                distance(one, two).max() <= bound.largest
                for one, two, bound in zip(answer, before, card.golden.tolerances, strict=True)
            )
            for answer, before in zip(answers, wanted, strict=True)
        ]
    return float(np.mean(same))


def hit(content: bytes, count: int, random: np.random.Generator) -> bytes:
    """Return a copy with `count` random weight bytes changed."""
    places = np.concatenate(
        [
            np.arange(span.offset, span.offset + span.length)
            for span in tflite.read(content).weights
            if span.length >= WEIGHT_BYTES
        ]
    )
    copy = np.frombuffer(content, np.uint8).copy()
    chosen = random.choice(places, min(count, len(places)), replace=False)
    copy[chosen] ^= random.integers(1, 256, len(chosen)).astype(np.uint8)
    return copy.tobytes()


def say(**fields: object) -> None:
    print(json.dumps(fields), flush=True)  # noqa: T201  # its answer


def main(folder: Path, copies: int, first: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    content = (folder / "model").read_bytes()
    card = card_codec.parse((folder / "card").read_bytes())
    golden = (folder / "golden").read_bytes()
    runner = open_model(content)
    verdict = judge(card, golden, runner)
    say(whole=verdict.passed, runtime=f"{runner.library} {runner.version}", message=verdict.message)
    rows = fresh(runner)
    wanted = [runner.run(row) for row in rows]
    for number in range(first, copies):
        random = np.random.default_rng(number)
        count = FIRST_BYTES
        while True:
            say(copy=number, bytes=count, began=True)
            agrees, seen = 0.0, True
            try:
                copy = open_model(hit(content, count, random))
                verdict = judge(card, golden, copy)
                seen = not verdict.passed
                agrees = agreement(card, [copy.run(row) for row in rows], wanted)
            except (RefusedError, MemoryError):
                pass  # a device that can't load it refuses it
            say(copy=number, bytes=count, agrees=agrees, refused=seen)
            if agrees < AGREEING:
                break
            count *= 2
            if count > len(content):
                break


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
