"""A bad day with real devices: each cause is one alert, told by a signed webhook, and it ends."""

import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from models.layout import Layout
from tests.e2e.scene import Centre, Device, until
from tests.e2e.wares import Model, damaged

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow, pytest.mark.timeout(500)]

SECRET = b"between us"


@contextmanager
def listening(took: list[dict[str, Any]]) -> Iterator[str]:
    """Take what is sent by who knows the secret."""

    class Taker(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            stamp, delivery = self.headers["Skerry-Timestamp"], self.headers["Skerry-Delivery"]
            wanted = hmac.new(SECRET, f"{stamp}.{delivery}.".encode() + body, hashlib.sha256)
            good = f"v1={wanted.hexdigest()}" == self.headers["Skerry-Signature"]
            if good:
                took.append(json.loads(body))
            self.send_response(204 if good else 403)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_bad_day_is_one_alert_a_cause(
    island: Centre, make_device: Callable[..., Device], old: Model
) -> None:
    """Two devices miss golden vectors, then their site's cable is cut, then it is mended.

    The first is told at once, the second after a minute; both once, whichever device it was.
    """
    key = island.home / "hook.secret"
    key.write_bytes(SECRET)
    key.chmod(0o600)
    layout = Layout.create(island.folder / "bad")
    island.publish(layout, damaged(old, "3.0.0", layout, key=island.key))
    devices = [make_device(island, join=False) for _ in range(2)]
    for device in devices:
        assert 0 == device.join(island.token("--site", "lerwick")).returncode
        device.start()
        island.deliver("1.0.0", device)
    took: list[dict[str, Any]] = []
    with listening(took) as url:
        (island.home / "receivers.toml").write_text(
            f'[receiver.ops]\nkind = "webhook"\nurl = "{url}"\nsecret_file = "hook.secret"\n'
        )
        tried = island.skerry("alert", "test", "ops")
        assert (0, ["test"]) == (tried.returncode, [each["news"] for each in took]), tried.stderr
        for device in devices:
            island.roll("3.0.0", device)
        until(lambda: told(took, "SkerryGoldenFailing"), what="the golden alert")
        golden = island.skerry("alert", "ls", "--rule", "SkerryGoldenFailing")
        for device in devices:
            device.end()
        until(lambda: told(took, "SkerrySiteCut"), limit_s=120, what="the alert of a cut site")
        shown = island.skerry("alert", "ls", "--site", "lerwick")
        for device in devices:
            device.start()
        until(lambda: len(told(took, "SkerrySiteCut")) > 1, limit_s=240, what="its end")

    assert "Golden vectors are missed: digits 3.0.0, on" in golden.stdout
    assert "Cut off: site lerwick; 2 of 2 devices can't be heard." in shown.stdout
    assert ["opened", "cleared"] == told(took, "SkerrySiteCut")
    assert "cleared" not in told(took, "SkerryGoldenFailing")
    assert 1 == len({t["alert"]["id"] for t in took if t["alert"]["rule"] == "SkerrySiteCut"})
    assert 1 == len({t["alert"]["id"] for t in took if t["alert"]["rule"] == "SkerryGoldenFailing"})


def told(took: list[dict[str, Any]], rule: str) -> list[str]:
    """Return the news of a rule's alerts, in the order in which they came."""
    return [each["news"] for each in took if each["alert"]["rule"] == rule]
