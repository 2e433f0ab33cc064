"""Whether two models answered one request alike: the rule of the shadow. Imports numpy.

A classifier is asked for its decision: two versions never score alike, and needn't.
Where the card names none, each output must be near the other's.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from agent.workers.tensors import Array, OipError
from models.card import Card
from models.judge import distance


def alike(
    card: Card, results: Sequence[Array], others: Mapping[int, Array], *, tolerance: float | None
) -> bool:
    """Tell whether this model's results say what another's do.

    Args:
        card: this model's.
        results: all its outputs, in the card's order.
        others: what the other model answered, by the place in the card.
        tolerance: how far an output may be, in its own units; None: as the card says.

    Raises:
        OipError: what decides was not asked for, or has another shape.
    """
    decision = card.golden.decision
    places = others.keys() if decision is None else {decision}
    if not places <= others.keys():
        raise OipError("the output that decides was not asked for")
    for place in places:
        mine, other = results[place], others[place]
        if mine.shape != other.shape:
            raise OipError(f"output {card.outputs[place].name!r} has another shape")
        if place == decision:
            if not np.array_equal(mine.argmax(axis=-1), other.argmax(axis=-1)):
                return False
        else:
            bound = card.golden.tolerances[place].largest if tolerance is None else tolerance
            if distance(mine, other).max(initial=0.0) > bound:
                return False
    return True
