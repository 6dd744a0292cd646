#!/usr/bin/env python3
"""Attacks on the gateway's connections, and their effect on honest clients.

Starts the release binary as simulator and as gateway on loopback. Honest clients send requests (cache hits, and small edits
that are bought; each over a new connection), first alone and then during one attack after the other:

- slowhttptest in its four modes, and h2load as a flood over HTTP/1.1 and HTTP/2;
- attacks that no Debian package makes (lib/attackers.py): slow heads, bodies and reads with a valid key; a gigabyte of
  headers; HTTP/2 rapid reset, made-you-reset, CONTINUATION floods and closed windows; floods of uploads in sixteen parts;
  and a hundred held connections on a gateway that may open 64 files.

Prints for each: the median and 99th percentile of honest requests, how many of them failed, the most connections held,
seconds until an attacker's connection is closed, and peak memory above idle; and whether the gateway is alive and clean
afterwards: no connection left, no descriptors more than before, no unfinished work, no purchase that no client received.
Exits 1 when any of that failed, and 3 when only a latency missed its aim, which a busy machine can cause.

usage: tests/load/attacks.py [--quick] [--control] [--binary FILE] [NAME...]

With --quick the gateway's timeouts are 4 s instead of 30 and 60, and each attack is shorter (about 90 s in all). Needs Linux,
Python 3, target/release/gptproto-gateway, and of Debian: slowhttptest, nghttp2-client (h2load) and util-linux (prlimit).
With --control the gateway's timeouts are an hour: attacks that a timeout ends must then miss their aim.
"""

import argparse
import base64
import http.client
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

from lib.pictures import png
from lib.project import give_up, release_binary, require
from lib.rig import Rig, call

ATTACKERS = Path(__file__).parent / "lib" / "attackers.py"
PACKAGES = {"slowhttptest": "slowhttptest", "h2load": "nghttp2-client", "prlimit": "util-linux"}
SCENARIO = "[life]\nlow_ms = [50, 50]\nsize_counts = \"no\"\n[limits]\npoll_interval_min_ms = 0\n"
BOUNDARY = "honest"

# Aims. The machine has few cores, of which the attackers take a share: honest clients must be served soon, but may be
# slower than without an attack.
HIT_P99_MS = 250
EDIT_P99_MS = 1500
CUT_SLACK_S = 3
# The gateway reads the rest of a body that it refused with 408 for this time before it closes the connection.
DRAIN_S = 5
MEMORY_MB = 96
# How a message about a latency begins.
LATE = "p99 >"


