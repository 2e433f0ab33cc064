"""A fleet at sites in a store, and a lookout over it in a time moved by hand."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field

from agent.wire import codec, v1
from agent.wire.phases import Phase
from agent.wire.reasons import Reason
from fleet.alerts.alert import Alert
from fleet.clock import written
from fleet.lookout import Lookout
from fleet.roll import Roll
from fleet.store import alerts, arrivals, desired
from fleet.store.engine import Store
from tests.fleet.deciding.paper import NOW
from tests.fleet.screens.village import FLEET, OLD, Villager, settle

FAR = dt.timedelta(days=3650)


@dataclass
class Outlook:
    """Devices `d-1` and so on, the first ones at the first site."""

    store: Store
    now: dt.datetime = NOW
    hears: bool = True
    told: int = 0
    sessions: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lookout = self.another()

    def another(self) -> Lookout:
        """Return a lookout that has seen nothing yet, as after a restart."""
        return Lookout(
            store=self.store,
            roll=Roll(self.store, FLEET),
            clock=lambda: self.now,
            connected=lambda: self.hears,
            certificates={"server": NOW + FAR},
            changed=self._changed,
        )

    def _changed(self) -> None:
        self.told += 1

    def settle(self, **sites: int) -> None:
        """Let devices join, report and feel well."""
        names = [
            Villager(name=f"{site}-{n}", site=site)
            for site, count in sites.items()
            for n in range(1, count + 1)
        ]
        settle(self.store, tuple(names))
        self.sessions = {f"d-{n}": 1 for n in range(1, len(names) + 1)}

    def join(self, name: str) -> None:
        """Let another device join, at another site."""
        number = len(self.sessions) + 1
        settle(self.store, (Villager(name=name, site="vigo"),), first=number)
        self.sessions[f"d-{number}"] = 1

    def want(self, device: str) -> None:
        """Want something else of a device: nothing."""
        with self.store.write() as connection:
            held = desired.held(connection, device)
            order = v1.Order(epoch=0, generation=1 if held is None else held.order.generation + 1)
            document = v1.Desired(
                fleet=FLEET, target=device, order=order, issued_at=written(self.now), deployments=()
            )
            desired.put(
                connection,
                desired.HeldDesired(
                    target=device,
                    order=order,
                    payload=codec.encode(document),
                    envelope=b"",
                    issued_at=written(self.now),
                ),
            )

    def commit(self, *documents: v1.Health | v1.Birth | v1.Death | v1.Reported) -> None:
        with self.store.write() as connection:
            arrivals.commit(connection, list(documents), now=written(self.now))

    def go(self, *ids: str) -> None:
        """Let the broker say that devices are gone."""
        self.commit(
            *(v1.Death(fleet=FLEET, device=each, session=self.sessions[each]) for each in ids)
        )

    def come(self, *ids: str) -> None:
        """Let devices connect again."""
        for each in ids:
            self.sessions[each] += 1
        self.commit(
            *(
                v1.Birth(
                    fleet=FLEET,
                    device=each,
                    session=self.sessions[each],
                    agent_version="1",
                    at=written(self.now),
                    facts={},
                )
                for each in ids
            )
        )

    def feel(self, *ids: str, restarts: int = 0, **changes: object) -> None:
        """Let devices tell how they feel."""
        self.commit(*(self.health(each, restarts=restarts, **changes) for each in ids))

    def health(self, device: str, *, restarts: int = 0, **changes: object) -> v1.Health:
        fields: dict[str, object] = {
            "fleet": FLEET,
            "device": device,
            "session": self.sessions[device],
            "at": written(self.now),
            "period_s": 60.0,
            "deployments": (
                v1.DeploymentHealth(
                    name="digits",
                    revision=3,
                    digest=OLD.digest,
                    requests=100,
                    errors=0,
                    restarts=restarts,
                ),
            ),
            **changes,
        }
        return v1.Health(**fields)  # type: ignore[arg-type]

    def refuse(self, *ids: str, reason: Reason | None = Reason.GOLDEN_MISMATCH) -> None:
        """Let devices report that they refuse what is wanted; None: that it serves."""
        phase = Phase.COMMITTED if reason is None else Phase.REFUSED
        self.commit(
            *(
                v1.Reported(
                    fleet=FLEET,
                    device=each,
                    session=self.sessions[each],
                    observed=v1.Order(epoch=0, generation=5),
                    deployments=(
                        v1.ReportedDeployment(
                            name="digits",
                            revision=3,
                            digest=OLD.digest,
                            phase=phase,
                            last_error=None if reason is None else v1.Problem(reason=reason),
                        ),
                    ),
                )
                for each in ids
            )
        )

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.now += dt.timedelta(seconds=seconds)

    def look(self, after_s: float = 0.0) -> list[tuple[str, str, str]]:
        """Let time pass, look, and return what has been told of: rule, place, last news."""
        self.wait(after_s)
        self.lookout.look()
        return self.told_of()

    def all_speak(self, after_s: float = 0.0) -> None:
        """Let time pass, and everybody who is here say that it is well."""
        self.wait(after_s)
        self.feel(*self.sessions)

    def told_of(self) -> list[tuple[str, str, str]]:
        return [(each.key.rule, each.key.subject, str(each.news)) for each in self.kept()]

    def kept(self) -> Iterator[Alert]:
        with self.store.read() as connection:
            found = alerts.page(connection, below=None, limit=500)
        yield from reversed(found)
