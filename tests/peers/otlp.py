"""A receiver of OTLP over HTTP that takes requests apart with OpenTelemetry's own definitions, and takes none that they do not have.

    python otlp.py            listens on this machine, prints its port, and answers each line on its input with what it was told so far
    python otlp.py LINES      reads requests with log records, one a line, as the file receiver of a collector does

What a member is called, which type it has and how long an id is, is by `opentelemetry-proto`: an unknown member is an error. The one
difference between OTLP's JSON and that of Protocol Buffers is undone before: ids are hexadecimal there and base64 here.
"""

import base64
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

IDS = {"traceId": 16, "spanId": 8, "parentSpanId": 8}


def with_ids(value):
    """The same with each id as Protocol Buffers have it."""
    if isinstance(value, list):
        return [with_ids(one) for one in value]
    if not isinstance(value, dict):
        return value
    read = {}
    for name, member in value.items():
        if name in IDS:
            raw = bytes.fromhex(member)
            assert len(raw) == IDS[name] and any(raw), f"{name} is {member}"
            member = base64.b64encode(raw).decode()
        else:
            member = with_ids(member)
        read[name] = member
    return read


def parse(text, message):
    return json_format.ParseDict(with_ids(json.loads(text)), message, ignore_unknown_fields=False)


def any_value(value):
    kind = value.WhichOneof("value")
    assert kind is not None, "an attribute without a value"
    if kind == "array_value":
        return [any_value(one) for one in value.array_value.values]
    return getattr(value, kind)


def attributes(pairs):
    read = {pair.key: any_value(pair.value) for pair in pairs}
    assert len(read) == len(pairs), f"an attribute is there twice: {sorted(pair.key for pair in pairs)}"
    return read


def span(one):
    assert one.name and one.start_time_unix_nano > 0, one
    assert one.end_time_unix_nano >= one.start_time_unix_nano, one
    for event in one.events:
        assert one.start_time_unix_nano <= event.time_unix_nano <= one.end_time_unix_nano, one
    return {
        "trace": one.trace_id.hex(),
        "id": one.span_id.hex(),
        "parent": one.parent_span_id.hex(),
        "name": one.name,
        "kind": type(one).SpanKind.Name(one.kind),
        "start": one.start_time_unix_nano,
        "end": one.end_time_unix_nano,
        "status": type(one.status).StatusCode.Name(one.status.code),
        "attributes": attributes(one.attributes),
        "events": [event.name for event in one.events],
    }


def record(one):
    assert one.time_unix_nano > 0 and one.severity_number > 0 and one.event_name, one
    return {
        "event": one.event_name,
        "body": one.body.string_value,
        "trace": one.trace_id.hex(),
        "span": one.span_id.hex(),
        "attributes": attributes(one.attributes),
    }


def metric(one):
    kind = one.WhichOneof("data")
    points = getattr(one, kind).data_points
    assert points and one.description and one.unit, one
    for point in points:
        assert point.time_unix_nano > 0, one
        if kind == "histogram":
            assert len(point.bucket_counts) == len(point.explicit_bounds) + 1, one
            assert sum(point.bucket_counts) == point.count, one
            assert list(point.explicit_bounds) == sorted(point.explicit_bounds), one
    if kind in ("sum", "histogram"):
        # Cumulative: since a time that is said.
        assert getattr(one, kind).aggregation_temporality == 2, one
        assert all(0 < point.start_time_unix_nano <= point.time_unix_nano for point in points), one
    return {
        "name": one.name,
        "kind": kind,
        "points": [
            {
                "attributes": attributes(point.attributes),
                "value": point.count if kind == "histogram" else getattr(point, point.WhichOneof("value")),
            }
            for point in points
        ],
    }


SIGNALS = {
    "/v1/traces": ("spans", ExportTraceServiceRequest, "resource_spans", "scope_spans", "spans", span),
    "/v1/logs": ("logs", ExportLogsServiceRequest, "resource_logs", "scope_logs", "log_records", record),
    "/v1/metrics": ("metrics", ExportMetricsServiceRequest, "resource_metrics", "scope_metrics", "metrics", metric),
}


def read(path, text):
    """Which signal a request is of, and its items, each with what its resource is."""
    name, message, of_resources, of_scopes, of_items, item = SIGNALS[path]
    items = []
    for of_resource in getattr(parse(text, message()), of_resources):
        resource = attributes(of_resource.resource.attributes)
        assert resource["service.name"] == "ambit", resource
        for of_scope in getattr(of_resource, of_scopes):
            assert of_scope.scope.name, of_scope
            items += [item(one) | {"resource": resource} for one in getattr(of_scope, of_items)]
    return name, items


def from_file(path):
    with open(path, encoding="utf-8") as lines:
        items = [one for line in lines for one in read("/v1/logs", line)[1]]
    print(json.dumps(items))


def listen():
    told = {"spans": [], "logs": [], "metrics": [], "headers": [], "wrong": []}
    lock = threading.Lock()

    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            text = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = 200, b"{}"
            with lock:
                told["headers"].append({name.lower(): value for name, value in self.headers.items()})
                try:
                    assert self.headers["Content-Type"] == "application/json", self.headers
                    name, items = read(self.path, text)
                    # Metrics are cumulative: the last word is the whole.
                    told[name] = items if name == "metrics" else told[name] + items
                except Exception as error:  # Whatever is wrong is the test's to know.
                    told["wrong"].append(f"{self.path}: {error!r}: {text.decode(errors='replace')[:2000]}")
                    status, answer = 400, b"{}"
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    for _ in sys.stdin:
        with lock:
            print(json.dumps(told), flush=True)


if len(sys.argv) > 1:
    from_file(sys.argv[1])
else:
    listen()
