"""What happens to the gateway: it is killed, stopped, paused, or its clock jumps.

Every function does one disturbance and leaves a gateway that runs; `Run.one` counts it.
"""

import math
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

from lib.kills import moments
from lib.project import give_up

# The share of the kills that are followed by one during the recovery.
RECOVERY_SHARE = 0.25
# The share of kills after which the gateway starts without what it had learned of request formats.
FORGET_SHARE = 0.2
# 1 to 60 s, scaled by 20.
PAUSES_S = (0.05, 3.0)
DAY_S = 86_400
JUMPS_S = (2 * DAY_S, 3653 * DAY_S, -DAY_S)
# Longer than the interval between two deletions of expired results in that mix.
JUMPED_S = (1.2, 2.4)
FAKETIME = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/lib/faketime/libfaketime.so.1", "/usr/lib64/faketime/libfaketime.so.1")


def state_of(thread):
    """Returns the letter of a thread's state, X when it has ended."""
    try:
        return (thread / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def faketime():
    """Returns the path of libfaketime, or gives up."""
    found = [path for pattern in FAKETIME for path in Path("/").glob(pattern.lstrip("/"))]
    return str(found[0]) if found else give_up("libfaketime is missing: apt-get install faketime")


class Clock:
    """The wall clock of the gateways that a rig launches; their monotonic clock is the machine's."""

    def __init__(self, rig):
        self.file = rig.folder / "clock"
        self.began_ms = time.time_ns() // 1_000_000
        # Records under another clock than the machine's.
        self.seen = 0
        rig.environment |= {"LD_PRELOAD": faketime(), "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1",
                            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1"}
        rig.real_ms = self.real_ms
        self.set(0)

    def set(self, seconds):
        fresh = self.file.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}\n")
        os.replace(fresh, self.file)

    def real_ms(self, stamp_ms):
        """Returns the machine's time at a stamp of the gateway. The jumps are days apart, and the run is shorter."""
        for jump_s in JUMPS_S:
            real_ms = stamp_ms - 1000 * jump_s
            if self.began_ms - 5000 <= real_ms <= time.time_ns() // 1_000_000 + 5000:
                self.seen += 1
                return real_ms
        return stamp_ms


class Run:
    """The disturbances of one mix."""

    def __init__(self, stage, arguments, landings, formats, rng: random.Random):
        self.stage, self.rig, self.mix = stage, stage.rig, stage.mix
        self.arguments, self.landings, self.formats, self.rng = arguments, landings, formats, rng
        self.damaged, self.codes = [], Counter()
        self.clock = Clock(self.rig) if self.mix.disturbance == "clock" else None

    def one(self):
        """Waits for a moment and disturbs the gateway; returns the number of disturbances."""
        before = self.landings.kills[self.mix.name]
        self.stage.vary(self.rng)
        target = moments.wait_for_moment(self.rng, self.stage, self.landings)
        {"kill": self.kill, "pause": self.pause, "clock": self.jump}[self.mix.disturbance](target)
        return self.landings.kills[self.mix.name] - before

    def note(self):
        """Counts a disturbance and what the journal knew at it. The gateway does not run."""
        self.landings.kills[self.mix.name] += 1
        journal = self.rig.journal()
        if journal.verdict != "ok":
            self.damaged.append(journal.verdict)
        self.landings.note(self.mix.name, journal, self.stage.clients, self.rig.directory / "results")
        if self.formats:
            self.formats.process_ended(self.stage.clients.operations())

    def kill(self, target=None):
        if self.arguments.signal == "kill":
            self.rig.kill()
        else:
            self.codes[self.stop()] += 1
        self.note()
        if self.formats and self.rng.random() < FORGET_SHARE:
            self.formats.forget()
        self.rig.launch()
        if target and moments.wait_for_state(self.rng, self.rig, self.stage.clients, target, 0.6):
            self.kill_recovery()
        while self.rng.random() < RECOVERY_SHARE:
            time.sleep(self.rng.uniform(0, 0.12))
            self.kill_recovery()
        self.rig.wait_until_ready()

    def kill_recovery(self):
        self.rig.kill()
        self.landings.recoveries[self.mix.name] += 1
        self.note()
        self.rig.launch()

    def stop(self):
        """Stops the gateway with SIGTERM, three times in ten followed by SIGKILL; returns its exit code."""
        self.rig.gateway.send_signal(signal.SIGTERM)
        if self.rng.random() < 0.3:
            time.sleep(self.rng.uniform(0, 0.2))
            self.rig.gateway.send_signal(signal.SIGKILL)
        code = self.rig.gateway.wait(30)
        # For the next gateway: none, little, or enough for what is under way.
        self.rig.environment["GATEWAY_SERVER__SHUTDOWN_GRACE_S"] = self.rng.choice(["0", "1", "5"])
        return code

    def halt(self):
        """Pauses the gateway, and waits until none of its threads runs any more."""
        self.rig.gateway.send_signal(signal.SIGSTOP)
        threads = Path(f"/proc/{self.rig.gateway.pid}/task")
        until = time.monotonic() + 5
        while time.monotonic() < until and any(state_of(thread) not in "TZX" for thread in threads.glob("*")):
            time.sleep(0.001)

    def pause(self, _target=None):
        """Pauses the gateway; one time in four it is killed meanwhile, and one time in four just afterwards."""
        rng = self.rng
        self.halt()
        self.note()
        time.sleep(math.exp(rng.uniform(*map(math.log, PAUSES_S))))
        how = rng.random()
        if how >= 0.25:
            self.rig.gateway.send_signal(signal.SIGCONT)
            if how >= 0.5:
                return
            time.sleep(rng.uniform(0, 0.02))
        self.kill()

    def jump(self, target=None):
        """Moves the clock while the gateway runs, or between two of its processes, and back again in one of these ways."""
        rng = self.rng
        self.shift(rng.choice(JUMPS_S), target)
        time.sleep(rng.uniform(*JUMPED_S))
        self.shift(0, None)
        # Clients come back, and repeat what was answered before.
        time.sleep(rng.uniform(0, 0.5))

    def shift(self, seconds, target):
        if self.rng.random() < 0.5:
            # No moment in between: the clock of a gateway is read from the file at each call.
            self.halt()
            self.note()
            self.clock.set(seconds)
            self.rig.gateway.send_signal(signal.SIGCONT)
        else:
            self.rig.kill()
            self.note()
            self.clock.set(seconds)
            self.rig.launch()
            if target and moments.wait_for_state(self.rng, self.rig, self.stage.clients, target, 0.6):
                self.kill_recovery()
            self.rig.wait_until_ready()
