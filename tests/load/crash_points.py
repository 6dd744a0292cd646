"""`kill_loop.py --syscalls`: a kill at each system call of one edit, and at each of one recovery, up to a good stop.

Each k is a life of its own: a fresh directory, a gateway that is killed at its k-th call, a second one that is left
alone, a client that asks until it knows, and the comparison of the three logs.
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

from crash_kit import Client, Journal, World, call, give_up
from crash_verdict import Verdict, judge, print_verdict

TRACER = Path(__file__).with_name("crash_tracer.py")
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
    from kill_loop import holds_unknown
    if not sys.platform.startswith("linux"):
        give_up("--syscalls traces processes, which it can only on Linux")
    print(f"seed {arguments.seed}, unknown purchases are {'held' if holds_unknown() else 'not held'}", flush=True)
    failed = False
    for name, part in (("edit", Edit), ("recovery", Recovery)):
        if arguments.part not in (name, "both"):
            continue
        world = World(arguments.binary, 4, SCENARIO, SETTINGS, arguments.pictures)
        part_failed = True
        try:
            part_failed = enumerate_points(part(world, arguments.seed, holds_unknown()), arguments, name)
        finally:
            world.close(arguments.keep or part_failed)
            if arguments.keep or part_failed:
                print(f"kept: {world.folder}")
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
    total, landings, made, missed = Verdict(), Counter(), 0, 0
    k = arguments.first
    # A run may make a few calls more than the counted one; the end is where one is left alive.
    while k <= last or (arguments.last is None and missed == 0):
        killed, states, verdict = part.one(k)
        if killed:
            made += 1
            landings.update(states)
            if verdict.failed():
                print(f"  k={k} {' '.join(part.calls()[-1][1:])}: {'; '.join(verdict.complaints)}", flush=True)
        else:
            missed += 1
        total.counts.update(verdict.counts)
        total.complaints.extend(f"k={k} {complaint}" for complaint in verdict.complaints)
        if made % 20 == 0 and killed:
            print(f"  {made} kills, k={k}, {time.monotonic() - began:.0f} s", flush=True)
        k += arguments.every
    print(f"{name}: killed at {made} of {made + missed} points ({missed} lay beyond the end of their run), "
          f"{time.monotonic() - began:.0f} s")
    print("orders at the kill, by their state in the journal: "
          + ", ".join(f"{state} {count}" for state, count in sorted(landings.items())))
    if part.repeats:
        print("every kill was of the same purchases, which are counted anew each time")
    print_verdict(total, made, "kills")
    return total.failed()


class Part:
    """One life after another, each with a kill at another place."""

    # Whether each life goes on with the same purchases.
    repeats = False

    def __init__(self, world, seed, holds):
        self.world, self.holds = world, holds
        self.random = random.Random(seed)
        self.seed = seed
        self.calls_file = world.folder / "calls"

    def calls(self):
        """What the last traced gateway did: number, call, thread and file."""
        return [line.split() for line in self.calls_file.read_text().splitlines()]

    def launch_traced(self, kill_at, armed):
        options = [] if armed else ["--armed-by-signal"]
        self.world.launch([sys.executable, TRACER, "--kill-at", str(kill_at), "--calls", self.calls_file, *options, "--"])

    def alive(self):
        return self.world.gateway.poll() is None

    def wait(self, until, pause_s=0.002):
        """Waits until something holds or the gateway is dead; returns whether it is dead."""
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
        """Stops the traced gateway well; returns whether its kill came in the midst of that."""
        return self.world.stop() == KILLED

    def settled(self):
        return call(self.world.operator_port, "GET", "/readyz", timeout=5)[0] == 200 and self.world.idle()

    def judge(self, wishes):
        prompts = {wish.prompt for wish in wishes}
        accepted = [purchase for purchase in self.world.accepted() if purchase["prompt"] in prompts]
        verdict = judge(wishes, self.world.pictures, self.world.journal(), accepted, self.world.directory / "results", self.holds)
        if not verdict.failed():
            shutil.rmtree(self.world.directory)
        return verdict


class Edit(Part):
    """One edit, from its request to its delivery."""

    def one(self, k):
        world = self.world
        world.use_directory(world.folder / f"edit-{k}")
        client = Client(world, 0, f"{self.seed}/{k}")
        self.launch_traced(k, armed=False)
        world.wait_until_ready()
        world.gateway.send_signal(signal.SIGUSR1)  # count from here
        time.sleep(0.01)
        asking = threading.Thread(target=client.wish, args=(time.monotonic() + RESPONSE_TIMEOUT_S,))
        asking.start()
        killed = self.wait(lambda: not asking.is_alive())
        # What follows the answer: the delivery is journalled.
        if not killed:
            grace = time.monotonic() + 0.15
            killed = self.wait(lambda: time.monotonic() > grace)
        killed = killed or self.stop()
        states = state_of(world.journal())
        world.start()
        asking.join()
        [wish] = client.wishes
        # Without a hold, asking again after an unknown outcome is a wish to pay again.
        if wish.final and (self.holds or wish.final.status == 200):
            client.ask_again(wish)
        self.wait(self.settled)
        world.stop()
        return killed, states, self.judge([wish])


class Recovery(Part):
    """The start of a gateway that was killed with purchases in every state."""

    repeats = True

    def __init__(self, world, seed, holds):
        super().__init__(world, seed, holds)
        self.template = world.folder / "template"
        self.clients = [Client(world, number, seed) for number in range(4)]
        self.make_template()

    def make_template(self):
        world = self.world
        undelivered, accepted, committing, queued = self.clients
        world.use_directory(self.template)
        world.start()
        # Gone before its picture comes.
        self.set_life(400)
        self.ask_and_leave(undelivered, timeout=0.25)
        if self.wait(self.settled):
            give_up("the gateway died while its directory was being made")
        # Still at work when the gateway is killed.
        self.set_life(5000)
        self.ask_and_leave(accepted)
        self.wait(lambda: self.following() == 1)
        # Bought, and its answer is kept back until long after the kill.
        world.tell_simulator("POST", "/_simulator/faults", {"on": "submit", "fault": "delay", "delay_ms": 8000})
        self.ask_and_leave(committing)
        self.wait(lambda: len(world.accepted()) == 3)
        # No place left for this one.
        self.ask_and_leave(queued)
        time.sleep(0.3)
        world.kill()
        states = sorted(state_of(world.journal()))
        if states != ["accepted", "committing", "intent", "resolved"]:
            give_up(f"the directory to recover should hold one purchase in each state, and has {states}")
        # Every recovery is to find its picture at the first poll.
        while any(one["state"] in ("created", "processing") for one in self.simulated()):
            time.sleep(0.1)

    def set_life(self, milliseconds):
        self.world.tell_simulator("PUT", "/_simulator/scenario", {"life": {"low_ms": [milliseconds] * 2, "medium_ms": [milliseconds] * 2}})

    def ask_and_leave(self, client, timeout=60):
        """Asks in a thread of its own, and never hears the answer."""
        wish = client.new_wish()

        def ask():
            try:
                wish.answers.append(client.request(wish.prompt, 0, timeout))
            except OSError:
                wish.broken += 1

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        if timeout < 60:
            asking.join()

    def simulated(self):
        _, _, data = call(self.world.simulator_port, "GET", "/_simulator/predictions")
        return json.loads(data)

    def following(self):
        _, _, data = call(self.world.operator_port, "GET", "/status.json")
        return json.loads(data)["engine"]["following"]

    def one(self, k):
        world = self.world
        world.use_directory(world.folder / f"recovery-{k}")
        shutil.copytree(self.template, world.directory)
        self.launch_traced(k, armed=True)
        # Seldom, for each look makes calls of its own.
        killed = self.wait(self.settled, pause_s=0.1)
        if not killed:
            grace = time.monotonic() + 0.1
            killed = self.wait(lambda: time.monotonic() > grace)
        killed = killed or self.stop()
        states = state_of(world.journal())
        world.start()
        wishes = []
        for client, asks in zip(self.clients, (True, True, self.holds, False)):
            [made] = client.wishes
            wish = type(made)(made.worker, made.prompt, made.began_ms, given_up=not asks)
            if asks:
                client.pursue(wish, time.monotonic() + RESPONSE_TIMEOUT_S)
            wishes.append(wish)
        self.wait(self.settled)
        world.stop()
        return killed, states, self.judge(wishes)


def state_of(journal: Journal):
    """The states of the orders, with a word for none."""
    return [order["state"] for order in journal.orders] or ["not journalled"]
