"""What rules look at: the fleet as it is noted, and the centre itself. A value. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from fleet.alerts.notes import Noted
from fleet.rollouts.outline import Outline


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that one look sees.

    `hearing_since`: since when the centre has heard its broker without a gap; None: it does not.
    `rollouts` are those under way, and the newest of each deployment. `certificates` are the
    centre's own, by name, with the day on which each ends.
    """

    now: datetime
    hearing_since: datetime | None
    notes: Sequence[Noted] = ()
    rollouts: Sequence[Outline] = ()
    certificates: Mapping[str, datetime] = field(default_factory=dict)
