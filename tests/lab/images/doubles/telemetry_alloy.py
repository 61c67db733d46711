"""A double of Alloy: it reads Alloy's configuration, follows the journal and pushes to Loki."""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from .http import Request, Response, as_text, serve
from .telemetry_loki import Line, seconds
from .telemetry_pipeline import Pipeline
from .telemetry_syntax import parse

MOST_AT_ONCE = 200
# Labels and JSON count too.
MOST_BYTES, OVERHEAD = 256 * 1024, 300
TIMEOUT = 5


class Writer:
    """Sends lines, for ever until they are taken: what comes after waits."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.sent = self.retries = self.refused = 0
        self.lag = 0.0

    def send(self, lines: list[Line]) -> None:
        """Send lines in their order, no more at once than a request may hold."""
        some: list[Line] = []
        for line in lines:
            if sum(len(each.text) + OVERHEAD for each in [*some, line]) > MOST_BYTES:
                self._deliver(some)
                some = []
            some.append(line)
        self._deliver(some)

    def _deliver(self, lines: list[Line]) -> None:
        streams: dict[Any, list[list[str]]] = {}
        for line in lines:
            streams.setdefault(line.labels, []).append([str(line.time), line.text])
        body = [{"stream": dict(labels), "values": values} for labels, values in streams.items()]
        pause = 0.5
        while not self._push(json.dumps({"streams": body}).encode(), len(lines)):
            self.retries += 1
            time.sleep(pause)
            pause = min(pause * 2, 5)
        self.lag += sum(time.time() - line.time / 1e9 for line in lines)

    def _push(self, body: bytes, number: int) -> bool:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310 - as configured
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT):  # noqa: S310
                self.sent += number
                return True
        except urllib.error.HTTPError as error:
            print(f"level=error msg={error.read().decode()!r}", file=sys.stderr, flush=True)
            if error.code >= 500:
                return False
            self.refused += number
            return True
        except (urllib.error.URLError, OSError):
            return False


class Reader:
    """Follows the journal from where it last was, or from as far back as it is told."""

    def __init__(self, pipeline: Pipeline, storage: Path) -> None:
        from systemd import journal  # type: ignore[import-not-found]

        self._pipeline = pipeline
        self.writers = {name: Writer(url) for name, url in pipeline.urls().items()}
        self.read = 0
        self._position = storage / "position"
        self._journal = journal.Reader(path=pipeline.source.attributes["path"])
        if self._position.exists():
            self._journal.seek_cursor(self._position.read_text())
            self._journal.get_next()
        else:
            age = seconds(pipeline.source.attributes.get("max_age", "7h"))
            self._journal.seek_realtime(time.time() - age)

    def follow(self) -> None:
        while True:
            waiting: dict[str, list[Line]] = {name: [] for name in self.writers}
            cursor = ""
            for _ in range(MOST_AT_ONCE):
                entry = self._journal.get_next()
                if not entry:
                    break
                cursor = entry["__CURSOR"]
                moment = int(entry["__REALTIME_TIMESTAMP"].timestamp() * 1e6) * 1000
                self.read += 1
                for name, line in self._pipeline.run(entry, moment):
                    waiting[name].append(line)
            for name, lines in waiting.items():
                if lines:
                    self.writers[name].send(lines)
            if cursor:
                self._position.write_text(cursor)
            # Also where there was something: only then it notices files that are new.
            self._journal.wait(0.1 if cursor else 1)

    def metrics(self) -> Response:
        rows = [f"loki_source_journal_target_lines_total {self.read}"]
        for reason, number in self._pipeline.dropped.items():
            rows.append(f'loki_process_dropped_lines_total{{reason="{reason}"}} {number}')
        for name, writer in self.writers.items():
            label = f'{{component_id="{name}"}}'
            rows += [
                f"loki_write_sent_entries_total{label} {writer.sent}",
                f"loki_write_dropped_entries_total{label} {writer.refused}",
                f"loki_write_batch_retries_total{label} {writer.retries}",
                f"loki_write_entry_propagation_latency_seconds_sum{label} {writer.lag:.3f}",
                f"loki_write_entry_propagation_latency_seconds_count{label} {writer.sent}",
            ]
        return as_text("\n".join([*rows, ""]))


def main(arguments: list[str]) -> int:
    """1 on a configuration that it refuses; `validate` ends after that, else it follows."""
    command, *rest = arguments
    options = dict(w.lstrip("-").partition("=")[::2] for w in rest if w.startswith("--"))
    (file,) = [word for word in rest if not word.startswith("--")]
    try:
        pipeline = Pipeline(parse(Path(file).read_text()))
    except (ValueError, KeyError, StopIteration) as error:
        print(f"Error: {file}: {error}", file=sys.stderr, flush=True)
        return 1
    if command == "validate":
        return 0
    reader = Reader(pipeline, Path(options["storage.path"]))
    threading.Thread(target=reader.follow, daemon=True).start()

    def handle(request: Request) -> Response:
        if request.path == "/metrics":
            return reader.metrics()
        return as_text("Alloy is ready (a lab double).\n")

    port = int(options["server.http.listen-addr"].rpartition(":")[2])
    serve({(None, port): handle}, lambda: print("now listening (a lab double)", flush=True))
    return 0
