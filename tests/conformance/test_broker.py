"""What Skerry needs of any broker. One suite for all of them."""

import socket
import time

import pytest

from agent.wire.limits import PACKET_LIMIT_BYTES
from agent.wire.topics import Kind, Topic, every_device
from tests.conformance.conftest import FLEET, Ground
from tests.conformance.peer import Peer, Will, pump


def topic(device: Peer, kind: Kind) -> str:
    return str(Topic(FLEET, device.name, kind))


def test_a_retained_document_reaches_a_late_subscriber(ground: Ground) -> None:
    """A device that comes later finds its desired state waiting, marked as retained."""
    centre, device = ground.peer("centre").connect(), ground.peer()
    assert centre.publish(topic(device, Kind.DESIRED), b"old", retain=True) < 0x80
    assert centre.publish(topic(device, Kind.DESIRED), b"new", retain=True) < 0x80
    device.connect().subscribe(topic(device, Kind.DESIRED))
    device.until(lambda: bool(device.messages))
    assert device.payloads() == [b"new"]
    assert device.messages[0].retain


def test_an_empty_payload_clears_a_retained_document(ground: Ground) -> None:
    """What a removed device should have been is not kept for ever."""
    centre, device = ground.peer("centre").connect(), ground.peer()
    centre.publish(topic(device, Kind.DESIRED), b"old", retain=True)
    centre.publish(topic(device, Kind.DESIRED), b"", retain=True)
    device.connect().subscribe(topic(device, Kind.DESIRED))
    centre.publish(topic(device, Kind.DESIRED), b"barrier")
    device.until(lambda: bool(device.messages))
    assert device.payloads() == [b"barrier"]


def test_a_will_tells_of_a_device_that_vanished(ground: Ground) -> None:
    """A cut connection is a death notice, retained for a centre that starts later."""
    centre, device, late = ground.peer("centre").connect(), ground.peer(), ground.peer("observer")
    centre.subscribe(every_device(FLEET, Kind.PRESENCE))
    centre.messages.clear()
    device.connect(will=Will(topic=topic(device, Kind.PRESENCE), payload=b"dead"))
    device.vanish()
    centre.until(lambda: b"dead" in centre.payloads())
    late.connect().subscribe(topic(device, Kind.PRESENCE))
    late.until(lambda: b"dead" in late.payloads())


def test_a_device_that_leaves_on_purpose_has_no_will(ground: Ground) -> None:
    """After a clean goodbye the broker says nothing in a device's name."""
    centre, device, other = ground.peer("centre").connect(), ground.peer(), ground.peer()
    centre.subscribe(every_device(FLEET, Kind.PRESENCE))
    device.connect(will=Will(topic=topic(device, Kind.PRESENCE), payload=b"dead"))
    device.leave()
    other.connect().publish(topic(other, Kind.PRESENCE), b"barrier")
    centre.until(lambda: b"barrier" in centre.payloads())
    assert topic(device, Kind.PRESENCE) not in centre.topics()


def test_a_session_keeps_what_came_while_the_device_was_away(ground: Ground) -> None:
    """With clean_start=False nothing sent with QoS 1 is lost between two connections, in order."""
    centre, device = ground.peer("centre").connect(), ground.peer().connect()
    device.subscribe(topic(device, Kind.COMMAND))
    device.leave()
    sent = [f"command {number}".encode() for number in range(50)]
    for payload in sent:
        assert centre.publish(topic(device, Kind.COMMAND), payload) < 0x80
    device.connect()
    assert device.session_present
    device.until(lambda: len(device.messages) >= len(sent))
    assert device.payloads() == sent


def test_what_was_not_confirmed_comes_again(ground: Ground) -> None:
    """A receiver that dies before it has committed gets the same messages again, and only those."""
    device, centre = ground.peer().connect(), ground.peer("centre").connect(ack=False)
    centre.subscribe(topic(device, Kind.EVENT))
    sent = [f"event {number}".encode() for number in range(5)]
    for payload in sent:
        device.publish(topic(device, Kind.EVENT), payload)
    centre.until(lambda: len(centre.messages) == len(sent))
    for message in centre.messages[:2]:
        centre.client.ack(message.mid, message.qos)
    # Whatever comes after a confirmation shows that it has arrived.
    centre.publish(topic(device, Kind.ACKED), b"barrier")
    centre.vanish()
    centre.messages.clear()
    centre.connect()
    assert centre.session_present
    centre.until(lambda: len(centre.messages) >= 3)
    assert centre.payloads() == sent[2:]
    centre.leave()
    centre.messages.clear()
    centre.connect()
    device.publish(topic(device, Kind.EVENT), b"barrier")
    centre.until(lambda: b"barrier" in centre.payloads())
    assert centre.payloads() == [b"barrier"]


