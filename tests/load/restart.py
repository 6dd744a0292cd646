#!/usr/bin/env python3
"""Restarts the gateway under load, and counts the connections that were refused or broken, and what was bought twice.

The script plays systemd: it holds the listening sockets, and hands them on to each gateway (LISTEN_FDS). Connections that
arrive between two gateways wait in these sockets. Half of the restarts start the next gateway when the last one has ended, as
`systemctl restart` does; in the others the next one is started first, and waits for the data folder (storage.lock_wait_s).

Meanwhile clients buy pictures with unique prompts and retry as an SDK does, others ask for a stored picture, each request on
a connection of its own, and one keeps its connection. A grace that is shorter than most edits makes requests end in the 503 that a retry
joins. Afterwards the answers of all clients are compared with what the simulator sold.

  control    the same without inherited sockets: connections must be refused, or this script shows nothing

Exit codes: 0 passed, 1 a connection was refused or broken, or something was bought twice or lost, or the control found
nothing, 2 not carried out.

usage: tests/load/restart.py [--restarts 10] [--control-restarts 3] [--binary FILE] [--keep]
"""

import argparse
import http.client
import sys
import threading
import time
from collections import Counter

from lib.clients import Client, ClientThreads
from lib.project import ROOT, any_binary, require
from lib.rig import Rig, call
from lib.supervisor import InheritingRig

# Edits that outlast the grace of a stop, and some that do not.
SCENARIO = """
[life]
low_ms = [500, 4000]
size_counts = "no"
[limits]
poll_interval_min_ms = 0
"""
OVERRIDES = {
    "GATEWAY_SERVER__SHUTDOWN_DELAY_S": "0",
    "GATEWAY_SERVER__SHUTDOWN_GRACE_S": "2",
    "GATEWAY_STORAGE__LOCK_WAIT_S": "30",
}
BUYERS, HITTERS = 6, 3
# Between two restarts, so that edits are under way at the next one.
PAUSE_S = 1.5
ANSWER_TIMEOUT_S = 60


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--control-restarts", type=int, default=3)
    parser.add_argument("--binary", type=lambda text: ROOT.joinpath(text).resolve(), default=any_binary())
    parser.add_argument("--keep", action="store_true", help="keep the folders with the journals and the logs")
    arguments = parser.parse_args()
    require(arguments.binary)
    inherited = Run(InheritingRig, arguments, arguments.restarts).result
    control = Run(Rig, arguments, arguments.control_restarts).result if arguments.control_restarts else None
    print_table(inherited, control)
    problems = [name for name in ("refused", "reset", "timed out", "bought twice", "without an answer", "other failures") if inherited[name]]
    if not inherited["joined after a 503"]:
        problems.append("no request ended in the 503 that a retry joins: nothing was shown of it")
    if control and not control["refused"] + control["reset"]:
        problems.append("the control refused nothing")
    for problem in problems:
        print(f"! MUST NOT BE: {problem}")
    sys.exit(1 if problems else 0)


