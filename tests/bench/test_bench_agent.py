"""The benchmark of isolation measures what it says, of answers that are right."""

from pathlib import Path

import pytest

from models.runtime import Opened, open_model
from tests.agent.packages import Package
from tests.bench.bench_agent import (
    BASE,
    COMPARED_EVERY,
    HEAD,
    Bench,
    Round,
    WrongAnswerError,
    bench,
    in_process,
    nets,
)

INPUTS = 120


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Package]:
    folder: Path = tmp_path_factory.mktemp("nets")
    return nets(folder, "tiny")


@pytest.fixture
def model(tiny: dict[str, Package]) -> Opened:
    return open_model(tiny["tiny"].content, threads=1)


@pytest.mark.slow
@pytest.mark.real("mosquitto")
async def test_three_ways_of_asking_are_in_one_table(
    tiny: dict[str, Package], tmp_path: Path
) -> None:
    """A few rounds on a real worker and a whole agent; how long they took is not looked at."""
    said: list[str] = []
    calls = COMPARED_EVERY + 1
    await bench(tiny, tmp_path, rounds=3, calls={"tiny": calls}, say=said.append)

    head, *rows, compared = said
    assert HEAD == head
    assert [["tiny", BASE], ["tiny", "worker"], ["tiny", "HTTP"]] == [
        row.split()[:2] for row in rows
    ]
    assert 3 == rows[0].count("1.00 (1.00-1.00)")
    assert f"tiny   12 of {9 * calls} answers compared, all the same bytes" == compared


async def test_a_way_that_answers_wrongly_ends_the_run(
    tiny: dict[str, Package], model: Opened
) -> None:
    """One bit of one answer is enough."""
    right = in_process(model)
    inputs = [array.tobytes() for array in tiny["tiny"].inputs(INPUTS, seed=5)]

    async def lying(given: bytes) -> bytes:
        answer = bytearray(await right(given))
        answer[-1] ^= given == inputs[2 * COMPARED_EVERY]
        return bytes(answer)

    honest = Bench(model, inputs, {BASE: right, "other": right})
    await honest.run(rounds=2, calls=INPUTS)
    assert (2 * 5, 2) == (honest.compared, len(honest.rounds["other"]))

    with pytest.raises(WrongAnswerError, match="other answers input 100 otherwise"):
        await Bench(model, inputs, {BASE: right, "other": lying}).run(rounds=2, calls=INPUTS)


def test_a_ratio_is_of_one_round(model: Opened) -> None:
    """Noise that hits a whole round is not taken for a way's own cost."""
    made = Bench(model, [], {})
    for noise in (1.0, 5.0, 2.0):
        made.rounds.setdefault(BASE, []).append(Round((0.001 * noise,) * 10))
        made.rounds.setdefault("other", []).append(Round((0.002 * noise,) * 10))
    _, row = made.rows()

    assert ["2.00 (2.00-2.00)", "2.00 (2.00-2.00)", "0.50 (0.50-0.50)"] == [
        each.strip() for each in row.split("  ")[-3:]
    ]
