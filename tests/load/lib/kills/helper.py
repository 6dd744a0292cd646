"""A small server beside the gateway: receives webhooks, and serves the pictures of clients that give addresses."""

import base64
import hashlib
import hmac
import json
import random
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from lib.pictures import png
from lib.rig import MARK, free_ports

SECRET = (MARK * 3).encode()[:64]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        # A gateway that was killed waits for no answer.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Helper:
    """`events` has the event's type and the number of its arrivals, by the id of the job; `problems` what was wrong with them."""

    def __init__(self, seed):
        self.random = random.Random(f"{seed}/helper")
        self.seed = seed
        self.lock = threading.Lock()
        self.events, self.problems, self.refused = {}, [], 0
        [port] = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        helper = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):  # noqa: N802
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                self.answer(helper.receive(self.headers, body), b"")

            def do_GET(self):  # noqa: N802
                self.answer(200, helper.picture(self.path))

            def answer(self, status, data):
                self.send_response(status)
                self.send_header("Content-Type", "image/png")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def picture(self, path):
        """Returns the picture of the client whose name is in the path."""
        number = path.rsplit("/", 1)[-1].removeprefix("w").removesuffix(".png")
        return png(f"{self.seed}/{number}")

    def receive(self, headers, body):
        event, at, signature = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
        right = base64.b64encode(hmac.digest(SECRET, f"{event}.{at}.".encode() + body, hashlib.sha256)).decode()
        with self.lock:
            # A receiver that is out of order for a moment.
            if self.random.random() < 0.1:
                self.refused += 1
                return self.random.choice((500, 503, 429))
            if not hmac.compare_digest(f"v1,{right}", signature):
                self.problems.append(f"the signature of {event} is wrong")
                return 400
            value = json.loads(body)
            self.events.setdefault(value["data"]["id"], []).append((value["type"], event))
        return 204

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def settings(helper):
    """Returns the gateway's settings for webhooks to this server."""
    return {"GATEWAY_WEBHOOKS__ALLOWED_ORIGINS": helper.url, "GATEWAY_WEBHOOK_SECRET": f"whsec_{base64.b64encode(SECRET).decode()}",
            "GATEWAY_WEBHOOKS__RETRY_DELAY_MIN_MS": "50", "GATEWAY_WEBHOOKS__RETRY_DELAY_MAX_S": "1",
            "GATEWAY_WEBHOOKS__ATTEMPTS_MAX": "100"}
