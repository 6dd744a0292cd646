#!/usr/bin/env python3
"""Uploads through the gateway, beside nginx that buffers the same body and proxies it to the same sink.

Forms with pictures of 1 MB, 20 MB and 16 x 50 MB go in turn to the gateway (spool, purchase with base64 inside JSON, poll, download,
answer), to nginx (one worker, proxy_request_buffering on, temporary files on the same disk) and straight to the sink, which reads
bodies, throws them away and answers. Gateway and nginx are pinned to one core, the client, which sends from a file, and the sink to
the other. Printed for each: seconds of an upload and CPU for each GB of it; and the gateway's peak memory above idle at one and at eight
uploads of 16 x 50 MB at once, there on both cores.

Needs nginx (Debian: nginx), two cores, 8 GB of disk and target/release/gptproto-gateway. Exits 3 when an aim is missed.

usage: tests/load/uploads.py [--quick] [speed|memory]...
"""

import argparse
import http.client
import os
import socket
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from measure_kit import (Scratch, Stopwatch, Table, forget_peak, form, free_ports, give_up, memory,
                         prepare)
from quick_upstream import Pictures

PATH = "/v1/images/edits"
MB = 1_000_000
BIG = (16, 50 * MB)
# Number and bytes of the pictures of an upload, uploads in a round.
SPEEDS = {"1 MB": ((1, 1 * MB), 40), "20 MB": ((1, 20 * MB), 8), "16 x 50 MB": (BIG, 1)}
MEMORY_AIMS = {1: 64 * MB, 8: 160 * MB}
# The upstream has the picture at once; so polls may come at once.
AT_ONCE = {"GATEWAY_UPSTREAM__FIRST_POLL_MS": "1", "GATEWAY_UPSTREAM__POLL_INTERVAL_MIN_MS": "1", "GATEWAY_UPSTREAM__POLL_COST_MS": "1"}
TINY_PICTURE = ("--latency-ms", 0, "--picture-bytes", 1000)


class Uploads:
    """Forms with equal pictures and a prompt that never comes again, sent from a file."""

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
        """One upload on a connection of its own, from connecting to the last byte of the answer."""
        self.number += 1
        mark = b"<picture>"
        body, headers = form([mark] * self.count, f"upload {self.number} {time.monotonic_ns()}")
        headers |= {"Host": "127.0.0.1", "Authorization": f"Bearer {key}",
                    "Content-Length": len(body) + self.count * (self.size - len(mark))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        first, *others = body.split(mark)
        with socket.create_connection(("127.0.0.1", port)) as connection, open(self.file, "rb") as picture:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(f"POST {PATH} HTTP/1.1\r\n{lines}\r\n".encode() + first)
            for text in others:
                at = 0
                while at < self.size:
                    at += os.sendfile(connection.fileno(), picture.fileno(), at, self.size - at)
                connection.sendall(text)
            answer = http.client.HTTPResponse(connection, method="POST")
            answer.begin()
            told = answer.read()
        if answer.status != 200:
            give_up(f"port {port} answers an upload with {answer.status}: {told[:500]}")


def speed(table, rounds):
    scratch = Scratch("uploads")
    sink = scratch.upstream(*TINY_PICTURE)
    world = scratch.gateway(sink, AT_ONCE)
    port = free_ports(1)[0]
    nginx = scratch.nginx(port, f"""
        upstream sink {{ server 127.0.0.1:{sink}; keepalive 16; }}
        server {{ listen 127.0.0.1:{port}; location / {{
          proxy_pass http://sink; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering on; }} }}""")
    sides = {"gateway": (world.port, world.gateway.pid), "nginx": (port, nginx.pid), "straight to the sink": (sink, os.getpid())}
    for name, (pictures, count) in SPEEDS.items():
        if rounds == 1:
            count = max(1, count // 4)
        uploads = Uploads(scratch, pictures)
        seconds = {side: [] for side in sides}
        costs = {side: [] for side in sides}
        for _ in range(rounds):
            for side, (port, pid) in sides.items():
                watch = Stopwatch(pid)
                for _ in range(count):
                    uploads.send(port, world.keys[0])
                watch.stop()
                seconds[side].append(watch.seconds / count)
                costs[side].append(watch.cpu / count / uploads.body_bytes() * 1e9)
        for side in sides:
            table.row(f"upload of {name}: {side}", statistics.median(seconds[side]), "s")
            # Straight to the sink, that is the client's own.
            who = "the client itself" if side == "straight to the sink" else side
            table.row(f"upload of {name}: {who}", statistics.median(costs[side]), "CPU s/GB")
        for what, of in (("seconds", seconds), ("CPU", costs)):
            ratio = statistics.median(of["gateway"]) / statistics.median(of["nginx"])
            table.row(f"upload of {name}: {what} of nginx's", ratio, "x", 2.0)
    world.close(keep=True)
    scratch.close()


def peak(table, at_once):
    scratch = Scratch("uploads")
    world = scratch.gateway(scratch.upstream(*TINY_PICTURE), AT_ONCE, core=None)
    pid = world.gateway.pid
    Uploads(scratch, (1, 1 * MB)).send(world.port, world.keys[0])
    time.sleep(0.5)
    idle = memory(pid)
    forget_peak(pid)
    uploads = Uploads(scratch, BIG)
    began = time.monotonic()
    with ThreadPoolExecutor(at_once) as threads:
        for upload in [threads.submit(uploads.send, world.port, world.keys[0]) for _ in range(at_once)]:
            upload.result()
    took = time.monotonic() - began
    above = memory(pid, "VmHWM") - idle
    table.row(f"{at_once} at once of 16 x 50 MB: peak memory above idle ({idle / MB:.0f} MB)", above / MB, "MB", MEMORY_AIMS[at_once] / MB)
    table.row(f"{at_once} at once of 16 x 50 MB: took", took, "s")
    world.close(keep=True)
    scratch.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round, and one big upload at once")
    parser.add_argument("what", nargs="*", choices=[[], "speed", "memory"], help="both, unless one is named")
    arguments = parser.parse_args()
    prepare("nginx")
    table = Table()
    what = arguments.what or ("speed", "memory")
    if "speed" in what:
        speed(table, 1 if arguments.quick else 3)
    if "memory" in what:
        for at_once in (1,) if arguments.quick else MEMORY_AIMS:
            peak(table, at_once)
    sys.exit(table.close())


if __name__ == "__main__":
    main()
