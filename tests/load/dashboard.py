#!/usr/bin/env python3
"""What open pages of the operator cost.

Starts a sandbox on free loopback ports, makes edits and failures so that every table of the page is full, and measures the
processor time of the gateway in turn without an open page and with ten, while cache hits keep the figures moving. Prints the
share of a core that the ten pages take; the aim is one percent. Needs Python 3, Linux and target/release/gptproto-gateway.
"""

import http.client
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import threading
import time

from lib.measuring import BINARY, Table, cpu_seconds, parse_arguments
from lib.project import give_up, require
from lib.rig import call, free_ports

PAGES = 10
AIM_PERCENT = 1.0
KEY = {"Authorization": "Bearer sk-sandbox", "Content-Type": "application/json"}


def generation(port, prompt):
    body = f'{{"model": "gpt-image-1.5", "prompt": "{prompt}", "size": "256x256", "quality": "low"}}'
    return call(port, "POST", "/v1/images/generations", body, KEY)[0]


class Page:
    """A connection that reads the events of the page, as a browser does."""

    def __init__(self, port):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        self.connection.request("GET", "/events")
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.status
        self.events = self.bytes = 0
        self.socket = self.connection.sock
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            for line in self.answer:
                self.events += line.startswith(b"data: ")
                self.bytes += len(line)
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            return

    def close(self):
        self.connection.close()


def measured(process, port, seconds):
    """Returns the processor time of the gateway, while a hit a second keeps the figures moving."""
    before, end = cpu_seconds(process.pid), time.monotonic() + seconds
    while time.monotonic() < end:
        assert generation(port, "kept moving") == 200
        time.sleep(min(1, max(0, end - time.monotonic())))
    return (cpu_seconds(process.pid) - before) / seconds


def main():
    arguments = parse_arguments(__doc__, "two rounds of ten seconds instead of five of twenty")
    require(BINARY)
    rounds, seconds = (2, 10) if arguments.quick else (5, 20)
    folder = tempfile.mkdtemp(prefix="gateway-dashboard-")
    port, operator, = free_ports(2)
    foreign = ("GATEWAY_", "GPTPROTO_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | {
        "GATEWAY_SERVER__LISTEN": f"127.0.0.1:{port}",
        "GATEWAY_OPERATOR__LISTEN": f"127.0.0.1:{operator}",
        "GATEWAY_STORAGE__DIRECTORY": f"{folder}/data",
        "GATEWAY_LOG__FILTER": "error",
    }
    process = subprocess.Popen([BINARY, "serve", "--sandbox"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        simulator = None
        for line in process.stdout:
            words = line.split()
            if words[:1] == ["simulator"]:
                simulator = int(words[1].rstrip("/").rpartition(":")[2])
            if line.startswith("Stop"):
                break
        if simulator is None:
            give_up("the sandbox did not start")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        # Every table is full: 200 failures and 50 requests.
        failures = 220
        fault = f'{{"on": "submit", "fault": "drop_after", "times": {failures}}}'
        assert call(simulator, "POST", "/_simulator/faults", fault)[0] == 200
        for number in range(failures):
            assert generation(port, f"lost {number}") == 502
        assert generation(port, "kept moving") == 200
        without, with_pages, sent = [], [], []
        for _ in range(rounds):
            without.append(measured(process, port, seconds))
            pages = [Page(operator) for _ in range(PAGES)]
            time.sleep(1)
            before = [(page.events, page.bytes) for page in pages]
            with_pages.append(measured(process, port, seconds))
            for page, (events, count) in zip(pages, before):
                # A page that hears nothing costs nothing.
                assert page.events - events >= seconds * 0.8, f"{page.events - events} events in {seconds} s"
                sent.append((page.bytes - count) / seconds)
            for page in pages:
                page.close()
            time.sleep(1)
        table = Table()
        table.row("gateway without an open page", statistics.median(without) * 100, "% of a core")
        table.row(f"gateway with {PAGES} open pages", statistics.median(with_pages) * 100, "% of a core")
        table.row("bytes to a page", statistics.median(sent), "bytes a second")
        share = statistics.median(b - a for a, b in zip(without, with_pages)) * 100
        table.row(f"{PAGES} open pages", share, "% of a core", AIM_PERCENT)
        return table.close()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
