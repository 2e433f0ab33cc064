"""Whether whoever asks one model can go on asking another, by their cards. Pure.

A client's *contract* is what it must know to ask and to read the answer: the inputs and outputs
by name, datatype and shape; the quantization of those that are integers, for it is the client that
applies it; the labels in their order; what it does before and after; and whether answers depend
on earlier requests. A model is *drop-in* where none of it changed for the client: an input's
dimension that was fixed and may now vary is none, the other way round is; of an output's it is
the other way about, but for one that varies with the inputs.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from models.card import Card, Tensor

_SHOWN = 3
_TEXT_LIMIT = 60


class Compatibility(StrEnum):
    """What a newer model means to the clients of the one before."""

    DROP_IN = "drop-in"
    CONTRACT_CHANGED = "contract-changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractChange:
    """One thing that clients know and is otherwise; empty: it was not, or is no more, there."""

    part: str
    before: str
    after: str


def contract_changes(before: Card, after: Card) -> tuple[ContractChange, ...]:
    """Return what a client of `before` would have to know anew of `after`; none: it is drop-in."""
    return tuple(_changes(before, after))


def compatibility(changes: Sequence[ContractChange]) -> Compatibility:
    """Return what such changes mean."""
    return Compatibility.CONTRACT_CHANGED if changes else Compatibility.DROP_IN


def _changes(before: Card, after: Card) -> Iterator[ContractChange]:
    loosened = _loosened(before.inputs, after.inputs)
    yield from _tensors("input", before.inputs, after.inputs, _takes)
    yield from _tensors(
        "output", before.outputs, after.outputs, lambda old, new: _gives(old, new, loosened)
    )
    if before.labels != after.labels:
        yield ContractChange(
            part="labels",
            before=_labels(before.labels, after.labels),
            after=_labels(after.labels, before.labels),
        )
    for part in ("task", "preprocessing", "postprocessing"):
        had, has = getattr(before, part), getattr(after, part)
        if had != has:
            yield ContractChange(part=part, before=_cut(had), after=_cut(has))
    if before.stateful != after.stateful:
        words = {True: "depends on earlier requests", False: "depends on the request alone"}
        yield ContractChange(
            part="answer", before=words[before.stateful], after=words[after.stateful]
        )


def _tensors(
    kind: str,
    before: Sequence[Tensor],
    after: Sequence[Tensor],
    serves: Callable[[Tensor, Tensor], bool],
) -> Iterator[ContractChange]:
    had, has = ({each.name: each for each in tensors} for tensors in (before, after))
    for name in [*had, *(name for name in has if name not in had)]:
        old, new = had.get(name), has.get(name)
        if old is None or new is None or not serves(old, new):
            part = f"{kind} {_cut(name)}"
            yield ContractChange(part=part, before=_tensor(old), after=_tensor(new))


def _takes(old: Tensor, new: Tensor) -> bool:
    """Tell whether what a client sends by the old input is right by the new one."""
    fits = all(now in (was, -1) for was, now in zip(old.shape, new.shape, strict=False))
    return fits and _is_alike(old, new)


def _gives(old: Tensor, new: Tensor, loosened: frozenset[int]) -> bool:
    """Tell whether the new output is one that a client of the old one can read.

    A dimension may vary now where one of the inputs does that was fixed: who sends one row gets
    one.
    """
    fits = all(
        was in (now, -1) or (now == -1 and place in loosened)
        for place, (was, now) in enumerate(zip(old.shape, new.shape, strict=False))
    )
    return fits and _is_alike(old, new)


def _is_alike(old: Tensor, new: Tensor) -> bool:
    same = old.datatype == new.datatype and len(old.shape) == len(new.shape)
    return same and old.quantization == new.quantization


def _loosened(before: Sequence[Tensor], after: Sequence[Tensor]) -> frozenset[int]:
    """Return the places of dimensions of inputs that were fixed and may vary now."""
    had = {each.name: each.shape for each in before}
    return frozenset(
        place
        for each in after
        for place, (was, now) in enumerate(zip(had.get(each.name, ()), each.shape, strict=False))
        if was != -1 and now == -1
    )


def _tensor(tensor: Tensor | None) -> str:
    if tensor is None:
        return ""
    dimensions = ",".join("any" if each == -1 else str(each) for each in tensor.shape)
    said = f"{tensor.datatype} [{dimensions}]"
    by = tensor.quantization
    return said if by is None else f"{said} by {by.scale:.6g}, zero {by.zero_point}"


def _labels(labels: Sequence[str], others: Sequence[str]) -> str:
    """Say how many there are, and the first of them that stand nowhere, or elsewhere, there."""
    moved = [
        f"{place} {_cut(label)}"
        for place, label in enumerate(labels)
        if place >= len(others) or others[place] != label
    ]
    more = ", …" if len(moved) > _SHOWN else ""
    return f"{len(labels)} labels" + (f": {', '.join(moved[:_SHOWN])}{more}" if moved else "")


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_LIMIT else text[:_TEXT_LIMIT] + "…"
