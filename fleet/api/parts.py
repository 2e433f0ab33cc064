"""What the application is made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from fleet.api.access import Access
from fleet.commands import Commands
from fleet.execute import Executor
from fleet.identity.authority import Authority
from fleet.identity.join import Reachable
from fleet.lookout import Lookout
from fleet.receivers.delivery import Delivery
from fleet.roll import Roll
from fleet.store.engine import Store
from fleet.tuning import Tuner
from models.keys import PublicKey
from models.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The registry's content, and the keys whose signature a bundle needs to get in."""

    layout: Layout
    keys: Sequence[PublicKey]


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerting:
    """Who looks out for what is wrong, and who tells of it."""

    lookout: Lookout
    delivery: Delivery


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the application is made of.

    `reachable` is where devices find broker and registry; `connected` says whether the
    centre itself hears the broker now.
    """

    access: Access
    authority: Authority
    store: Store
    roll: Roll
    content: Content
    executor: Executor
    tuner: Tuner
    commands: Commands
    alerting: Alerting
    reachable: Reachable
    clock: Callable[[], datetime]
    connected: Callable[[], bool]
