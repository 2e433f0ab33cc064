"""One rollout is followed by one id: in both logs, in the history, and at a collector."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.e2e.scene import Centre, Device, Row, until

pytestmark = [pytest.mark.real("mosquitto"), pytest.mark.slow]

Make = Callable[[Centre], Device]

ASKED = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"
PHASES = [
    *("accepted", "fetching", "verifying", "staging", "testing", "activating"),
    *("probation", "committed"),
]


class Collector:
    """A receiver of OTLP over HTTP, as a collector is one: what it was sent, decoded."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resource: dict[str, str] = {}
        self.deaf, self.over = threading.Event(), threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the library's name
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if collector.deaf.is_set():
                    collector.over.wait()
                collector.take(self.path, body)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def take(self, path: str, body: bytes) -> None:
        assert path == "/v1/traces"
        request = ExportTraceServiceRequest.FromString(body)
        for each in request.resource_spans:
            self.resource |= {a.key: a.value.string_value for a in each.resource.attributes}
            self.spans += [span for scope in each.scope_spans for span in scope.spans]

    def serve(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def named(self, name: str) -> Span | None:
        return next((span for span in self.spans if span.name == name), None)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that every centre started in the test sends to."""
    collector = Collector()
    collector.serve()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "200")
    yield collector
    collector.close()


def traced(lines: list[Row], trace_id: str) -> list[Row]:
    """Return the lines that `grep` would find."""
    return [line for line in lines if trace_id in json.dumps(line)]


def device_log(island: Centre, device: Device) -> list[Row]:
    """Return the device's log as an operator reads it from afar."""
    asked = island.skerry("device", "logs", device.name, "--lines", "1000")
    assert 0 == asked.returncode, asked.stderr
    return [json.loads(line) for line in asked.stdout.splitlines()]


def test_one_id_tells_the_story_from_start_to_commit(
    collector: Collector, island: Centre, make_device: Make
) -> None:
    """A caller's trace is taken up; logs, history, screens and spans all have its id, in order."""
    device = make_device(island)
    device.start()
    device.online()
    started, rollout = start(island, device, "1.0.0", f"00-{ASKED}-{CALLER}-01")
    assert ASKED == started["trace_id"]
    island.settled(device, "1.0.0")
    path = f"/api/v1/rollouts/{rollout}"
    until(lambda: island.ask("GET", path)["state"] == "done", what="its end")

    until(lambda: collector.named("committed") and collector.named("rollout"), what="spans")
    here = traced(island.said(), ASKED)
    told = [line["phase"] for line in here if line["event"] == "phase"]
    assert PHASES == told
    assert ["running", "done"] == [line["state"] for line in here if line["event"] == "rollout"]
    assert {rollout} == {line["rollout"] for line in here if line["event"] != "phase"}
    assert here == sorted(here, key=lambda line: line["timestamp"])
    assert ("rollout", "running") == (here[0]["event"], here[0]["state"])

    there = traced(device_log(island, device), ASKED)
    assert "desired accepted" == there[0]["event"]
    steps = [line["action"] for line in there if line["event"] == "step"]
    assert ["accept", "fetch", "stage", "test", "activate"] == steps[:5]
    assert "chosen" in [line["event"] for line in there], "also what a step says on its way"

    assert ASKED in island.skerry("rollout", "show", rollout).stdout
    assert ASKED in island.skerry("rollout", "why", rollout, device.name).stdout
    assert ASKED in island.skerry("device", "history", device.name).stdout

    spans = {span.name: span for span in collector.spans if span.trace_id.hex() == ASKED}
    assert {"rollout", "wave 1", "device", *PHASES} == set(spans)
    assert CALLER == spans["rollout"].parent_span_id.hex()
    assert spans["rollout"].span_id == spans["wave 1"].parent_span_id
    assert spans["wave 1"].span_id == spans["device"].parent_span_id
    phases = [spans[name] for name in PHASES]
    assert {spans["device"].span_id} == {span.parent_span_id for span in phases}
    moments = [
        moment for span in phases for moment in (span.start_time_unix_nano, span.end_time_unix_nano)
    ]
    assert moments == sorted(moments)
    assert spans["rollout"].start_time_unix_nano <= spans["device"].start_time_unix_nano
    assert "skerry" == collector.resource["service.name"]
    assert device.id == attributes(spans["testing"])["skerry.device"]
    assert "skerry.device.at" in attributes(spans["testing"])


def test_each_rollout_has_a_trace_of_its_own_and_takes_it_back(
    collector: Collector, island: Centre, make_device: Make
) -> None:
    """What can't be read as a trace is none; a way back is the story of who went."""
    device = make_device(island)
    device.start()
    device.online()
    first, _ = start(island, device, "1.0.0", "what is this")
    island.settled(device, "1.0.0")
    second, rollout = start(island, device, "2.0.0", None)
    island.settled(device, "2.0.0")
    assert first["trace_id"] != second["trace_id"]
    path = f"/api/v1/rollouts/{rollout}"
    until(lambda: island.ask("GET", path)["state"] == "done", what="its end")
    island.ask("POST", f"{path}/rollback", {"reason": "a try"})
    until(lambda: island.ask("GET", path)["state"] == "rolled-back", what="its way back")

    mine = second["trace_id"]
    steps = [each for each in traced(device_log(island, device), mine) if each["event"] == "step"]
    assert 2 == [each["action"] for each in steps].count("accept"), "there, and back again"
    states = [line["state"] for line in traced(island.said(), mine) if line["event"] == "rollout"]
    assert ["running", "done", "rolling-back", "rolled-back"] == states
    until(lambda: collector.named("return"), what="the span of the way back")
    back = {span.name: span for span in collector.spans if span.trace_id.hex() == mine}
    assert back["return"].span_id == back["device return"].parent_span_id
    assert back["rollout"].span_id == back["return"].parent_span_id


def test_a_collector_that_hangs_or_is_gone_holds_nobody_up(
    collector: Collector, island: Centre, make_device: Make
) -> None:
    """Rollouts go on, the log says it a few times, and the centre ends when it is told to."""
    collector.deaf.set()  # it takes what it is sent, and never answers
    device = make_device(island)
    device.start()
    device.online()
    island.deliver("1.0.0", device)
    assert not collector.spans
    collector.close()
    island.deliver("2.0.0", device)
    began = time.monotonic()  # noqa: TID251  # other processes, real time
    assert 0 == island.end()
    assert time.monotonic() - began < 15  # noqa: TID251  # as above
    said = [line for line in island.said() if line.get("logger", "").startswith("opentelemetry")]
    assert len(said) < 40


def test_no_secret_is_in_the_centres_log(island: Centre, make_device: Make) -> None:
    """Neither what operators and devices show, nor any private key."""
    device = make_device(island)
    device.start()
    device.online()
    island.deliver("1.0.0", device)
    log = island.log.read_text()
    for secret in [island.home / "operator.token", *(island.home / "trust").glob("*.key")]:
        for line in Path(secret).read_text().splitlines():
            assert line.startswith("-----") or line not in log, secret.name
    assert "sk1." not in log


def start(island: Centre, device: Device, version: str, traceparent: str | None) -> tuple[Row, str]:
    """Start a rollout to one device as a client of the API would; return the answer and its id."""
    wish = {"bundle": f"digits:{version}", "deployment": "digits", "targets": [device.id]}
    headers = {} if traceparent is None else {"traceparent": traceparent}
    body = json.dumps({**wish, "policy": "all-at-once"}).encode()
    status, answer = island.http("POST", "/api/v1/rollouts", body, headers)
    assert status == 201, answer
    started: Row = json.loads(answer)
    return started, str(started["id"])


def attributes(span: Span) -> dict[str, str]:
    return {each.key: each.value.string_value for each in span.attributes}
