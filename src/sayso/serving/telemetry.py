"""What the service says about itself: Prometheus metrics and log lines, none of which holds what anybody said.

Metrics carry few labels, each from a bounded set: protocols of the table, outcomes and reasons of this program, intents
of the domains. A log line is one JSON object of numbers and names, written by one function that takes nothing else; so
transcripts and slot values have no way into it. Exceptions are logged by kind and place, because their messages may
quote what they choked on.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from sayso.core.errors import require
from sayso.core.result import Result
from sayso.serving.config import TelemetryConfig
from sayso.serving.refusal import Refusal
from sayso.serving.usage import Usage, UsageRow
from sayso.serving.wire import Stats

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
BATCHES = (1, 2, 4, 8, 16, 32)
_log = logging.getLogger("sayso.serving")


class Telemetry:
    """Metrics, log and usage records of one service."""

    def __init__(self, config: TelemetryConfig) -> None:
        self.usage = None if config.usage is None else Usage(config.usage, config.usage_queue)
        client = require("prometheus_client", extra="serve", purpose="the service")
        self._client, self.registry = client, client.CollectorRegistry()
        count, gauge, spread = self._counter, self._gauge, self._histogram
        self.connections = gauge("slu_connections_active", "Connections that streams may run on", "protocol")
        self.active = gauge("slu_streams_active", "Streams that run")
        self.streams = count("slu_streams_total", "Streams that have ended", "protocol", "outcome")
        self.rejections = count("slu_rejections_total", "Requests and streams refused", "reason")
        self.first_partial = spread("slu_first_partial_seconds", "Last sample needed to first text", SECONDS)
        self.finalization = spread("slu_finalization_seconds", "Endpoint to final result", SECONDS)
        self.intent = spread("slu_intent_seconds", "Endpoint to final result that has an intent", SECONDS)
        self.endpoint = spread("slu_endpoint_delay_seconds", "End of speech to the server's endpoint", SECONDS)
        self.compute = spread("slu_chunk_compute_seconds", "One encoder run over a batch of streams", SECONDS)
        self.queue = spread("slu_queue_seconds", "Arrival of audio in an engine to its turn", SECONDS)
        self.batch = spread("slu_batch_size", "Streams in one encoder run", BATCHES)
        self.audio = count("slu_audio_seconds_total", "Audio understood", "protocol")
        self.rtf = gauge("slu_rtf", "Work per second of audio, lately", "engine")
        self.busy = gauge("slu_engine_busy_ratio", "Share of its time that an engine works", "engine")
        self.intents = count("slu_intents_total", "Final results by intent", "intent", "version", "outcome")
        self.confidence = spread("slu_confidence", "Calibrated confidence of final results", SHARES)
        self.skipped = count("slu_partials_skipped_total", "Partial results left out because a stream was behind")
        self.restarts = count("slu_engine_restarts_total", "Engine processes that ended")
        self.reloads = count("slu_reloads_total", "Bundles exchanged while running", "outcome")
        self.dropped = count("slu_telemetry_dropped_total", "Usage records shed")

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        if self.usage is not None:
            self.dropped.inc(self.usage.take_dropped())
        text: bytes = self._client.generate_latest(self.registry)
        return text

    def engine(self, number: int, stats: Stats) -> None:
        """What an engine did in the last half second."""
        for histogram, values in (
            (self.batch, stats.batch),
            (self.compute, stats.compute_s),
            (self.queue, stats.queue_s),
        ):
            for value in values:
                histogram.observe(value)
        if stats.audio_s:
            self.rtf.labels(str(number)).set(stats.busy_s / stats.audio_s)
        self.busy.labels(str(number)).set(stats.busy_s / stats.wall_s if stats.wall_s else 0.0)
        self.skipped.inc(stats.skipped_partials)

    def final(self, result: Result, version: str, waited_s: float, endpoint_delay_s: float | None) -> None:
        """A final result that a client is about to get."""
        self.finalization.observe(waited_s)
        if endpoint_delay_s is not None:
            self.endpoint.observe(endpoint_delay_s)
        if result.timing.first_partial_s is not None:
            self.first_partial.observe(result.timing.first_partial_s)
        name = "" if result.intent is None else result.intent.name
        if name:
            self.intent.observe(waited_s)
        if result.intent is not None and result.intent.confidence is not None:
            self.confidence.observe(result.intent.confidence)
        self.intents.labels(name, version, result.decision).inc()

    def refused(self, refusal: Refusal) -> None:
        """Somebody is refused; counted once, wherever it passes."""
        if not refusal.counted:
            refusal.counted = True
            self.rejections.labels(refusal.code).inc()

    def ended(self, row: UsageRow) -> None:
        """A stream that has ended, well or not."""
        self.streams.labels(row.protocol, row.outcome).inc()
        self.audio.labels(row.protocol).inc(row.audio_s)
        say("stream", **row._asdict())
        if self.usage is not None:
            self.usage.put(row)

    def close(self) -> None:
        """Write what is waiting to be written."""
        if self.usage is not None:
            self.usage.close()

    def _counter(self, name: str, text: str, *labels: str) -> Any:
        return self._client.Counter(name, text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Any:
        return self._client.Gauge(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Any:
        return self._client.Histogram(name, text, buckets=buckets, registry=self.registry)


def log_to_stderr(kind: str) -> None:
    """Send log lines to stderr as JSON (``json``), or nowhere (``off``); libraries' own as kind and place alone."""
    root = logging.getLogger()
    root.handlers = [logging.NullHandler()]
    if kind == "json":
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(_Line())
        root.handlers = [handler]
    root.setLevel(logging.WARNING)
    _log.setLevel(logging.INFO)


def say(event: str, **fields: str | float | int | None) -> None:
    """One log line. Callers pass numbers, and names that this program or its configuration chose."""
    _log.info(event, extra={"fields": fields})


def complain(where: str, error: BaseException) -> None:
    """An error of ours, without its message."""
    trace, places = error.__traceback__, []
    while trace is not None:
        places.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    _log.error("error", extra={"fields": {"where": where, "error": type(error).__name__, "at": " ".join(places[-6:])}})


class _Line(logging.Formatter):
    """JSON. What other libraries log keeps its place and loses its words, which may quote a client."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"at": round(time.time(), 3), "level": record.levelname.lower()}
        fields = getattr(record, "fields", None)
        if fields is not None:
            line |= {"event": record.getMessage(), **fields}
        else:
            kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
            line |= {"event": "library", "logger": record.name, "place": f"{record.module}:{record.lineno}"}
            line |= {"error": kind} if kind else {}
        return json.dumps(line)
