"""Ask something of a device, by a person's word: signed, bounded in time, audited. Blocking."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from secrets import token_hex

from agent.wire import codec, v1
from fleet.clock import written
from fleet.store import audit, commands, devices
from fleet.store.engine import Store
from fleet.store.errors import TooManyError
from models import dsse
from models.keys import SigningKey

ASKED = "command.ask"
"""What the audit calls it."""

TOGETHER = 100
"""Devices that are asked at once: their answers, a megabyte each, are kept side by side."""


class Commands:
    """Writes commands; calls `changed` when there is more to publish.

    `answers_at` is the centre's https URL as devices reach it: long answers go there.
    """

    def __init__(
        self,
        *,
        fleet: str,
        store: Store,
        key: SigningKey,
        clock: Callable[[], datetime],
        changed: Callable[[], None],
        answers_at: str,
    ) -> None:
        self._fleet, self._store, self._key = fleet, store, key
        self._clock, self._changed, self._answers_at = clock, changed, answers_at

    def ask(
        self,
        names: Sequence[str],
        verb: v1.Verb,
        parameters: Mapping[str, str],
        *,
        valid_s: int,
        actor: str,
        reason: str = "",
    ) -> Sequence[commands.Asked]:
        """Ask devices to do something within a time, and return what each was asked.

        All of them, or none.

        Raises:
            NotFoundError: there is no device with this id or name.
            AmbiguousError: several have the name.
            TooManyError: these are too many at once, or too many are open.
        """
        if len(names) > TOGETHER:
            raise TooManyError(
                f"more than {TOGETHER} devices are meant",
                f"ask at most {TOGETHER} at once: by a narrower selector, or by site",
            )
        now = self._clock()
        with self._store.write() as connection:
            asked = []
            for name in names:
                device = devices.named(connection, name)
                command = self._made(device.id, verb, parameters, now, timedelta(seconds=valid_s))
                payload = codec.encode(command)
                envelope = dsse.render(self._key.sign(dsse.COMMAND_PAYLOAD_TYPE, payload))
                commands.ask(connection, command, envelope, actor=actor)
                entry = audit.Entry(
                    at=written(now),
                    actor=actor,
                    action=ASKED,
                    subject=device.id,
                    reason=reason,
                    after={"id": command.id, "verb": verb.value, "parameters": dict(parameters)},
                )
                audit.add(connection, entry)
                asked.append(commands.held(connection, device.id, command.id))
        self._changed()
        return asked

    def _made(
        self,
        device: str,
        verb: v1.Verb,
        parameters: Mapping[str, str],
        now: datetime,
        valid: timedelta,
    ) -> v1.Command:
        number = f"c-{token_hex(8)}"
        return v1.Command(
            fleet=self._fleet,
            target=device,
            id=number,
            verb=verb,
            issued_at=written(now),
            expires_at=written(now + valid),
            parameters={**parameters, "answer_to": f"{self._answers_at}/answers/{number}"},
        )
