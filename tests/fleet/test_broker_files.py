"""What Mosquitto is told, to the byte, and which broker is chosen."""

import re
from pathlib import Path

import pytest

from agent.wire.limits import PACKET_LIMIT_BYTES
from agent.wire.topics import DEVICE_READS, DEVICE_WRITES, Kind
from fleet.broker import mosquitto
from fleet.broker.address import Address
from fleet.broker.choose import choose
from fleet.broker.embedded import Embedded
from fleet.broker.embedded import render as render_embedded
from fleet.broker.external import External
from fleet.broker.mosquitto import Mosquitto
from fleet.broker.mosquitto_files import Files, Version, parse_version, render
from fleet.broker.settings import BrokerSettings, TlsFiles
from fleet.ports import BrokerError

TLS = TlsFiles(ca=Path("/t/ca.pem"), certificate=Path("/t/s.pem"), key=Path("/t/s.key"))

EVERYWHERE = "0.0.0.0"  # noqa: S104  # asked for, never bound here

CONFIGURATION = """\
# Written by Skerry at every start: changes made here are lost.
# For Mosquitto 2.0.11.
allow_anonymous false
acl_file /home/sk/broker/access
persistence true
persistence_location /home/sk/broker/
autosave_interval 300
max_packet_size 16384
max_queued_messages 300000
max_queued_bytes 536870912
persistent_client_expiration 7d
set_tcp_nodelay true
connection_messages false
log_dest stderr
log_timestamp false
log_type error
log_type warning
log_type notice

listener 8883 127.0.0.1
cafile /t/ca.pem
certfile /t/s.pem
keyfile /t/s.key
require_certificate true
use_identity_as_username true
use_username_as_clientid true
"""

ACCESS = """\
# Written by Skerry at every start: changes made here are lost.
user centre
topic readwrite skerry/v1/f/#

# Looks on: a certificate with this name is for people and their tools.
user observer
topic read skerry/v1/f/#

# A device: its own topics, and each in one direction only.
pattern read skerry/v1/f/%u/desired
pattern read skerry/v1/f/%u/acked
pattern read skerry/v1/f/%u/site-desired
pattern read skerry/v1/f/%u/command
pattern write skerry/v1/f/%u/reported
pattern write skerry/v1/f/%u/site-reported
pattern write skerry/v1/f/%u/presence
pattern write skerry/v1/f/%u/health
pattern write skerry/v1/f/%u/event
pattern write skerry/v1/f/%u/result
"""


def rendered(
    version: Version = (2, 0, 11),
    *,
    plugin: Path | None = None,
    as_root: bool = False,
    home: str = "/home/sk/broker",
    fleet: str = "f",
) -> Files:
    return render(
        fleet=fleet,
        home=Path(home),
        host="127.0.0.1",
        port=8883,
        tls=TLS,
        version=version,
        acl_plugin=plugin,
        as_root=as_root,
    )


def test_the_files_of_mosquitto_2_0() -> None:
    """Golden: a changed line here is a changed broker."""
    assert rendered() == Files(configuration=CONFIGURATION, access=ACCESS)


def test_every_kind_has_one_direction() -> None:
    """No topic of a device is forgotten by the access rules, and none is both read and written."""
    assert sorted([*DEVICE_READS, *DEVICE_WRITES]) == sorted(Kind)
    assert len(re.findall(r"^pattern ", rendered().access, re.MULTILINE)) == len(Kind)


def test_mosquitto_2_1_takes_its_rules_from_the_plugin_where_there_is_one() -> None:
    """`acl_file` is on its way out: the plugin reads the same file."""
    plugin = Path("/usr/lib/mosquitto_acl_file.so")
    lines = rendered((2, 1, 2), plugin=plugin).configuration.splitlines()
    assert f"global_plugin {plugin}" in lines
    assert "plugin_opt_acl_file /home/sk/broker/access" in lines
    assert not [line for line in lines if line.startswith("acl_file")]
    assert "acl_file /home/sk/broker/access" in rendered((2, 1, 2)).configuration
    assert "acl_file /home/sk/broker/access" in rendered((2, 0, 18), plugin=plugin).configuration


def test_no_version_is_run_without_access_rules() -> None:
    """A Mosquitto that ignores `acl_file` and has no plugin would let everyone read everything."""
    with pytest.raises(ValueError, match="mosquitto_acl_file"):
        rendered((3, 0, 0))


