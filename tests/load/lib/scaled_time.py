"""A simulator and a gateway in scaled time, clients on loopback, and figures from the simulator's counters.

Time runs SCALE times as fast as in reality: a prediction takes three seconds instead of a minute, and so does the window of
a rate; the gateway learns in seconds what takes minutes in reality. Its settings are scaled, and contain nothing about the
budget. The machine is not faster, so that a delay of one millisecond counts as SCALE milliseconds. Nothing here judges.
"""

import asyncio
import bisect
import json
import random
import subprocess
import time
import tomllib
from dataclasses import dataclass, field
from datetime import datetime

from lib.project import ROOT, release_binary
from lib.rig import UPSTREAM_KEY, Rig

BINARY = release_binary()
# One picture, small and quick to draw.
PICTURE = {"model": "gpt-image-1.5", "quality": "low", "size": "256x256"}
SCALE = 20
SEED = 20261121
# The middle of what was measured for quality medium, a little narrower.
LATENCY_MS = (54_000 // SCALE, 66_000 // SCALE)
WINDOW_S = 60 / SCALE
SAMPLE_S = 0.2
# A client without an answer after this time has failed.
ANSWER_TIMEOUT_S = 300


# Settings that the measured program does not know: it can be measured for comparison, but gets no verdict.
UNKNOWN_SETTINGS = set()


def known_settings(settings):
    """Returns the settings without those that config/default.toml does not have."""
    reference = tomllib.loads((ROOT / "config" / "default.toml").read_text())
    known = {f"GATEWAY_{section}__{key}".upper() for section, table in reference.items() for key in table}
    UNKNOWN_SETTINGS.update(name for name in settings if "__" in name and name not in known)
    return {name: value for name, value in settings.items() if name not in UNKNOWN_SETTINGS}


@dataclass
class Answer:
    client: str
    prompt: str
    status: int
    code: str
    retry_after: float
    # Wall-clock seconds, by the same clock as the simulator's.
    sent: float
    ended: float

    @property
    def refused(self):
        return self.status in (429, 503)


async def request(port, method, path, headers, body=b""):
    """Sends a request on a connection of its own; returns status, headers and body. Cancelling closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        data = await reader.read()
    finally:
        writer.transport.abort()
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *named = head.decode("latin-1").split("\r\n")
    received = dict(line.lower().split(": ", 1) for line in named if ": " in line)
    if not first:
        raise ConnectionError("the connection closed without an answer")
    return int(first.split()[1]), received, rest


class ScaledRig(Rig):
    """A simulator with a hidden budget, and a gateway that has to learn it."""

    starting = None

    @classmethod
    async def open(cls, scenario, settings, clients=1, upstream_keys=(UPSTREAM_KEY,), weights=None):
        """`scenario`: of the simulator, `section.key` to value; `settings`: the gateway's, by environment variable."""
        sections = {}
        rules = {"life.low_ms": list(LATENCY_MS), "life.size_counts": "no", "limits.poll_interval_min_ms": 900 // SCALE,
                 "limits.rate_window_ms": round(WINDOW_S * 1000), "pictures.format": "jpeg"}
        for name, value in {**rules, **scenario}.items():
            section, key = name.split(".")
            sections.setdefault(section, []).append(f"{key} = {json.dumps(value)}")
        text = "\n".join(f"[{section}]\n" + "\n".join(lines) for section, lines in sections.items())
        # The defaults at this scale, and upper bounds that are never reached.
        known = {
            "GATEWAY_CACHE__MODE": "off",
            "GATEWAY_UPSTREAM__CONCURRENT_PREDICTIONS": "1000",
            "GATEWAY_UPSTREAM__QUEUE_MAX": "5000",
            "GATEWAY_UPSTREAM__FIRST_POLL_MS": str(5000 // SCALE),
            "GATEWAY_UPSTREAM__POLL_INTERVAL_MIN_MS": str(1000 // SCALE),
            "GATEWAY_UPSTREAM__POLL_INTERVAL_MAX_MS": str(10_000 // SCALE),
            "GATEWAY_UPSTREAM__POLL_COST_MS": str(100 // SCALE),
            "GATEWAY_UPSTREAM__RATE_WINDOW_MS": str(60_000 // SCALE),
            "GATEWAY_UPSTREAM__PUSHBACK_MS": str(5000 // SCALE),
            "GATEWAY_UPSTREAM__PUSHBACK_MAX_S": str(120 // SCALE),
            "GATEWAY_UPSTREAM__LATENCY_PRIORS": "off",
            "GATEWAY_LOG__FILTER": "error",
        }
        cls.starting = cls.starting or asyncio.Lock()
        # One at a time, because ports are chosen before they are bound.
        async with cls.starting:
            rig = await asyncio.to_thread(cls, BINARY, clients, text, known_settings({**known, **settings}), 1, upstream_keys)
            try:
                if weights:
                    rig.weigh(weights)
                await asyncio.to_thread(rig.start)
            except BaseException:
                rig.close(False)
                raise
        rig.samples, rig.asked, rig.answers, rig.tasks = [], [], [], []
        rig.tasks.append(asyncio.create_task(rig.sample()))
        return rig

    def weigh(self, weights):
        """Gives the clients weights, which only a configuration file can set."""
        minted, self.keys = [], []
        for number, weight in enumerate(weights):
            command = [self.binary, "keys", "new", "--name", f"w{number}"]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            self.keys.append(next(word for word in printed.split() if word.startswith("sk-")))
            digest = next(line for line in printed.splitlines() if "key_digest" in line)
            minted.append(f'[[clients]]\nname = "w{number}"\n{digest}\nweight = {weight}\n')
        (self.folder / "clients.toml").write_text("".join(minted))
        self.environment["GATEWAY_CONFIG"] = str(self.folder / "clients.toml")
        del self.environment["GATEWAY_CLIENT_KEYS"]

    async def shut(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await asyncio.to_thread(self.close, False)

    # ---- clients

    async def ask(self, number, patience=None, leave_after=None):
        """Asks for one picture. The client announces `patience`, and disconnects after `leave_after` without notice."""
        client, prompt = f"w{number}", f"w{number} picture {len(self.asked)}"
        headers = {"Authorization": f"Bearer {self.keys[number]}", "Content-Type": "application/json"}
        if patience is not None:
            headers["x-stainless-read-timeout"] = f"{patience:g}"
        body = json.dumps({**PICTURE, "prompt": prompt}).encode()
        sent, status, code, received = time.time(), 0, "", {}
        self.asked.append((client, prompt, sent))
        try:
            async with asyncio.timeout(leave_after or ANSWER_TIMEOUT_S):
                status, received, data = await request(self.port, "POST", "/v1/images/generations", headers, body)
            if status != 200:
                code = (json.loads(data).get("error") or {}).get("code") or ""
        except TimeoutError:
            code = "left"
        except (OSError, ValueError) as error:
            code = f"{type(error).__name__}: {error}"
        answer = Answer(client, prompt, status, code, float(received.get("retry-after", 0)), sent, time.time())
        self.answers.append(answer)
        return answer

    def saturate(self, number, count):
        """Starts `count` clients with one key that always want another picture."""
        async def client():
            while True:
                answer = await self.ask(number)
                if answer.status != 200:
                    await asyncio.sleep(max(0.2, answer.retry_after))
        self.tasks += [asyncio.create_task(client()) for _ in range(count)]

    def arrivals(self, number, rate):
        """Starts clients with one key at random moments, `rate` a second, each for one picture; the same in every run."""
        async def arriving():
            rng = random.Random(f"{SEED}/{number}")
            while True:
                await asyncio.sleep(rng.expovariate(rate))
                self.tasks.append(asyncio.create_task(self.ask(number)))
        self.tasks.append(asyncio.create_task(arriving()))

    # ---- what the upstream saw

    async def change(self, scenario):
        """Overrides parts of the simulator's scenario; returns the simulator's time."""
        await asyncio.to_thread(self.call_simulator, "PUT", "/_simulator/scenario", scenario)
        return (await self.counters()).at

    async def counters(self):
        _, _, data = await request(self.simulator_port, "GET", "/_simulator/counters", {})
        counted = json.loads(data)
        return Sample(counted["age_s"], counted["keys"], counted)

    async def sample(self):
        while True:
            self.samples.append(await self.counters())
            await asyncio.sleep(SAMPLE_S)

    async def bought(self):
        """Returns when each prompt was accepted, in wall-clock seconds."""
        _, _, data = await request(self.simulator_port, "GET", "/_simulator/predictions", {})
        return {one["parameters"]["prompt"]: datetime.fromisoformat(one["created"]).timestamp() for one in json.loads(data)}

    def between(self, begin, end):
        """Returns the difference of the samples nearest to two moments of the simulator's time."""
        times = [sample.at for sample in self.samples]
        first = self.samples[max(0, bisect.bisect_right(times, begin) - 1)]
        last = self.samples[max(0, bisect.bisect_right(times, end) - 1)]
        return Span(first, last)


@dataclass
class Sample:
    at: float
    keys: dict
    counters: dict = field(repr=False)

    def total(self, name, key=None):
        found = [self.keys[key]] if key in self.keys else [] if key else self.keys.values()
        return sum(sum(one[name].values()) if isinstance(one[name], dict) else one[name] for one in found)

    def injected(self):
        """Returns the number of 429s that the scenario injected, which no gateway can avoid."""
        return sum(one["submits_429"].get("fault", 0) for one in self.keys.values())


@dataclass
class Span:
    first: Sample
    last: Sample

    @property
    def seconds(self):
        return self.last.at - self.first.at

    def of(self, name, key=None):
        return self.last.total(name, key) - self.first.total(name, key)

    def refused(self):
        return self.of("submits_429") - (self.last.injected() - self.first.injected())

    def utilisation(self, submits_per_window, concurrent):
        """Returns the used share of the budget, by the limit that is nearer; 0 is no limit."""
        used = []
        if submits_per_window:
            used.append(self.of("submits_accepted") / (submits_per_window * self.seconds / WINDOW_S))
        if concurrent:
            used.append(self.of("running_seconds") / (concurrent * self.seconds))
        return max(used) if self.seconds > 0 else 0.0


def jain(shares):
    """Returns Jain's index: 1 when all shares are equal, 1/n when one client has everything."""
    square = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * square) if square else 0.0


def fair_shares(demands, total):
    """Returns max-min fair shares: no client gets more than its demand, and the rest is shared by the others."""
    shares, left, open_ones = {}, total, dict(demands)
    while open_ones:
        level = left / len(open_ones)
        modest = {name: demand for name, demand in open_ones.items() if demand <= level}
        if not modest:
            return shares | dict.fromkeys(open_ones, level)
        for name, demand in modest.items():
            shares[name] = demand
            left -= demand
            del open_ones[name]
    return shares


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")
