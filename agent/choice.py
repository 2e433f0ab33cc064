"""Which way a bundle serves on this device: by what was measured here, never by a guess. Pure.

The ways are variants, each on what it was built for, and thread counts; they come
with the likeliest first. Of those that passed their golden vectors the fastest is
taken, but only one that is clearly faster displaces a likelier one: two that differ
by noise must not change places at each start. More threads must earn the cores that
they take from others (two threads made one int8 model 30 times slower, because there
were two cores).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from agent.state import Installed, Measured
from agent.wire.reasons import Reason

CLEARLY = 0.9
"""A way displaces a likelier one when it takes at most this share of its time."""

WORTH_THE_CORES = 0.7
"""The same for one with more threads."""

THREADS_MOST = 4
"""More share their memory's bandwidth rather than their work on the machines this runs on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What a way to serve may take at most; None: anything."""

    latency_s: float | None = None
    memory_bytes: int | None = None


def thread_counts(wanted: int | None, cores: int, accelerator: str) -> tuple[int, ...]:
    """Return the thread counts to try; `wanted` leaves no choice."""
    if wanted is not None:
        return (wanted,)
    more = min(cores, THREADS_MOST)
    return (1, more) if more > 1 and accelerator == "cpu" else (1,)


def hopeless(way: Installed, found: Iterable[Measured]) -> bool:
    """Tell whether a way need not be tried: the same variant failed there with fewer threads."""
    return any(
        each.reason is not None
        and (each.variant, each.accelerator) == (way.variant, way.accelerator)
        for each in found
    )


OF_THE_WAY = frozenset(
    {
        Reason.ACCELERATOR_FALLBACK, Reason.ACCELERATOR_MISSING, Reason.GOLDEN_MISMATCH,
        Reason.LOAD_FAILED, Reason.MODEL_UNSUPPORTED, Reason.OUT_OF_MEMORY,
    }
)  # fmt: skip
"""Why one way may be out while another serves; what else fails is the bundle's or the world's."""

OF_THE_WAY_IN_THE_END = frozenset({Reason.WORKER_CRASHED, Reason.WORKER_STUCK})
"""The same, once it happened often enough not to be a busy machine's doing."""


def failed(way: Installed, reason: str, message: str) -> Measured:
    """Return what is known of a way that did not pass."""
    return Measured(
        variant=way.variant,
        format=way.format,
        accelerator=way.accelerator,
        threads=way.threads,
        reason=reason,
        message=message,
    )


def choose(
    ways: Sequence[Installed], found: Sequence[Measured], budget: Budget
) -> Installed | None:
    """Return the way to serve, with what was measured and why; None where none is left.

    Args:
        ways: those tried, the likeliest first.
        found: what was measured of each, in the same order.
        budget: what it may take.
    """
    best: int | None = None
    for number, measured in enumerate(found):
        if _out(measured, budget):
            continue
        if best is None or _displaces(measured, found[best]):
            best = number
    if best is None:
        return None
    return replace(
        ways[best],
        measured=tuple(found),
        why=_why(found, best),
        fallback=_fallback(ways, found, best, budget),
    )


def refusal(found: Sequence[Measured], budget: Budget) -> tuple[str, str, Mapping[str, str]]:
    """Return why no way is left, as the likeliest one says it: reason, message, parameters."""
    first = found[0]
    reason = first.reason or Reason.TOO_SLOW
    if over := _over(first, budget):
        return over
    others = "; ".join(f"{each.named}: {each.reason or each.took}" for each in found[1:])
    return reason, f"{first.message}{'; ' if others else ''}{others}", {}


def _over(measured: Measured, budget: Budget) -> tuple[Reason, str, Mapping[str, str]] | None:
    """Return why a way that works takes more than it may: reason, message, parameters."""
    took_s, most_s = measured.latency_p50_s, budget.latency_s
    if took_s is not None and most_s is not None and took_s > most_s:
        what = f"{measured.named} takes {measured.took}; {1000 * most_s:g} ms are allowed"
        return Reason.TOO_SLOW, what, _numbers(1000 * took_s, 1000 * most_s)
    size, most = measured.memory_bytes, budget.memory_bytes
    if size is not None and most is not None and size > most:
        what = f"{measured.named} takes {size} bytes of memory; {most} are allowed"
        return Reason.TOO_MUCH_MEMORY, what, _numbers(size / _MIB, most / _MIB)
    return None


_MIB = 1 << 20


def _numbers(measured: float, budget: float) -> Mapping[str, str]:
    """Write both with two decimals, or with more where it takes those to tell them apart."""
    written = {"measured": "", "budget": ""}
    for decimals in range(2, _DECIMALS_MOST + 1):
        written = {"measured": f"{measured:.{decimals}f}", "budget": f"{budget:.{decimals}f}"}
        if written["measured"] != written["budget"]:
            break
    return {name: number.rstrip("0").rstrip(".") for name, number in written.items()}


_DECIMALS_MOST = 9


def _out(measured: Measured, budget: Budget) -> bool:
    if measured.reason is not None or measured.latency_p50_s is None:
        return True
    return _over(measured, budget) is not None


def _displaces(new: Measured, old: Measured) -> bool:
    assert new.latency_p50_s is not None  # noqa: S101  # for the type checker: neither is out
    assert old.latency_p50_s is not None  # noqa: S101  # as above
    share = WORTH_THE_CORES if new.threads > old.threads else CLEARLY
    return new.latency_p50_s <= share * old.latency_p50_s


def _why(found: Sequence[Measured], best: int) -> str:
    chosen = found[best]
    others = ", ".join(
        f"{each.named}: {each.reason or each.took}"
        for number, each in enumerate(found)
        if number != best
    )
    alone = "the only way it fits here" if len(found) == 1 else f"before {others}"
    return f"{chosen.named}: {chosen.took}; {alone}"


def _fallback(
    ways: Sequence[Installed], found: Sequence[Measured], best: int, budget: Budget
) -> str:
    """Say why not the accelerator that it was built for, where that is so."""
    if ways[best].accelerator != "cpu":
        return ""
    for way, measured in zip(ways, found, strict=True):
        if way.accelerator != "cpu" and _out(measured, budget):
            if over := _over(measured, budget):
                return ": ".join(over[:2])
            return f"{measured.named}: {measured.reason}: {measured.message}"
    return ""
