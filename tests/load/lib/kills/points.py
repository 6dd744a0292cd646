"""`kill_loop.py --syscalls`: a kill at each system call of one edit and of one recovery, their graceful stop included.

Each k has a directory of its own, a gateway that is killed at its k-th call, a second gateway that is not killed, a client
that retries until it has a final answer, and a comparison of the three logs.
"""

import json
import random
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from lib.clients import Client, Operation
from lib.kills.formats import FormatLog, print_formats, require_knowledge
from lib.kills.verdict import Verdict, holds_unknown, judge, print_verdict
from lib.project import give_up
from lib.rig import Journal, Rig, call

TRACER = Path(__file__).with_name("tracer.py")
# One poll an edit, so that every run makes about the same calls.
SCENARIO = """
[life]
low_ms = [30, 30]
medium_ms = [30, 30]
size_counts = "no"
[limits]
poll_interval_min_ms = 0
"""
SETTINGS = {"GATEWAY_UPSTREAM__FIRST_POLL_MS": "120", "GATEWAY_UPSTREAM__POLL_INTERVAL_MIN_MS": "100",
            "GATEWAY_UPSTREAM__POLL_INTERVAL_MAX_MS": "200", "GATEWAY_UPSTREAM__CONCURRENT_PREDICTIONS": "2",
            "TOKIO_WORKER_THREADS": "2"}
RESPONSE_TIMEOUT_S = 30
# The exit code of a tracer whose command was killed.
KILLED = -9 & 0xFF


def run(arguments):
    if not sys.platform.startswith("linux"):
        give_up("--syscalls traces processes, which works on Linux only")
    print(f"seed {arguments.seed}, profile {arguments.profile}, unknown purchases are {'held' if holds_unknown() else 'not held'}", flush=True)
    failed = False
    for name, part in (("edit", Edit), ("recovery", Recovery)):
        if arguments.part not in (name, "both"):
            continue
        if part is Recovery and arguments.profile != "documented":
            print("recovery: left out, because it submits nothing")
            continue
        rig = Rig(arguments.binary, 4, SCENARIO, SETTINGS, arguments.pictures or 1, profile=arguments.profile)
        part_failed = True
        try:
            part_failed = enumerate_points(part(rig, arguments.seed, holds_unknown(), arguments.profile), arguments, name)
        finally:
            rig.close(arguments.keep or part_failed)
            if arguments.keep or part_failed:
                print(f"kept: {rig.folder}")
        failed |= part_failed
    return 1 if failed else 0


def enumerate_points(part, arguments, name):
    began = time.monotonic()
    part.one(0)
    calls = part.calls()
    last = arguments.last or len(calls)
    kinds = Counter(f"{call} {file}" for _, call, _, file in calls)
    print(f"one {name} makes {len(calls)} calls that change something: "
          + ", ".join(f"{kind} ×{count}" for kind, count in kinds.most_common(8)) + ", …", flush=True)
    total, states_at_kill, made, missed = Verdict(), Counter(), 0, 0
    k = arguments.first
    # A run may make a few calls more than the first one did; the end is reached when a gateway was not killed.
    while k <= last or (arguments.last is None and missed == 0):
        killed, states, verdict = part.one(k)
        if killed:
            made += 1
            states_at_kill.update(states)
            if verdict.failed():
                print(f"  k={k} {' '.join(part.calls()[-1][1:])}: {'; '.join(verdict.complaints)}", flush=True)
        else:
            missed += 1
        most = max(total.counts["most refusals"], verdict.counts["most refusals"])
        total.counts.update(verdict.counts)
        total.counts["most refusals"] = most
        total.complaints.extend(f"k={k} {complaint}" for complaint in verdict.complaints)
        if made % 20 == 0 and killed:
            print(f"  {made} kills, k={k}, {time.monotonic() - began:.0f} s", flush=True)
        k += arguments.every
    print(f"{name}: killed at {made} of {made + missed} points ({missed} lay beyond the end of their run), "
          f"{time.monotonic() - began:.0f} s")
    print("jobs at the kill, by their state in the journal: "
          + ", ".join(f"{state} {count}" for state, count in sorted(states_at_kill.items())))
    if part.repeats:
        print("each kill hit the same purchases, which are counted each time")
    print_formats(total.counts, 2 * (made + missed))
    print_verdict(total, made, "kills")
    if name == "edit" and not total.failed():
        require_knowledge(arguments.profile, total.counts)
    return total.failed()


class Part:
    """One run after the other, each with a kill at another call."""

    # Whether each run begins with the same purchases.
    repeats = False

    def __init__(self, rig, seed, holds, profile):
        self.rig, self.holds, self.profile = rig, holds, profile
        self.random = random.Random(seed)
        self.seed = seed
        self.calls_file = rig.folder / "calls"

    def calls(self):
        """Returns what the last traced gateway did: number, call, thread and file of each call."""
        return [line.split() for line in self.calls_file.read_text().splitlines()]

    def launch_traced(self, kill_at, armed):
        options = [] if armed else ["--armed-by-signal"]
        self.rig.launch([sys.executable, TRACER, "--kill-at", str(kill_at), "--calls", self.calls_file, *options, "--"])

    def alive(self):
        return self.rig.gateway.poll() is None

    def wait(self, until, pause_s=0.002):
        """Waits until `until()` is true or the gateway has ended; returns whether it has ended."""
        deadline = time.monotonic() + RESPONSE_TIMEOUT_S
        while self.alive() and time.monotonic() < deadline:
            try:
                if until():
                    break
            except OSError:
                pass
            time.sleep(pause_s)
        return not self.alive()

    def stop(self):
        """Stops the traced gateway gracefully; returns whether the kill came before the stop was complete."""
        return self.rig.stop() == KILLED

    def settled(self):
        return call(self.rig.operator_port, "GET", "/readyz", timeout=5)[0] == 200 and self.rig.idle()

    def judge(self, operations, formats):
        prompts = {operation.prompt for operation in operations}
        accepted = [purchase for purchase in self.rig.accepted() if purchase["prompt"] in prompts]
        verdict = judge(operations, self.rig.pictures, self.rig.journal(), accepted, self.rig.directory / "results", self.holds)
        formats.judge(operations, accepted, self.rig.pictures, verdict)
        if not verdict.failed():
            shutil.rmtree(self.rig.directory)
        return verdict


