"""The moments of the kills, and in which states they found the open operations.

A moment is random, shortly after an event, or *aimed*: it comes when the running gateway's journal shows an open operation in a
state that was seldom hit so far.
"""

import sqlite3
import time
from collections import Counter

STATES = ("not journalled", "intent", "committing", "accepted", "resolved", "delivered", "unknown", "failed")
# States that only a recovery makes: the state that the kill before it has to find.
BEFORE_RECOVERY = {"unknown": "committing", "failed": "intent"}
# States that end by themselves within milliseconds.
SHORT = ("not journalled", "committing", "resolved", "delivered", "unknown", "failed")
# The share of the kills that are aimed.
AIMED_SHARE = 0.6
AIMED_S, EVENT_S = 1.5, 3.0
# The files of pictures that are being stored.
TEMPORARY = "*.tmp"
# The newest purchases. An operation has few, so that those of all open ones are among them.
NEWEST = ("SELECT client, created_ms, delivered_ms, state FROM jobs JOIN purchases ON job_id = jobs.id"
          " ORDER BY jobs.rowid DESC, slot DESC LIMIT 40")


class Landings:
    """How many open operations each mix had in each state at its kills."""

    def __init__(self):
        self.counts, self.kills, self.recoveries, self.seconds = Counter(), Counter(), Counter(), Counter()
        self.moments = Counter()
        # Pictures that were being stored.
        self.half_stored = 0

    def of_state(self, state):
        return sum(count for (_, one), count in self.counts.items() if one == state)

    def of_mix(self, mix):
        return sum(count for (one, _), count in self.counts.items() if one == mix)

    def rarest(self, rng):
        """Returns a state at random, the more probably the fewer landings it has."""
        return rng.choices(STATES, [1 / (1 + self.of_state(state)) for state in STATES])[0]

    def note(self, mix, journal, clients, results):
        """Counts what the journal knew of each open operation when the gateway was killed. `results`: the folder of the pictures."""
        self.half_stored += sum(1 for _ in results.glob(TEMPORARY))
        for operation in filter(None, [client.current for client in clients.clients]):
            row = journal.newest_of(operation.worker, operation.began_ms)
            self.counts[mix, state_of(row)] += 1

    def print_table(self):
        mixes = list(self.kills)
        width = max(map(len, mixes + ["landings"]))
        heads = ["kills", "in recovery", *STATES, "all", "seconds"]
        print("open operations at the kills, by the state of their newest purchase in the journal")
        print(f"  {'':<{width}}  " + "  ".join(heads))
        for mix in [*mixes, None]:
            of = mixes if mix is None else [mix]
            cells = [sum(self.kills[one] for one in of), sum(self.recoveries[one] for one in of),
                     *(sum(self.counts[one, state] for one in of) for state in STATES), sum(map(self.of_mix, of)),
                     round(sum(self.seconds[one] for one in of))]
            print(f"  {mix or 'all':<{width}}  " + "  ".join(f"{cell:>{len(head)}}" for cell, head in zip(cells, heads)))
        moments = ", ".join(f"{name} {count}" for name, count in sorted(self.moments.items()))
        print(f"pictures that were half stored: {self.half_stored}; moments: {moments}")


def state_of(row):
    if row is None:
        return "not journalled"
    return "delivered" if row["delivered_ms"] else row["state"]


class Watcher:
    """Reads the journal of a running gateway; without a connection that is open while none runs."""

    def __init__(self, rig, clients):
        self.rig, self.clients, self.connection = rig, clients, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def states(self):
        """Returns the states of the open operations; none while the journal cannot be read."""
        current = [client.current for client in self.clients.clients]
        try:
            if not self.connection:
                self.connection = sqlite3.connect(f"file:{self.rig.directory / 'journal.sqlite'}?mode=ro", uri=True, timeout=0)
                self.connection.row_factory = sqlite3.Row
            rows = self.connection.execute(NEWEST).fetchall()
        except sqlite3.Error:
            self.close()
            return []
        newest = {}
        for row in rows:
            newest.setdefault(row["client"], row)
        states = []
        for operation in filter(None, current):
            row = newest.get(operation.worker)
            if row and self.rig.real_ms(row["created_ms"]) < operation.began_ms:
                row = None
            states.append(state_of(row))
        return states


def wait_for_state(rng, rig, clients, state, longest_s):
    """Waits until an open operation is in a state, and a little longer; returns whether one was."""
    until = time.monotonic() + longest_s
    with Watcher(rig, clients) as watcher:
        while time.monotonic() < until:
            if state in watcher.states():
                if state not in SHORT:
                    time.sleep(rng.uniform(0, 0.03))
                return True
            time.sleep(0.0003)
    return False


def wait_for_moment(rng, stage, landings):
    """Sleeps until the moment of the next kill; returns the state that a kill during the recovery is to find, or None."""
    rig, clients, slowness = stage.rig, stage.clients, stage.mix.slowness
    if rng.random() < AIMED_SHARE:
        state = landings.rarest(rng)
        first = BEFORE_RECOVERY.get(state, state)
        if wait_for_state(rng, rig, clients, first, AIMED_S * slowness):
            landings.moments["aimed"] += 1
            return state if state in BEFORE_RECOVERY else None
    strategy = rng.choice(("any moment", "after a request", "after a commit", "after a commit", "after a purchase", "after an answer"))
    landings.moments[strategy] += 1
    if strategy == "any moment":
        time.sleep(rng.uniform(0, 0.5 * slowness))
        return None
    watched, longest_s = {
        "after a request": (clients.begun, 0.025),
        "after a commit": (lambda: modified(rig.directory / "journal.sqlite-wal"), 0.002),
        "after a purchase": (lambda: modified(rig.simulator_log), 0.012 * slowness),
        "after an answer": (clients.answered, 0.004),
    }[strategy]
    changes = rng.randint(1, 8)
    until = time.monotonic() + EVENT_S
    before = watched()
    while changes and time.monotonic() < until:
        time.sleep(0.0003)
        now = watched()
        changes -= now != before
        before = now
    time.sleep(rng.uniform(0, longest_s))
    return None


def modified(path):
    return path.stat().st_mtime_ns if path.exists() else 0
