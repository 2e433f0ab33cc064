"""Change how a device itself runs, by a person's word. Blocking."""

from collections.abc import Callable
from datetime import datetime

from agent.wire import v1
from fleet.clock import written
from fleet.inventory import Target
from fleet.roll import EPOCH
from fleet.settings import SettingsChange, resettled
from fleet.store import devices, reported
from fleet.store.engine import Store
from fleet.writing import newest, write_desired
from models.keys import SigningKey


class Tuner:
    """Writes devices' settings; calls `changed` when there is more to publish."""

    def __init__(
        self,
        *,
        fleet: str,
        store: Store,
        key: SigningKey,
        clock: Callable[[], datetime],
        changed: Callable[[], None],
    ) -> None:
        self._fleet, self._store, self._key = fleet, store, key
        self._clock, self._changed = clock, changed

    def change(
        self, name: str, change: SettingsChange, *, actor: str, reason: str = ""
    ) -> v1.Desired:
        """Write a device's next document, in which only its settings differ, and return it.

        Raises:
            NotFoundError: there is no device with this id or name.
            AmbiguousError: several have the name.
            PlanError: the change is none, is not possible, or would drive the device back.
        """
        with self._store.write() as connection:
            device = devices.named(connection, name)
            before = newest(connection, device.id)
            told = reported.held(connection, device.id)
            target = Target(
                device=device.id,
                name=device.name,
                desired=before,
                reported=None if told is None else told.document,
            )
            document = resettled(
                target,
                change,
                fleet=self._fleet,
                epoch=EPOCH,
                issued_at=written(self._clock()),
            )
            write_desired(connection, before, document, key=self._key, actor=actor, reason=reason)
        self._changed()
        return document
