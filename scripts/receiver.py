#!/usr/bin/env python3
"""Takes Millstream's callbacks, verifies their signatures, writes what it accepts as lines of JSON.

Standard library only. Prints `ready <host>:<port>` when it listens. One line for each attempt it
answered with 2xx: {"id", "timestamp", "replay", "verified", "duplicate", "attempt", "path", "body"}.

It can misbehave on purpose, so that one can see what a sender makes of it; see --help.
"""

import argparse
import base64
import collections
import hashlib
import hmac
import json
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY_BYTES_MAX = 8 << 20


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", default="127.0.0.1:0", help="host:port; port 0 takes a free one")
    parser.add_argument("--secret", action="append", default=[], help="whsec_…; several: any of them will do")
    parser.add_argument("--tolerance", type=int, default=300, help="seconds a timestamp may be off; 0: any")
    parser.add_argument("--out", default="-", help="file for what is accepted (appended); - is standard output")
    parser.add_argument("--ordered", action="store_true", help="answer 409 to a message whose seq leaves a hole in its room")
    bad = parser.add_argument_group("misbehaviour")
    bad.add_argument("--status", type=int, default=200, help="what good callbacks are answered")
    bad.add_argument("--fail-first", type=int, default=0, metavar="N", help="answer the first N attempts of each id with --fail-status")
    bad.add_argument("--fail-every", type=int, default=0, metavar="N", help="answer each N-th request with --fail-status")
    bad.add_argument("--fail-room", default="", metavar="ROOM", help="answer everything of this room with --fail-status")
    bad.add_argument("--fail-status", type=int, default=500)
    bad.add_argument("--retry-after", default="", help="header Retry-After of failures")
    bad.add_argument("--location", default="", help="header Location of failures")
    bad.add_argument("--delay", type=float, default=0.0, metavar="S", help="wait so long before each answer")
    bad.add_argument("--hang", action="store_true", help="never answer")
    bad.add_argument("--drop-after-body", type=int, default=0, metavar="N", help="cut the connection of the first N requests after reading them")
    bad.add_argument("--endless-body", action="store_true", help="answer with a body that never ends")
    return parser.parse_args()


def keys(secrets):
    found = []
    for secret in secrets:
        prefix, _, encoded = secret.partition("_")
        if prefix != "whsec":
            sys.exit("a secret must begin with whsec_")
        try:
            found.append(base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True))
        except ValueError:
            sys.exit("a secret is not base64 after whsec_")
    return found


class State:
    """What all connections share."""

    def __init__(self, options):
        self.options = options
        self.keys = keys(options.secret)
        self.out = sys.stdout if options.out == "-" else open(options.out, "a", encoding="utf-8")
        self.lock = threading.Lock()
        self.attempts = collections.Counter()
        self.accepted = set()
        self.last = {}
        self.requests = 0

    def verify(self, headers, body):
        """Why a callback is refused; nothing if it is genuine."""
        if not self.keys:
            return None
        name, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not at.isdigit():
            return "no timestamp"
        if self.options.tolerance and abs(time.time() - int(at)) > self.options.tolerance:
            return "timestamp too far off"
        signed = b".".join([name.encode(), at.encode(), body])
        expected = [base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in self.keys]
        for given in headers.get("webhook-signature", "").split():
            version, _, signature = given.partition(",")
            if version == "v1" and any(hmac.compare_digest(signature, one) for one in expected):
                return None
        return "no signature fits"

    def judge(self, headers, body, path):
        """Status and headers of the answer; writes down what is accepted. None: cut the connection."""
        options = self.options
        name = headers.get("webhook-id", "")
        with self.lock:
            self.requests += 1
            self.attempts[name] += 1
            if self.requests <= options.drop_after_body:
                return None
            why = self.verify(headers, body)
            if why:
                print(f"refused {name}: {why}", file=sys.stderr, flush=True)
                return 401, {}
            try:
                parsed = json.loads(body)
            except ValueError:
                return 400, {}
            data = parsed.get("data") if isinstance(parsed, dict) else None
            data = data if isinstance(data, dict) else {}
            room, seq = data.get("room"), data.get("seq")
            failing = (
                self.attempts[name] <= options.fail_first
                or (options.fail_every and self.requests % options.fail_every == 0)
                or (options.fail_room and room == options.fail_room)
            )
            if failing:
                more = {"Retry-After": options.retry_after, "Location": options.location}
                return options.fail_status, {key: value for key, value in more.items() if value}
            if not 200 <= options.status < 300:
                more = {"Retry-After": options.retry_after, "Location": options.location}
                return options.status, {key: value for key, value in more.items() if value}
            duplicate = name in self.accepted
            if options.ordered and not duplicate and data.get("type") == "message" and isinstance(seq, int):
                if room in self.last and seq != self.last[room] + 1:
                    print(f"hole in {room}: {seq} after {self.last[room]}", file=sys.stderr, flush=True)
                    return 409, {}
                self.last[room] = seq
            self.accepted.add(name)
            line = {
                "id": name,
                "timestamp": headers.get("webhook-timestamp"),
                "replay": headers.get("millstream-replay") == "true",
                "verified": bool(self.keys),
                "duplicate": duplicate,
                "attempt": self.attempts[name],
                "path": path,
                "body": parsed,
            }
            print(json.dumps(line, ensure_ascii=False, separators=(",", ":")), file=self.out, flush=True)
            return options.status, {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state = None

    def do_POST(self):
        options = self.state.options
        length = int(self.headers.get("content-length") or 0)
        if length > BODY_BYTES_MAX:
            self.close_connection = True
            return self.answer(413, {})
        body = self.rfile.read(length)
        answer = self.state.judge(self.headers, body, self.path)
        if answer is None:
            self.close_connection = True
            return None
        if options.hang:
            threading.Event().wait()
        time.sleep(options.delay)
        if options.endless_body:
            return self.endless(*answer)
        return self.answer(*answer)

    def do_GET(self):
        """How many were accepted: {"requests", "accepted"}."""
        counts = {"requests": self.state.requests, "accepted": len(self.state.accepted)}
        self.answer(200, {"Content-Type": "application/json"}, json.dumps(counts).encode())

    def answer(self, status, headers, body=b""):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def endless(self, status, headers):
        self.close_connection = True
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"x" * 4096)
        except OSError:
            pass

    def log_message(self, *_):
        """One line a request would be noise."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A sender that hangs up is no error of ours."""


def main():
    options = arguments()
    Handler.state = State(options)
    host, _, port = options.listen.rpartition(":")
    server = Server((host or "127.0.0.1", int(port)), Handler)
    # Under a pipe that is read line by line, readiness must not wait in a buffer.
    print(f"ready {server.server_address[0]}:{server.server_address[1]}", file=sys.stdout, flush=True)
    stop = lambda *_: threading.Thread(target=server.shutdown, daemon=True).start()  # noqa: E731
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    server.serve_forever(poll_interval=0.1)


if __name__ == "__main__":
    main()