class Run:
    """One kind of rig under load, restarted some times."""

    def __init__(self, kind, arguments, restarts):
        self.counts, self.waits, self.restart_s = Counter(), [], []
        self.lock, self.stopping = threading.Lock(), threading.Event()
        rig = self.rig = kind(arguments.binary, BUYERS + 1, SCENARIO, OVERRIDES)
        failed = True
        try:
            rig.start()
            buyers = [CountingClient(rig, number, "restart", self) for number in range(BUYERS)]
            self.stored = Client(rig, BUYERS, "stored")
            assert self.stored.request("a stored picture", None).status == 200
            threads = ClientThreads(buyers, repeat_share=0)
            hitters = [threading.Thread(target=self.hit, daemon=True) for _ in range(HITTERS)]
            hitters.append(threading.Thread(target=self.hit_on_one_connection, daemon=True))
            for thread in hitters:
                thread.start()
            for number in range(restarts):
                time.sleep(PAUSE_S)
                self.restart(overlapping=kind is InheritingRig and number % 2 == 1)
            time.sleep(PAUSE_S)
            self.stopping.set()
            for thread in hitters:
                thread.join(ANSWER_TIMEOUT_S)
            threads.deadline = time.monotonic() + ANSWER_TIMEOUT_S
            self.result = self.judge(threads.finish(ANSWER_TIMEOUT_S + 5), restarts)
            self.rig.stop()
            failed = any(self.result[name] for name in ("refused", "reset", "bought twice", "without an answer")) and kind is InheritingRig
        finally:
            self.stopping.set()
            rig.close(arguments.keep or failed)
            if arguments.keep or failed:
                print(f"kept: {rig.folder}")

    def restart(self, overlapping):
        begun = time.monotonic()
        before = self.rig.gateway
        if overlapping:
            self.rig.launch()
            # It waits for the folder.
            time.sleep(0.3)
            assert self.rig.gateway.poll() is None, self.rig.last_output()
        before.terminate()
        code = before.wait(60)
        self.counts[f"exit code {code}"] += 1
        if not overlapping:
            self.rig.launch()
        self.rig.wait_for(self.rig.gateway, self.rig.operator_port, "/readyz")
        self.restart_s.append(time.monotonic() - begun)

    def count(self, error=None):
        """Counts a request, or how it failed."""
        name = "requests"
        if isinstance(error, ConnectionRefusedError):
            name = "refused"
        elif isinstance(error, (ConnectionError, http.client.HTTPException)):
            name = "reset"
        elif isinstance(error, TimeoutError):
            name = "timed out"
        elif error is not None:
            name = "other failures"
        with self.lock:
            self.counts[name] += 1

    def hit(self):
        """Asks for the stored picture again and again, each time on a connection of its own."""
        while not self.stopping.is_set():
            begun = time.monotonic()
            try:
                answer = self.stored.request("a stored picture", None)
                self.count()
                with self.lock:
                    self.waits.append(time.monotonic() - begun)
                    self.counts[f"hits answered {answer.status}"] += 1
            except (OSError, http.client.HTTPException) as error:
                self.count(error)
            time.sleep(0.01)

    def hit_on_one_connection(self):
        """Keeps a connection while the gateway does. A request that meets its end is sent again on another one, as HTTP asks for."""
        headers = {"Authorization": f"Bearer {self.rig.keys[BUYERS]}"}
        connection = http.client.HTTPConnection("127.0.0.1", self.rig.port, timeout=60)
        fresh = True
        while not self.stopping.is_set():
            try:
                connection.request("GET", "/v1/models", headers=headers)
                answer = connection.getresponse()
                answer.read()
                self.count()
                fresh = answer.will_close
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if fresh:
                    self.count(error)
                else:
                    with self.lock:
                        self.counts["kept connections that ended"] += 1
                fresh = True
            time.sleep(0.02)
        connection.close()

    def judge(self, operations, restarts):
        sold = Counter(self.rig.accepted_prompts())
        result = Counter(self.counts)
        result["restarts"] = restarts
        result["edits"] = len(operations)
        for operation in operations:
            refusals = [answer for answer in operation.answers if answer.status == 503]
            pictured = operation.final is not None and operation.final.status == 200
            result["answered 503"] += bool(refusals)
            result["joined after a 503"] += bool(refusals) and pictured and sold[operation.prompt] == 1
            result["without an answer"] += not pictured
        result["bought twice"] = sum(count > 1 for count in sold.values())
        result["longest wait for a stored picture, ms"] = round(1000 * max(self.waits, default=0))
        result["longest restart, ms"] = round(1000 * max(self.restart_s, default=0))
        return result


class CountingClient(Client):
    """A client whose attempts are counted."""

    def __init__(self, rig, number, seed, run):
        super().__init__(rig, number, seed)
        self.run_of = run

    def send(self, *arguments, **named):
        try:
            answer = super().send(*arguments, **named)
        except (OSError, http.client.HTTPException) as error:
            self.run_of.count(error)
            raise
        self.run_of.count()
        return answer


ROWS = (
    ("restarts", None), ("requests", None), ("refused", 0), ("reset", 0), ("timed out", 0), ("other failures", 0),
    ("kept connections that ended", None), ("edits", None), ("answered 503", None), ("joined after a 503", None), ("bought twice", 0),
    ("without an answer", 0), ("longest wait for a stored picture, ms", None), ("longest restart, ms", None),
)


def print_table(inherited, control):
    print(f"{'':40} {'inherited':>10} {'aim':>5} {'control':>10}")
    for name, aim in ROWS:
        print(f"{name:40} {inherited[name]:>10} {'' if aim is None else aim:>5} {control[name] if control else '':>10}")
    print("exit codes of the gateways: " + ", ".join(f"{name[10:]}: {count}" for name, count in inherited.items() if name.startswith("exit")))
    print("stored pictures: " + ", ".join(f"{name[14:]}: {count}" for name, count in inherited.items() if name.startswith("hits")))


if __name__ == "__main__":
    main()
