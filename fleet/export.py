"""Spans for whoever collects them, by OTLP over HTTP: needs the extra `otel`.

All settings are OpenTelemetry's own environment variables; nothing is sent unless one of
them names a collector. Spans wait in a bounded queue for a thread of its own. While the
collector can't be reached they are tried again, then given up, which the log says;
nobody ever waits for it, but for a moment when the centre ends.
"""

import importlib.metadata
import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    Status,
    StatusCode,
    set_span_in_context,
)

from fleet.rollouts.spans import Span

_LAST_WORD_S = 2.0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Given(IdGenerator):
    """The ids that our spans have already: `now.span` is the one that is being made."""

    def __init__(self) -> None:
        self.now = threading.local()

    def generate_trace_id(self) -> int:
        return int(self.now.span.trace_id, 16)

    def generate_span_id(self) -> int:
        return int(self.now.span.id, 16)


class Export:
    """Sends spans. `close` sends what waits, if that is a matter of a moment, and ends.

    Raises:
        ValueError: one of OpenTelemetry's settings has no meaning.
    """

    def __init__(self, fleet: str) -> None:
        self._given = _Given()
        about = {
            "service.name": "skerry",
            "service.version": importlib.metadata.version("skerry"),
            "skerry.fleet": fleet,
        }
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource.create(about).merge(OTELResourceDetector().detect()),
            id_generator=self._given,
            shutdown_on_exit=False,  # `close` does, and waits for no one
        )
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("skerry")

    def __call__(self, spans: Iterable[Span]) -> None:
        """Put spans into the queue."""
        for span in spans:
            self._put(span)

    def close(self) -> None:
        """Send what waits, if that is a matter of a moment."""
        last = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        last.start()
        last.join(_LAST_WORD_S)

    def _put(self, span: Span) -> None:
        above = Context()
        if span.parent:
            trace_id, parent = int(span.trace_id, 16), int(span.parent, 16)
            parent_context = SpanContext(trace_id, parent, is_remote=True)
            above = set_span_in_context(NonRecordingSpan(parent_context), above)
        self._given.now.span = span
        sent = self._tracer.start_span(
            span.name,
            context=above,
            attributes=span.attributes,
            start_time=_nanoseconds(span.begin),
        )
        if span.failed:
            sent.set_status(Status(StatusCode.ERROR, span.failed))
        sent.end(_nanoseconds(span.end))


def _nanoseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
