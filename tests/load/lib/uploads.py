"""Large uploads, sent from a file."""

import http.client
import os
import re
import socket
import time

from lib.measuring import form
from lib.project import give_up
from lib.quick_upstream import Pictures, submitted_ns

PATH = "/v1/images/edits"
MB = 1_000_000
# Number and bytes of the pictures of the largest upload.
BIG = (16, 50 * MB)
# What the gateway's resident memory may grow by, by the number of such uploads at once.
MEMORY_AIMS = {1: 64 * MB, 8: 160 * MB}
# The upstream has the picture at once, so polls may begin at once.
IMMEDIATE_POLLS = {"GATEWAY_UPSTREAM__FIRST_POLL_MS": "1", "GATEWAY_UPSTREAM__POLL_INTERVAL_MIN_MS": "1", "GATEWAY_UPSTREAM__POLL_COST_MS": "1"}
TINY_PICTURE = ("--latency-ms", 0, "--picture-bytes", 1000)


class Uploads:
    """Forms with equal pictures and a unique prompt, sent from a file."""

    def __init__(self, scratch, pictures):
        count, size = pictures
        self.file = scratch.folder / f"picture-{size}"
        if not self.file.exists():
            self.file.write_bytes(Pictures(size).of(b"%032d" % size))
        self.count, self.size = count, size
        self.number = 0

    def body_bytes(self):
        return self.count * self.size

    def send(self, port, key):
        """Sends an upload on a connection of its own and reads the answer; gives up when it is not 200.

        Returns the seconds until the submit had arrived at the quick upstream.
        """
        self.number += 1
        mark = b"<picture>"
        body, headers = form([mark] * self.count, f"upload {self.number} {time.monotonic_ns()}")
        headers |= {"Host": "127.0.0.1", "Authorization": f"Bearer {key}",
                    "Content-Length": len(body) + self.count * (self.size - len(mark))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        first, *others = body.split(mark)
        with socket.create_connection(("127.0.0.1", port)) as connection, open(self.file, "rb") as picture:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            began_ns = time.monotonic_ns()
            connection.sendall(f"POST {PATH} HTTP/1.1\r\n{lines}\r\n".encode() + first)
            for text in others:
                at = 0
                while at < self.size:
                    at += os.sendfile(connection.fileno(), picture.fileno(), at, self.size - at)
                connection.sendall(text)
            answer = http.client.HTTPResponse(connection, method="POST")
            answer.begin()
            data = answer.read()
        if answer.status != 200:
            give_up(f"port {port} answers an upload with {answer.status}: {data[:500]}")
        # The id of the prediction, in the gateway's head and in the upstream's body.
        prediction = answer.headers["x-gateway-upstream-id"] or re.search(rb'"id":"([0-9a-f]{32})"', data)[1]
        return (submitted_ns(prediction) - began_ns) / 1e9