def test_run_by_root_it_stays_root() -> None:
    """Else it changes its user, can't read its key, and outlives a centre that is killed."""
    assert "user root" in rendered(as_root=True).configuration.splitlines()
    assert "user root" not in rendered().configuration


@pytest.mark.parametrize("home", ["/home/sk/bro\nallow_anonymous true", "/home/sk/broker "])
def test_a_path_can_not_bring_an_option(home: str) -> None:
    """One option a line: a path with a line break would be two."""
    with pytest.raises(ValueError, match="path"):
        rendered(home=home)


def test_a_fleet_can_not_be_a_wildcard() -> None:
    """The fleet is written out in every rule, never `+`."""
    with pytest.raises(ValueError, match="fleet"):
        rendered(fleet="+")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("mosquitto version 2.0.11\n\nmosquitto is an MQTT broker", (2, 0, 11)),
        ("mosquitto version 2.1.0 (build …)", (2, 1, 0)),
        ("something else", None),
        ("", None),
    ],
)
def test_versions_are_read(text: str, version: Version | None) -> None:
    """From what `mosquitto -h` prints."""
    assert parse_version(text) == version


def test_the_embedded_broker_listens_where_it_is_told() -> None:
    """One MQTT 5 listener, with the same packet limit."""
    text = render_embedded("127.0.0.1", 1883)
    assert 'listen = "127.0.0.1:1883"' in text
    assert f"max_payload_size = {PACKET_LIMIT_BYTES}" in text
    assert 'listen = "[::1]:1883"' in render_embedded("::1", 1883)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("mqtts://broker.example", Address(host="broker.example", port=8883, tls=True)),
        ("mqtts://[fd00::1]:9000", Address(host="fd00::1", port=9000, tls=True)),
        ("mqtt://127.0.0.1", Address(host="127.0.0.1", port=1883, tls=False)),
        ("mqtt://localhost:99", Address(host="localhost", port=99, tls=False)),
    ],
)
def test_addresses_are_read_and_written(url: str, address: Address) -> None:
    """Default ports, IPv6 in brackets, and back."""
    assert Address.parse(url) == address
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "url",
    [
        "mqtt://10.0.0.1:1883",
        "http://broker",
        "broker:1883",
        "mqtts://user:secret@broker",
        "mqtts://broker/path",
        "mqtts://",
        "mqtts://broker:99999",
        "",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    """Plain beyond loopback, credentials, paths, other schemes: told before anything connects."""
    with pytest.raises(ValueError, match=r".+"):
        Address.parse(url)


def settings(**changes: object) -> BrokerSettings:
    return BrokerSettings(fleet="f", home=Path("/nowhere"), **changes)  # type: ignore[arg-type]  # per test


def test_a_url_is_taken_as_it_is() -> None:
    """A broker that someone else runs comes first."""
    broker = choose(settings(url="mqtts://broker.example:8884"))
    assert isinstance(broker, External)
    assert broker.url == broker.centre_url == "mqtts://broker.example:8884"
    assert not broker.isolates
    with pytest.raises(BrokerError, match="mqtts"):
        choose(settings(url="mqtt://broker.example"))


def test_mosquitto_is_chosen_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps devices apart; devices dial its public name, the centre dials loopback."""
    monkeypatch.setattr(mosquitto, "find", lambda: Path("/usr/sbin/mosquitto"))
    broker = choose(settings(host=EVERYWHERE, public_host="centre.example", tls=TLS))
    assert isinstance(broker, Mosquitto)
    assert broker.url == "mqtts://centre.example:8883"
    assert broker.centre_url == "mqtts://127.0.0.1:8883"
    assert broker.isolates
    assert not broker.alive
    with pytest.raises(BrokerError, match="skerry trust init"):
        choose(settings())
    assert isinstance(choose(settings(embedded=True)), Embedded)


def test_without_mosquitto_only_loopback_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded broker has no access rules, so nobody on a network gets to it."""
    monkeypatch.setattr(mosquitto, "find", lambda: None)
    assert isinstance(choose(settings(tls=TLS)), Embedded)
    with pytest.raises(BrokerError, match="apt install mosquitto"):
        choose(settings(host=EVERYWHERE, tls=TLS))
    with pytest.raises(BrokerError, match="no access rules"):
        choose(settings(host="192.0.2.1", embedded=True))
