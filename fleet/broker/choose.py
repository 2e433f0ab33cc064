"""Which broker the centre uses."""

from fleet.broker import mosquitto
from fleet.broker.address import is_loopback
from fleet.broker.embedded import Embedded
from fleet.broker.external import External
from fleet.broker.mosquitto import Mosquitto
from fleet.broker.settings import BrokerSettings
from fleet.ports import Broker, BrokerError


def choose(settings: BrokerSettings) -> Broker:
    """Return the broker to use: by URL if given, else Mosquitto if installed, else the embedded.

    The embedded one has no access rules, so it is refused for anything but loopback.

    Raises:
        BrokerError: no broker can do what is asked; says what to install or change.
    """
    if settings.url is not None:
        return External(settings.url)
    if settings.embedded:
        return Embedded(settings)
    program = mosquitto.find()
    if program is not None:
        if settings.tls is None:
            raise BrokerError("Mosquitto needs a CA and a certificate; run 'skerry trust init'")
        return Mosquitto(settings, settings.tls, program)
    if is_loopback(settings.host):
        return Embedded(settings)
    raise BrokerError(
        f"devices on {settings.host} need Mosquitto, and it isn't installed:"
        " apt install mosquitto (or give the URL of a broker)"
    )