class Edit(Part):
    """One edit, from its request to its delivery."""

    def one(self, k):
        rig = self.rig
        rig.use_directory(rig.folder / f"edit-{k}")
        client = Client(rig, 0, f"{self.seed}/{k}")
        formats = FormatLog(rig)
        self.launch_traced(k, armed=False)
        rig.wait_until_ready()
        rig.gateway.send_signal(signal.SIGUSR1)  # count from here
        time.sleep(0.01)
        asking = threading.Thread(target=client.run, args=(time.monotonic() + RESPONSE_TIMEOUT_S,))
        asking.start()
        killed = self.wait(lambda: not asking.is_alive())
        # After the answer the gateway still journals the delivery.
        if not killed:
            grace = time.monotonic() + 0.15
            killed = self.wait(lambda: time.monotonic() > grace)
        killed = killed or self.stop()
        states = state_of(rig.journal())
        formats.process_ended(client.operations)
        rig.start()
        asking.join()
        [operation] = client.operations
        # Without a hold, a repeat after an unknown outcome buys again.
        if operation.final and (self.holds or operation.final.status == 200):
            client.repeat(operation)
        self.wait(self.settled)
        if self.profile != "documented":
            # Whether it is submitted in a format that the first operation was refused in.
            formats.note(client.operations)
            client.run(time.monotonic() + RESPONSE_TIMEOUT_S)
            self.wait(self.settled)
        rig.stop()
        return killed, states, self.judge(client.operations, formats)


class Recovery(Part):
    """The start of a gateway that was killed while it had purchases in each state."""

    repeats = True

    def __init__(self, rig, seed, holds, profile):
        super().__init__(rig, seed, holds, profile)
        self.template = rig.folder / "template"
        self.clients = [Client(rig, number, seed) for number in range(4)]
        self.make_template()

    def make_template(self):
        rig = self.rig
        undelivered, accepted, committing, queued = self.clients
        rig.use_directory(self.template)
        rig.start()
        # Its client leaves before the picture is ready.
        self.set_life(400)
        self.request_in_background(undelivered, timeout=0.25)
        if self.wait(self.settled):
            give_up("the gateway died while its directory was being made")
        # Its picture is not ready when the gateway is killed.
        self.set_life(5000)
        self.request_in_background(accepted)
        self.wait(lambda: self.polling() == 1)
        # Bought, and the answer to the submit is delayed until long after the kill.
        rig.call_simulator("POST", "/_simulator/faults", {"on": "submit", "fault": "delay", "delay_ms": 8000})
        self.request_in_background(committing)
        self.wait(lambda: len(rig.accepted_prompts()) == 3)
        # All places are taken.
        self.request_in_background(queued)
        time.sleep(0.3)
        rig.kill()
        states = sorted(state_of(rig.journal()))
        if states != ["accepted", "committing", "intent", "resolved"]:
            give_up(f"the directory to recover should hold one purchase in each state, and has {states}")
        # Every recovery is to find its picture at the first poll.
        while any(one["state"] in ("created", "processing") for one in self.simulated()):
            time.sleep(0.1)

    def set_life(self, milliseconds):
        self.rig.call_simulator("PUT", "/_simulator/scenario", {"life": {"low_ms": [milliseconds] * 2, "medium_ms": [milliseconds] * 2}})

    def request_in_background(self, client, timeout=60):
        """Sends a request from a thread of its own, which nothing waits for unless it has a short timeout."""
        operation = client.new_operation()

        def ask():
            try:
                operation.answers.append(client.request(operation.prompt, 0, timeout))
            except OSError:
                operation.broken += 1

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        if timeout < 60:
            asking.join()

    def simulated(self):
        _, _, data = call(self.rig.simulator_port, "GET", "/_simulator/predictions")
        return json.loads(data)

    def polling(self):
        _, _, data = call(self.rig.operator_port, "GET", "/status.json")
        return json.loads(data)["engine"]["polling"]

    def one(self, k):
        rig = self.rig
        rig.use_directory(rig.folder / f"recovery-{k}")
        shutil.copytree(self.template, rig.directory)
        formats = FormatLog(rig)
        self.launch_traced(k, armed=True)
        # Rarely, because each request to the gateway adds system calls.
        killed = self.wait(self.settled, pause_s=0.1)
        if not killed:
            grace = time.monotonic() + 0.1
            killed = self.wait(lambda: time.monotonic() > grace)
        killed = killed or self.stop()
        states = state_of(rig.journal())
        formats.process_ended(())
        rig.start()
        operations = []
        for client, asks in zip(self.clients, (True, True, self.holds, False)):
            [made] = client.operations
            operation = Operation(made.worker, made.prompt, made.began_ms, given_up=not asks)
            if asks:
                client.complete(operation, time.monotonic() + RESPONSE_TIMEOUT_S)
            operations.append(operation)
        self.wait(self.settled)
        rig.stop()
        return killed, states, self.judge(operations, formats)


def state_of(journal: Journal):
    """Returns the states of all predictions, or one entry that says that there is none."""
    return [row["state"] for row in journal.rows] or ["not journalled"]
