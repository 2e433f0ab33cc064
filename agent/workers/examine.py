"""A worker measures itself: how fast it answers, what it takes, and whether it is what it says.

Done in the very process that could serve, confined as it would serve, by the
golden inputs: no other input is at hand with no network. A delegate that took
over no node would be the CPU under another name, and one whose answers are
further from the CPU's than the card allows is no substitute for it: both are refused.
"""

import time

from agent.wire.reasons import Reason
from agent.workers.values import Examination, Launch
from models import runtime
from models.card import Card
from models.errors import RefusedError
from models.judge import apart, inputs_of
from models.runtime import Opened, Runner

_LEAST_RUNS, _MOST_RUNS, _LONG_ENOUGH_S = 5, 200, 0.25
_IT_IS = "is it"


def examine(
    launch: Launch, card: Card, content: bytes, golden: bytes, runner: Opened, *, memory_bytes: int
) -> Examination:
    """Measure a model that has passed its golden vectors; its state is not kept.

    Raises:
        RefusedError: ACCELERATOR_FALLBACK, the delegate does nothing of it; GOLDEN_MISMATCH, it
            differs from the CPU by more than the card allows.
    """
    reference = (
        _IT_IS if launch.delegate is None else _compare(launch, card, content, golden, runner)
    )
    runs, latency_p50_s = _time(card, golden, runner)
    return Examination(
        runs=runs, latency_p50_s=latency_p50_s, memory_bytes=memory_bytes, reference=reference
    )


def _time(card: Card, golden: bytes, runner: Runner) -> tuple[int, float]:
    """Return the median of some calls, one after another, each once the one before has ended."""
    now = time.perf_counter
    inputs = inputs_of(card, golden)
    runner.reset()
    taken: list[float] = []
    begun = now()
    while len(taken) < _LEAST_RUNS or (len(taken) < _MOST_RUNS and now() - begun < _LONG_ENOUGH_S):
        since = now()
        runner.run(inputs[len(taken) % len(inputs)])
        taken.append(now() - since)
    return len(taken), sorted(taken)[len(taken) // 2]


def _compare(launch: Launch, card: Card, content: bytes, golden: bytes, runner: Opened) -> str:
    accelerator = launch.delegate.accelerator if launch.delegate else "cpu"
    try:
        cpu = runtime.open_model(content, library=runner.library, threads=1)
        far = apart(card, golden, runner, cpu)
    except RefusedError as error:
        return f"the CPU can't run this file: {error}"
    if runner.delegated <= cpu.delegated:
        raise RefusedError(
            Reason.ACCELERATOR_FALLBACK,
            f"{accelerator} took over no operator of it: it would run on the CPU",
        )
    for tensor, distance, bound in zip(card.outputs, far, card.golden.tolerances, strict=True):
        if distance > bound.largest:
            raise RefusedError(
                Reason.GOLDEN_MISMATCH,
                f"{tensor.name} on {accelerator} is {distance:.4g} from the CPU's; "
                f"{bound.largest:.4g} is allowed",
            )
    return "agrees"
