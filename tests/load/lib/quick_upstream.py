#!/usr/bin/env python3
"""GPTProto's prediction API with as little work as possible, for measurements that the simulator would dominate.

The simulator draws its pictures and remembers every prediction; this server sends bytes made at its start and remembers
nothing. The id of a prediction is the moment at which its submit had arrived (CLOCK_MONOTONIC, in nanoseconds) and a
number; the picture has the id in a text chunk, so that no two pictures are equal and its receiver can tell when it was
ready. Request bodies are counted and discarded. One thread, one buffer.

  POST …                                  any body; the answer of a submit
  GET /api/v3/predictions/{id}/result     completed after --latency-ms; with --held, once released
  GET /files/{id}/0.png                   a PNG of --picture-bytes
  GET /_counters, GET /_release           JSON; ends --held

With --heavy KIND the first --heavy-polls polls of each prediction are answered with 16 MB: "values", a list of zeros;
"text", one text; "picture", a result in base64 that is no complete picture.

usage: tests/load/lib/quick_upstream.py --port PORT [--latency-ms 1000] [--picture-bytes 10000] [--held]
                                       [--heavy values|text|picture] [--heavy-polls 3]
"""

import argparse
import asyncio
import json
import os
import socket
import time
import zlib

BUFFER_BYTES = 1 << 20
HEAVY_BYTES = 16 << 20
MOMENT = b"submitted-ns"


def chunk(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


class Pictures:
    """PNGs of one pixel and an exact size in bytes: a text, and noise in a private chunk."""

    def __init__(self, size):
        text = len(chunk(b"tEXt", MOMENT + b"\0" + bytes(32)))
        self.head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", (1).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0]))
        pixel = chunk(b"IDAT", zlib.compress(bytes(4))) + chunk(b"IEND", b"")
        noise = size - len(self.head) - len(pixel) - text - len(chunk(b"noIs", b""))
        if noise < 0:
            raise ValueError(f"a picture takes at least {size - noise} bytes")
        self.tail = chunk(b"noIs", os.urandom(noise)) + pixel

    def of(self, name):
        """Returns the picture with a text of 32 characters."""
        return self.head + chunk(b"tEXt", MOMENT + b"\0" + name) + self.tail


def submitted_ns(prediction):
    """Returns when the submit of a prediction had arrived, by CLOCK_MONOTONIC."""
    return int(prediction[:16], 16)


class Service:
    def __init__(self, port, latency_ms, picture_bytes, held, heavy, heavy_polls):
        self.origin = b"http://127.0.0.1:%d" % port
        self.latency_ns = int(latency_ms * 1e6)
        self.pictures = Pictures(picture_bytes)
        self.held = held
        self.counters = {"submits": 0, "polls": 0, "downloads": 0, "body_bytes": 0}
        self.number = 0
        self.heavy, self.heavy_polls = heavy, heavy_polls
        self.polls_of = {}

    def heavy_answer(self, name):
        """Returns an answer to one of the first polls of a prediction, or None."""
        polls = self.polls_of[name] = self.polls_of.get(name, 0) + 1
        if not self.heavy or polls > self.heavy_polls:
            return None
        self.counters["heavy"] = self.counters.get("heavy", 0) + 1
        text = b'"iVBORw0KGgo%s"' if self.heavy == "picture" else b'"%s"'
        content = b"0" + b",0" * (HEAVY_BYTES // 2) if self.heavy == "values" else text % (b"A" * HEAVY_BYTES)
        return self.envelope(name, b"completed" if self.heavy == "picture" else b"processing", content)

    def answer(self, method, path):
        counters = self.counters
        if method == b"POST":
            counters["submits"] += 1
            self.number += 1
            name = b"%016x%016x" % (time.monotonic_ns(), self.number)
            return self.envelope(name, b"created", b"")
        if path.startswith(b"/api/v3/predictions/"):
            counters["polls"] += 1
            name = path.split(b"/", 5)[4]
            if heavy := self.heavy_answer(name):
                return heavy
            if self.held or time.monotonic_ns() < int(name[:16], 16) + self.latency_ns:
                return self.envelope(name, b"processing", b"")
            return self.envelope(name, b"completed", b'"%s/files/%s/0.png"' % (self.origin, name))
        if path.startswith(b"/files/"):
            counters["downloads"] += 1
            return self.pictures.of(path.split(b"/", 3)[2])
        if path == b"/_release":
            self.held = False
        return json.dumps(counters | {"cpu_seconds": time.process_time()}).encode()

    def envelope(self, name, status, outputs):
        return (b'{"data":{"id":"%s","model":"quick","outputs":[%s],"urls":{"get":"%s/api/v3/predictions/%s/result"},'
                b'"has_nsfw_contents":[],"status":"%s","error":"","created_at":"2026-01-01T00:00:00Z","executionTime":0,'
                b'"timings":{"inference":0}},"message":"success","code":200}' % (name, outputs, self.origin, name, status))


class Connection(asyncio.BufferedProtocol):
    buffer = memoryview(bytearray(BUFFER_BYTES))

    def __init__(self, service):
        self.service = service
        self.head = b""
        self.left = 0
        self.request = None

    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get_buffer(self, _hint):
        return self.buffer

    def buffer_updated(self, size):
        if self.request and size < self.left:
            self.left -= size
            return
        at = 0
        while at < size:
            if not self.request:
                self.head += bytes(self.buffer[at:size])
                end = self.head.find(b"\r\n\r\n")
                if end < 0:
                    return
                # The body begins here in this buffer.
                at = size - (len(self.head) - end - 4)
                head, self.head = self.head[:end], b""
                self.request = head.split(b" ", 2)[:2]
                length = head.lower().find(b"\r\ncontent-length:")
                self.left = int(head[length + 17:].split(b"\r\n", 1)[0]) if length >= 0 else 0
                self.service.counters["body_bytes"] += self.left
            taken = min(self.left, size - at)
            self.left -= taken
            at += taken
            if self.left == 0:
                method, path = self.request
                self.request = None
                body = self.service.answer(method, path)
                kind = b"image/png" if path.startswith(b"/files/") else b"application/json"
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (kind, len(body), body))


async def serve(arguments):
    service = Service(arguments.port, arguments.latency_ms, arguments.picture_bytes, arguments.held, arguments.heavy,
                      arguments.heavy_polls)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(service), "127.0.0.1", arguments.port, backlog=4096)
    await server.serve_forever()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--latency-ms", type=float, default=1000)
    parser.add_argument("--picture-bytes", type=int, default=10_000)
    parser.add_argument("--held", action="store_true")
    parser.add_argument("--heavy", choices=("values", "text", "picture"))
    parser.add_argument("--heavy-polls", type=int, default=3)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