class Honest:
    """Clients in threads of their own, each request over a new connection."""

    def __init__(self, rig, tries=1):
        self.rig, self.tries = rig, tries
        self.seconds = {"hit": [], "edit": []}
        self.failures, self.again = [], 0
        self.bought = 0
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(kind,), daemon=True) for kind in ("hit", "hit", "edit")]
        self.number = 0

    def body(self, prompt):
        fields = {"model": "gpt-image-1.5", "quality": "low", "size": "256x256", "prompt": prompt}
        parts = [f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
                 for name, value in fields.items()]
        parts.append(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'.encode())
        return b"".join(parts) + png(1) + f"\r\n--{BOUNDARY}--\r\n".encode()

    def ask(self, prompt):
        headers = {"Authorization": f"Bearer {self.rig.keys[0]}", "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        status, _, data = call(self.rig.port, "POST", "/v1/images/edits", self.body(prompt), headers, timeout=30)
        if status != 200:
            raise ValueError(f"{status} {data[:200]}")
        if not base64.b64decode(json.loads(data)["data"][0]["b64_json"]).startswith(b"\x89PNG"):
            raise ValueError("no picture")

    def once(self, kind, prompt):
        began = time.monotonic()
        for left in reversed(range(self.tries)):
            try:
                self.ask(prompt)
                break
            except (OSError, http.client.HTTPException, ValueError) as error:
                if not left:
                    self.failures.append(f"{kind}: {error!r}")
                    return
                self.again += 1
                # With growing pauses, as SDKs retry.
                time.sleep(min(2.0, 0.1 * 2 ** (self.tries - left)))
        self.seconds[kind].append(time.monotonic() - began)
        self.bought += kind == "edit"

    def run(self, kind):
        while not self.stopping.is_set():
            self.number += 1
            self.once(kind, "bought once" if kind == "hit" else f"edit {time.time_ns()}")
            time.sleep(0.01)

    def start(self):
        for thread in self.threads:
            thread.start()
        return self

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(60)
        return self


def percentile(seconds, share):
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else float("nan")


class Watch:
    """Samples the gateway every 0.1 s: connections held, memory."""

    def __init__(self, rig):
        self.rig = rig
        self.held = self.memory_kb = 0
        self.unanswered = 0
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopping.wait(0.1):
            self.memory_kb = max(self.memory_kb, memory_kb(self.rig.gateway.pid))
            try:
                self.held = max(self.held, status(self.rig)["connections"]["clients"])
            except (OSError, http.client.HTTPException, ValueError):
                self.unanswered += 1

    def stop(self):
        self.stopping.set()
        self.thread.join(10)
        return self


def memory_kb(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS")))


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def status(rig):
    return json.loads(call(rig.operator_port, "GET", "/status.json", timeout=5)[2])


def tool(*command):
    """Returns a function that starts an attacking program, whose output is discarded."""
    return lambda rig, seconds: subprocess.Popen(
        [str(word).format(port=rig.port, seconds=int(seconds), key=rig.keys[1]) for word in command],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd=rig.folder)


def attacker(name):
    """Returns a function that starts an attack of lib/attackers.py."""
    return lambda rig, seconds: subprocess.Popen(
        [sys.executable, ATTACKERS, name, str(rig.port), str(seconds), rig.keys[1]], stdout=subprocess.PIPE, text=True)


def slow(mode, path, *more):
    return tool("slowhttptest", mode, "-c", "1500", "-r", "500", "-i", "5", "-l", "{seconds}", "-p", "5",
                "-u", "http://127.0.0.1:{port}" + path, *more)


# Name, the function that starts the attack, and the limit that closes its connections (a key of `times` in main), for
# attacks that report when they were closed.
ATTACKS = [
    ("slowhttptest -H (slow heads)", slow("-H", "/v1/models"), None),
    ("slowhttptest -B (slow bodies)", slow("-B", "/v1/images/edits", "-s", "100000"), None),
    ("slowhttptest -R (ranges)", slow("-R", "/v1/models", "-t", "HEAD"), None),
    ("slowhttptest -X (slow reads)", slow("-X", "/v1/models", "-k", "3"), None),
    ("slow heads", attacker("slow_headers"), "header"),
    ("slow bodies, with a key", attacker("slow_body"), "body"),
    ("answers not read, with a key", attacker("slow_read"), "write"),
    ("1 GB of headers", attacker("gigabyte_of_headers"), "at once"),
    ("sixteen parts of 1 MB, repeatedly", attacker("sixteen_parts"), None),
    ("flood, HTTP/1.1 (h2load)", tool("h2load", "--h1", "-c", "50", "-t", "1", "-D", "{seconds}", "--rps", "20",
                                      "-H", "authorization: Bearer {key}", "http://127.0.0.1:{port}/v1/models"), None),
    ("flood, HTTP/2 (h2load)", tool("h2load", "-c", "10", "-m", "100", "-t", "1", "-D", "{seconds}", "--rps", "100",
                                    "-H", "authorization: Bearer {key}", "http://127.0.0.1:{port}/v1/models"), None),
    ("HTTP/2 rapid reset", attacker("rapid_reset"), "at once"),
    ("HTTP/2 made-you-reset", attacker("made_you_reset"), "at once"),
    ("HTTP/2 CONTINUATION flood", attacker("continuation_flood"), "at once"),
    ("HTTP/2 windows closed", attacker("shut_window"), "write"),
]
FEW = "held connections, 64 descriptors"


class Table:
    def __init__(self):
        self.missed = self.slow = False
        print(f"{'attack':<40} {'hits p50/p99 ms':>16} {'edits p50/p99 ms':>18} {'failed':>7} {'held':>5} {'closed, s':>12} {'MB more':>8}  verdict",
              flush=True)

    def row(self, name, honest, held="", cut="", memory="", problems=()):
        hits, edits = honest.seconds["hit"], honest.seconds["edit"]
        verdict = "MISS: " + "; ".join(problems) if problems else "ok"
        self.slow |= any(LATE in problem for problem in problems)
        self.missed |= any(LATE not in problem for problem in problems)
        asked = len(hits) + len(edits) + len(honest.failures)
        print(f"{name:<40} {percentile(hits, .5):7.1f} /{percentile(hits, .99):7.1f} {percentile(edits, .5):8.1f} /{percentile(edits, .99):8.1f}"
              f" {len(honest.failures):>3}/{asked:<5}{held:>4} {cut:>12} {memory:>8}  {verdict}", flush=True)


def is_clean(rig, idle_descriptors):
    """Waits up to 20 s until the gateway is as before the attack; returns what is not."""
    problems = ["it did not become clean"]
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        problems = []
        if rig.gateway.poll() is not None:
            return ["the gateway died"]
        try:
            if call(rig.operator_port, "GET", "/readyz", timeout=5)[0] != 200:
                problems.append("not ready")
            now = status(rig)
        except (OSError, http.client.HTTPException) as error:
            problems = [f"the operator listener does not answer: {error!r}"]
            time.sleep(0.2)
            continue
        if now["connections"]["clients"]:
            problems.append(f"{now['connections']['clients']} connections left")
        engine = now["engine"]
        if engine["queued"] + engine["submitting"] + engine["polling"]:
            problems.append("there is unfinished work")
        open_now = descriptors(rig.gateway.pid)
        # Connections to the simulator and from the operator may be kept.
        if open_now > idle_descriptors + 12:
            problems.append(f"{open_now} descriptors open, {idle_descriptors} before")
        if not problems:
            return []
        time.sleep(0.2)
    return problems


def purchases(rig):
    return len(json.loads(call(rig.simulator_port, "GET", "/_simulator/predictions")[2]))


def run(rig, table, name, start, limit, times, seconds, tries=1):
    idle_kb, idle_descriptors = memory_kb(rig.gateway.pid), descriptors(rig.gateway.pid)
    bought = purchases(rig)
    honest, watch = Honest(rig, tries), Watch(rig)
    attack = start(rig, seconds) if start else None
    honest.start()
    output = ""
    if attack is not None:
        try:
            output, _ = attack.communicate(timeout=seconds + 60)
        except subprocess.TimeoutExpired:
            attack.kill()
    else:
        time.sleep(seconds)
    honest.stop()
    watch.stop()
    report = json.loads(output) if output and output.startswith("{") else {}
    problems = is_clean(rig, idle_descriptors)
    if honest.failures:
        problems.append(honest.failures[0][:120])
    if not (honest.seconds["hit"] and honest.seconds["edit"]):
        problems.append("no honest client was served")
    elif tries == 1:
        for kind, aim in (("hit", HIT_P99_MS), ("edit", EDIT_P99_MS)):
            if percentile(honest.seconds[kind], .99) > aim:
                problems.append(f"{kind}s' {LATE} {aim} ms")
    if purchases(rig) - bought != honest.bought:
        problems.append(f"{purchases(rig) - bought} bought, {honest.bought} received")
    more = max(0, watch.memory_kb - idle_kb) / 1024
    if more > MEMORY_MB:
        problems.append(f"memory > {MEMORY_MB} MB more")
    cut = ""
    if limit:
        longest = report.get("longest_s")
        cut = "never" if longest is None else f"{report['median_s']:.1f}-{longest:.1f}"
        if longest is None or longest > times[limit] + CUT_SLACK_S:
            problems.append(f"aim: closed after {times[limit]} s")
    if watch.unanswered > 3:
        problems.append(f"the operator listener did not answer {watch.unanswered} times")
    table.row(name, honest, watch.held, cut, f"{more:.0f}", problems)
    if honest.again:
        print(f"{'':<40} (honest clients were refused {honest.again} times and retried)")
    return report


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--control", action="store_true")
    arguments.add_argument("--binary", type=Path, default=release_binary())
    arguments.add_argument("names", nargs="*", help="attacks whose name has one of these words")
    arguments = arguments.parse_args()
    require(arguments.binary)
    for program, package in PACKAGES.items():
        if not shutil.which(program):
            give_up(f"{program} is missing: apt-get install {package}")
    times = {"header": 30, "body": 30 + DRAIN_S, "write": 60, "at once": 1}
    overrides = {"GATEWAY_CACHE__MODE": "on"}
    if arguments.quick:
        times.update(header=4, body=4 + DRAIN_S, write=4)
        overrides |= {"GATEWAY_SERVER__HEADER_TIMEOUT_S": "4", "GATEWAY_SERVER__BODY_RATE_WINDOW_S": "4",
                      "GATEWAY_SERVER__WRITE_TIMEOUT_S": "4"}
    if arguments.control:
        overrides |= {f"GATEWAY_SERVER__{key}": "3600" for key in ("HEADER_TIMEOUT_S", "BODY_RATE_WINDOW_S", "BODY_IDLE_TIMEOUT_S",
                                                                  "WRITE_TIMEOUT_S")}
    wanted = lambda name: not arguments.names or any(word in name for word in arguments.names)
    table = Table()
    rig = Rig(arguments.binary, 2, SCENARIO, overrides)
    few = None
    try:
        rig.start()
        Honest(rig).once("edit", "bought once")
        run(rig, table, "alone", None, None, times, 3 if arguments.quick else 10)
        for name, start, limit in ATTACKS:
            if wanted(name):
                # Long enough to be closed once and to attack again.
                seconds = 4 if arguments.quick else 15
                if limit not in (None, "at once"):
                    seconds = times[limit] + CUT_SLACK_S + 3
                run(rig, table, name, start, limit, times, seconds)
        if wanted(FEW):
            few = Rig(arguments.binary, 2, SCENARIO, overrides)
            few.launch(through=("prlimit", "--nofile=64"))
            few.wait_until_ready()
            shares = status(few)["connections"]
            Honest(few).once("edit", "bought once")
            run(few, table, FEW, attacker("hold"), None, times, 8 if arguments.quick else 40, tries=12)
            print(f"{'':<40} (of 64 descriptors {shares['clients_max']} are for clients)")
            if few.stop() != 0:
                table.missed = True
                print("MISS: the gateway with few descriptors did not stop with exit code 0")
        if rig.stop() != 0:
            table.missed = True
            print("MISS: the gateway did not stop with exit code 0")
    finally:
        rig.close(keep=False)
        if few:
            few.close(keep=False)
    print(f"aims: no honest request fails, p99 of hits <= {HIT_P99_MS} ms and of edits <= {EDIT_P99_MS} ms; attackers closed"
          f" within their limit + {CUT_SLACK_S} s; <= {MEMORY_MB} MB more; clean within 20 s")
    sys.exit(1 if table.missed else 3 if table.slow else 0)


if __name__ == "__main__":
    main()
