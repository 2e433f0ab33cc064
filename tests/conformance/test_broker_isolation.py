"""Two devices on one Mosquitto, each with its certificate: neither sees or says the other's.

What is delivered counts: Mosquitto grants a foreign subscription and filters it.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from agent.wire.topics import DEVICE_READS, DEVICE_WRITES, Kind, Topic, marker
from fleet.broker.address import Address
from tests.conformance.conftest import FLEET, Ground
from tests.conformance.peer import Peer, Will, pump
from tests.conformance.trust import TestAuthority

pytestmark = pytest.mark.real("mosquitto")

REFUSED = 0x80
ATTACKER, VICTIM = "d-attacker", "d-victim"


@dataclass
class Tally:
    """How many ways were tried, by verb; each of them leaked nothing."""

    tried: dict[str, int] = field(default_factory=dict)

    def add(self, verb: str, number: int) -> None:
        self.tried[verb] = self.tried.get(verb, 0) + number


@pytest.fixture(scope="module")
def tally(request: pytest.FixtureRequest) -> Iterator[Tally]:
    tally = Tally()
    yield tally
    each = ", ".join(f"{verb} {number}" for verb, number in tally.tried.items())
    terminal = request.config.pluginmanager.get_plugin("terminalreporter")
    assert terminal is not None
    terminal.write_line("")
    terminal.write_line(f"isolation: {sum(tally.tried.values())} checks, 0 leaks ({each})")


def of(device: str, kind: Kind, fleet: str = FLEET) -> str:
    return str(Topic(fleet, device, kind))


FOREIGN = [
    *(of(VICTIM, kind) for kind in Kind),
    *(of(ATTACKER, kind, fleet="other") for kind in Kind),
    *(of(VICTIM, kind, fleet="other") for kind in Kind),
    marker(FLEET),
    f"skerry/v1/{FLEET}/centre/desired",
    f"skerry/v1/{FLEET}/{ATTACKER}",
    f"skerry/v1/{FLEET}/{ATTACKER}/reported/more",
    f"skerry/v2/{FLEET}/{ATTACKER}/reported",
    "skerry",
    "$SYS/broker/version",
    "$CONTROL/dynamic-security/v1",
    "anything",
]
OWN_READ_ONLY = [of(ATTACKER, kind) for kind in DEVICE_READS]
WILDCARDS = [
    "#",
    "+/#",
    "skerry/#",
    "skerry/v1/#",
    f"skerry/v1/{FLEET}/#",
    f"skerry/v1/{FLEET}/+/#",
    f"skerry/v1/{FLEET}/{VICTIM}/#",
    f"skerry/v1/{FLEET}/{VICTIM}/+",
    "skerry/v1/+/+/desired",
    "$SYS/#",
    "$CONTROL/#",
    *(f"skerry/v1/{FLEET}/+/{kind}" for kind in Kind),
    *(f"+/v1/{FLEET}/{VICTIM}/{kind}" for kind in Kind),
]


def settle(walled: Ground, listeners: Sequence[Peer]) -> None:
    """Return when all that was published before has been delivered to all listeners."""
    barrier = walled.peer(forget=False).connect()
    for listener in listeners:
        listener.subscribe(of(listener.name, Kind.COMMAND)) if listener.name != "centre" else None
    barrier.publish(of(barrier.name, Kind.EVENT), b"barrier")
    centre = next(peer for peer in listeners if peer.name == "centre")
    centre.until(lambda: b"barrier" in centre.payloads())
    others = [peer for peer in listeners if peer.name != "centre"]
    for peer in others:
        centre.publish(of(peer.name, Kind.COMMAND), b"barrier")
    pump(others, lambda: all(b"barrier" in peer.payloads() for peer in others))


def besides_barrier(peer: Peer) -> list[tuple[str, bytes]]:
    return [
        (message.topic, bytes(message.payload))
        for message in peer.messages
        if message.payload != b"barrier"
    ]


@pytest.fixture
def listening(walled: Ground) -> tuple[Peer, Peer]:
    """The centre, that sees all of the fleet, and the victim, that sees what it may."""
    centre, victim = walled.peer("centre").connect(), walled.peer(VICTIM).connect()
    centre.subscribe(f"skerry/v1/{FLEET}/#")
    victim.subscribe(*(of(VICTIM, kind) for kind in DEVICE_READS))
    centre.messages.clear()
    victim.messages.clear()
    return centre, victim


def test_a_device_publishes_nothing_foreign(
    walled: Ground, listening: tuple[Peer, Peer], tally: Tally
) -> None:
    """Foreign topics, and its own that the centre writes: refused, not delivered or retained."""
    centre, victim = listening
    attacker = walled.peer(ATTACKER).connect()
    topics = [*FOREIGN, *OWN_READ_ONLY]
    for retain in (False, True):
        for topic in topics:
            assert attacker.publish(topic, b"evil", retain=retain) >= REFUSED, topic
            tally.add("publish", 1)
    settle(walled, [centre, victim])
    assert besides_barrier(centre) == []
    assert besides_barrier(victim) == []
    late = walled.peer("observer").connect()
    late.subscribe("#")
    settle(walled, [centre])
    late.until(lambda: b"barrier" in late.payloads())
    assert b"evil" not in late.payloads()


@pytest.mark.parametrize("shared", [False, True], ids=["plain", "shared"])
def test_a_device_hears_nothing_foreign(
    walled: Ground, listening: tuple[Peer, Peer], tally: Tally, *, shared: bool
) -> None:
    """Whatever it subscribes to, literally, by wildcard or shared: only its own arrive."""
    centre, victim = listening
    for kind in (Kind.DESIRED, Kind.SITE_DESIRED, Kind.ACKED):
        centre.publish(of(VICTIM, kind), b"retained secret", retain=True)
    filters = [*FOREIGN, *WILDCARDS, *OWN_READ_ONLY]
    if shared:
        filters = [f"$share/thieves/{each}" for each in filters]
    attacker = walled.peer(ATTACKER).connect()
    for each in filters:  # one by one: one that is refused must not spare the others
        attacker.subscribe(each)
        tally.add("subscribe shared" if shared else "subscribe", 1)
    for kind in Kind:
        centre.publish(of(VICTIM, kind), b"secret", retain=False)
    for kind in DEVICE_WRITES:
        assert victim.publish(of(VICTIM, kind), b"secret of its own", retain=True) < REFUSED
    settle(walled, [centre, victim, attacker])
    assert besides_barrier(attacker) == []
    for kind in Kind:
        centre.publish(of(VICTIM, kind), b"", retain=True)


def test_a_device_leaves_no_foreign_will(
    walled: Ground, listening: tuple[Peer, Peer], tally: Tally
) -> None:
    """A will on a foreign topic is not published when the device vanishes."""
    centre, victim = listening
    for topic in [*FOREIGN, *OWN_READ_ONLY]:
        if topic.startswith("$"):
            continue  # a client may not even connect with these
        attacker = walled.peer(ATTACKER, forget=False)
        attacker.connect(will=Will(topic=topic, payload=b"evil will"))
        attacker.vanish()
        tally.add("will", 1)
    # Its own will is the measure of how long one takes to come.
    last = walled.peer(ATTACKER, forget=False)
    last.connect(will=Will(topic=of(ATTACKER, Kind.PRESENCE), payload=b"own will", retain=False))
    last.vanish()
    centre.until(lambda: b"own will" in centre.payloads())
    settle(walled, [centre, victim])
    assert besides_barrier(centre) == [(of(ATTACKER, Kind.PRESENCE), b"own will")]
    assert besides_barrier(victim) == []


def test_a_device_can_not_be_another_by_client_id_or_user_name(
    walled: Ground, listening: tuple[Peer, Peer], tally: Tally
) -> None:
    """Only the certificate counts: another's client id or user name opens nothing."""
    centre, victim = listening
    assert walled.authority is not None
    address = Address.parse(walled.broker.centre_url)
    tls = walled.authority.context(ATTACKER)
    for client_id, user_name in [(VICTIM, ""), ("centre", ""), (VICTIM, VICTIM), ("x", "centre")]:
        thief = Peer(address, client_id, tls=tls, username=user_name)
        walled.peers.append(thief)
        thief.connect()
        assert thief.connected, "as itself: the broker replaces both names by the certificate's"
        thief.subscribe(of(VICTIM, Kind.DESIRED), of(VICTIM, Kind.COMMAND))
        assert thief.publish(of(VICTIM, Kind.DESIRED), b"evil", retain=True) >= REFUSED
        centre.publish(of(VICTIM, Kind.COMMAND), b"secret")
        settle(walled, [centre, victim])
        thief.subscribe(of(ATTACKER, Kind.COMMAND))
        centre.publish(of(ATTACKER, Kind.COMMAND), b"barrier")
        heard = thief.payloads
        thief.until(lambda heard=heard: b"barrier" in heard())  # type: ignore[misc]
        assert besides_barrier(thief) == []
        assert victim.connected
        assert centre.connected
        thief.leave()
        tally.add("stolen name", 1)
    assert b"evil" not in victim.payloads() + centre.payloads()


def test_nobody_connects_without_a_certificate_of_this_fleet(
    walled: Ground, tally: Tally, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No certificate, another CA's (also one of the same name), an expired one: no connection."""
    assert walled.authority is not None
    trust = walled.authority.path
    foreign = TestAuthority(tmp_path_factory.mktemp("foreign"))
    expired = walled.authority.context(None)
    expired.load_cert_chain(
        *walled.authority.issue("d-expired", until=dt.datetime(2021, 1, 1, tzinfo=dt.UTC))
    )
    contexts = [
        walled.authority.context(None),
        foreign.context(VICTIM, trust=trust),
        foreign.context("centre", trust=trust),
        expired,
        None,
    ]
    for tls in contexts:
        stranger = Peer(Address.parse(walled.broker.centre_url), VICTIM, tls=tls, username="centre")
        walled.peers.append(stranger)
        stranger.connect(limit_s=2)
        assert not stranger.connected
        assert stranger.why_not is not None
        tally.add("connect", 1)
    assert walled.peer().connect().connected, "those of this fleet still do"
