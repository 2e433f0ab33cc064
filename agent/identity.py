"""Who this device is and whom it trusts: the folder that joining made, as values. Blocking."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from agent.errors import PersonError
from agent.fetch.job import Credentials
from agent.fetch.tls import client_context
from agent.home import Home
from agent.link.mqtt import Address
from agent.wire import codec, v1
from agent.wire.limits import JOIN_LIMIT_BYTES
from agent.wire.reasons import Reason

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A device's own name, its files, and the answer it got when it joined."""

    answer: v1.JoinAnswer
    credentials: Credentials

    def keys(self, use: str) -> tuple[str, ...]:
        """Return the trusted keys for a use, in PEM."""
        return tuple(key.key for key in self.answer.keys if key.use == use)

    def broker(self) -> Address:
        """Return where the broker is.

        Raises:
            PersonError: the address is not one we may use.
        """
        url = urlsplit(self.answer.broker_url)
        if url.scheme not in _PORTS or not url.hostname:
            raise _wrong(f"{self.answer.broker_url!r} is no mqtt:// or mqtts:// address")
        port = url.port or _PORTS[url.scheme]
        if url.scheme == "mqtt":
            if url.hostname not in _LOOPBACK:
                raise _wrong(f"{self.answer.broker_url!r} is not encrypted, and not this machine")
            return Address(host=url.hostname, port=port, tls=None)
        try:
            context = client_context(self.credentials)
        except OSError as error:
            raise _wrong(f"its certificate or key can't be read: {error}") from error
        return Address(host=url.hostname, port=port, tls=context)


def load(home: Home) -> Identity:
    """Return the identity in a home.

    Raises:
        PersonError: there is none, or it can't be read.
    """
    folder = home.identity
    try:
        with (folder / "join.json").open("rb") as file:
            raw = file.read(JOIN_LIMIT_BYTES + 1)
        answer = codec.decode(raw, v1.JoinAnswer)
    except FileNotFoundError:
        raise PersonError(
            "this device has not joined a fleet",
            Reason.NOT_FOUND,
            f"there is no identity in {folder}",
            "join it: skerry-agent join URL --token TOKEN; or name its folder with --home DIR",
            code=3,
        ) from None
    except (OSError, codec.WireError) as error:
        raise _wrong(f"{folder / 'join.json'}: {error}") from error
    return Identity(
        answer=answer,
        credentials=Credentials(
            key=str(folder / "key.pem"),
            certificate=str(folder / "cert.pem"),
            ca=str(folder / "ca.pem"),
        ),
    )


def _wrong(why: str) -> PersonError:
    return PersonError(
        "this device's identity can't be used",
        Reason.MALFORMED,
        why,
        "move its identity folder away and join again with a new token",
        code=1,
    )