@pytest.mark.real("mosquitto")
def test_a_shared_subscription_splits_the_stream(walled: Ground) -> None:
    """Two replicas share the work: each message to one of them; whoever stays takes all.

    Only where the broker says that it `shares`: rumqttd's router dies when a
    member of a group that came back goes away, so there the centre subscribes alone.
    """
    assert walled.broker.shares
    first, second = walled.peer("centre").connect(), walled.peer("observer").connect()
    device = walled.peer().connect()
    shared = f"$share/replicas/{every_device(FLEET, Kind.HEALTH)}"
    first.subscribe(shared)
    second.subscribe(shared)
    sent = [f"health {number}".encode() for number in range(40)]
    for payload in sent:
        device.publish(topic(device, Kind.HEALTH), payload)
    pump([first, second], lambda: len(first.messages) + len(second.messages) >= len(sent))
    assert sorted(first.payloads() + second.payloads()) == sorted(sent)
    assert first.messages
    assert second.messages
    second.leave()
    second.connect(clean=True)
    more = [f"more health {number}".encode() for number in range(40)]
    for payload in more:
        device.publish(topic(device, Kind.HEALTH), payload)
    first.until(lambda: set(more) <= set(first.payloads()))
    first.vanish()
    assert first.connect().session_present
    first.vanish()
    assert device.publish(topic(device, Kind.HEALTH), b"still here") < 0x80


def test_a_command_expires_in_the_queue(ground: Ground) -> None:
    """A command that is void when the device returns isn't delivered any more."""
    centre, device = ground.peer("centre").connect(), ground.peer().connect()
    device.subscribe(topic(device, Kind.COMMAND))
    device.leave()
    centre.publish(topic(device, Kind.COMMAND), b"void", expiry_s=1)
    centre.publish(topic(device, Kind.COMMAND), b"valid", expiry_s=600)
    time.sleep(2.2)  # noqa: TID251  # the broker's own clock, in whole seconds
    device.connect()
    device.until(lambda: b"valid" in device.payloads())
    assert device.payloads() == [b"valid"]


def test_an_oversized_document_is_refused_and_the_device_comes_back(ground: Ground) -> None:
    """Nobody gets a document above the limit, and its sender isn't locked out."""
    centre, device = ground.peer("centre").connect(), ground.peer().connect()
    centre.subscribe(every_device(FLEET, Kind.REPORTED))
    code = device.publish(topic(device, Kind.REPORTED), bytes(PACKET_LIMIT_BYTES + 1), retain=True)
    assert code >= 0x80
    device.connect()
    assert device.connected
    assert device.publish(topic(device, Kind.REPORTED), b"small", retain=True) < 0x80
    centre.until(lambda: topic(device, Kind.REPORTED) in centre.topics())
    own = [bytes(m.payload) for m in centre.messages if m.topic == topic(device, Kind.REPORTED)]
    assert own == [b"small"]


@pytest.mark.parametrize("kind", list(Kind))
def test_a_hundred_megabytes_on_any_topic_are_cut_off(ground: Ground, kind: Kind) -> None:
    """The broker stops reading long before the end, on every topic, and goes on serving."""
    device, other = ground.peer().connect(), ground.peer().connect()
    taken = _flood(device, topic(device, kind), 100 * 1024 * 1024)
    assert taken < 20 * 1024 * 1024, "only what fits into the sockets between"
    assert other.publish(topic(other, Kind.EVENT), b"still here") < 0x80


def test_a_second_connection_of_one_device_takes_over(ground: Ground) -> None:
    """A device that comes back before the broker noticed that it was gone isn't refused."""
    centre, device = ground.peer("centre").connect(), ground.peer().connect()
    device.subscribe(topic(device, Kind.DESIRED))
    again = ground.peer(device.name, forget=False).connect()
    assert again.connected
    assert again.session_present
    device.until(lambda: not device.connected)
    centre.publish(topic(device, Kind.DESIRED), b"for the new one")
    again.until(lambda: bool(again.messages))
    assert again.payloads() == [b"for the new one"]
    assert device.messages == []


def _flood(device: Peer, name: str, size_bytes: int) -> int:
    """Send one PUBLISH of `size_bytes` straight into the socket; return how much was taken."""
    sock = device.client.socket()
    assert isinstance(sock, socket.socket)
    sock.settimeout(5)
    rest = size_bytes
    length = []
    while rest:
        length.append((rest & 0x7F) | (0x80 if rest > 0x7F else 0))
        rest >>= 7
    head = bytes([0x32, *length]) + len(name).to_bytes(2) + name.encode() + b"\x00\x01\x00"
    chunk = bytes(256 * 1024)
    taken = 0
    try:
        sock.sendall(head)
        while taken < size_bytes:
            sock.sendall(chunk)
            taken += len(chunk)
    except OSError:
        pass  # cut off: what the test is about
    device.vanish()
    return taken
