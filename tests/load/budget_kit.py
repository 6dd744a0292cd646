"""What budget.py is made of: a stage with simulator and gateway, clients on loopback, and figures from the counters.

Time runs SCALE times as fast as in reality: a prediction takes three seconds instead of a minute, the window of a rate as
long, and what is learned over minutes is learned here in seconds. The gateway is told the scale, and nothing about the
budget. The machine itself is not faster, so a millisecond lost here is SCALE of them in reality. Nothing here judges.
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

from crash_kit import ROOT, UPSTREAM_KEY, World

# The release build and no other: a debug build's figures say nothing.
BINARY = ROOT / "target" / "release" / "gptproto-gateway"
# One picture, small and quick to draw.
PICTURE = {"model": "gpt-image-1.5", "quality": "low", "size": "256x256"}
SCALE = 20
SEED = 20261121
# The middle of what was measured for quality medium, a little narrower.
LATENCY_MS = (54_000 // SCALE, 66_000 // SCALE)
WINDOW_S = 60 / SCALE
SAMPLE_S = 0.2
# Beyond this, a client of these programs is stuck.
RESPONSE_TIMEOUT_S = 300


# Settings that the build does not know: it can be measured for comparison, but passes nothing.
UNKNOWN_SETTINGS = set()


def understood(settings):
    """The settings without those that this build does not know."""
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
    # Wall-clock seconds, as the simulator's; the machine is the same.
    sent: float
    ended: float

    @property
    def refused(self):
        return self.status in (429, 503)


async def request(port, method, path, headers, body=b""):
    """One exchange on a connection of its own; cancelling it closes the connection at once."""
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
    heard = dict(line.lower().split(": ", 1) for line in named if ": " in line)
    if not first:
        raise ConnectionError("the connection closed without an answer")
    return int(first.split()[1]), heard, rest


class Stage(World):
    """A simulator with a hidden budget, and a gateway that has to find it out."""

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
        # The defaults at this scale, and upper bounds that are far away.
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
        # One at a time: ports are chosen before they are taken.
        async with cls.starting:
            stage = await asyncio.to_thread(cls, BINARY, clients, text, understood({**known, **settings}), 1, upstream_keys)
            try:
                if weights:
                    stage.weigh(weights)
                await asyncio.to_thread(stage.start)
            except BaseException:
                stage.close(False)
                raise
        stage.samples, stage.asked, stage.answers, stage.tasks = [], [], [], []
        stage.tasks.append(asyncio.create_task(stage.sample()))
        return stage

    def weigh(self, weights):
        """Clients with weights, which only a configuration file can give."""
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
        """One picture. `patience` is announced; `leave_after` is when the client hangs up, which is not."""
        client, prompt = f"w{number}", f"w{number} picture {len(self.asked)}"
        headers = {"Authorization": f"Bearer {self.keys[number]}", "Content-Type": "application/json"}
        if patience is not None:
            headers["x-stainless-read-timeout"] = f"{patience:g}"
        body = json.dumps({**PICTURE, "prompt": prompt}).encode()
        sent, status, code, heard = time.time(), 0, "", {}
        self.asked.append((client, prompt, sent))
        try:
            async with asyncio.timeout(leave_after or RESPONSE_TIMEOUT_S):
                status, heard, data = await request(self.port, "POST", "/v1/images/generations", headers, body)
            if status != 200:
                code = (json.loads(data).get("error") or {}).get("code") or ""
        except TimeoutError:
            code = "left"
        except (OSError, ValueError) as error:
            code = f"{type(error).__name__}: {error}"
        answer = Answer(client, prompt, status, code, float(heard.get("retry-after", 0)), sent, time.time())
        self.answers.append(answer)
        return answer

    def crowd(self, number, count):
        """`count` clients with one key that always want another picture."""
        async def insatiable():
            while True:
                answer = await self.ask(number)
                if answer.status != 200:
                    await asyncio.sleep(max(0.2, answer.retry_after))
        self.tasks += [asyncio.create_task(insatiable()) for _ in range(count)]

    def arrivals(self, number, rate):
        """Clients with one key that come by chance, `rate` a second, each for one picture; the same in every run."""
        async def coming():
            seed = random.Random(f"{SEED}/{number}")
            while True:
                await asyncio.sleep(seed.expovariate(rate))
                self.tasks.append(asyncio.create_task(self.ask(number)))
        self.tasks.append(asyncio.create_task(coming()))

    # ---- what the upstream saw

    async def change(self, scenario):
        """Lays `scenario` over the simulator's; returns the simulator's time."""
        await asyncio.to_thread(self.tell_simulator, "PUT", "/_simulator/scenario", scenario)
        return (await self.look()).at

    async def look(self):
        _, _, data = await request(self.simulator_port, "GET", "/_simulator/counters", {})
        counters = json.loads(data)
        return Sample(counters["age_s"], counters["keys"], counters)

    async def sample(self):
        while True:
            self.samples.append(await self.look())
            await asyncio.sleep(SAMPLE_S)

    async def bought(self):
        """Everything that was accepted: prompt to the moment, in wall-clock seconds."""
        _, _, data = await request(self.simulator_port, "GET", "/_simulator/predictions", {})
        return {one["parameters"]["prompt"]: datetime.fromisoformat(one["created"]).timestamp() for one in json.loads(data)}

    def between(self, begin, end):
        """What happened between two moments of the simulator's time, as far as it was sampled."""
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

    def ordered(self):
        """429s that the test ordered, and that nobody could have avoided."""
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
        return self.of("submits_429") - (self.last.ordered() - self.first.ordered())

    def utilisation(self, submits_per_window, concurrent):
        """The share of the budget that was used, of the limit that is nearer; 0 is no limit."""
        used = []
        if submits_per_window:
            used.append(self.of("submits_accepted") / (submits_per_window * self.seconds / WINDOW_S))
        if concurrent:
            used.append(self.of("running_seconds") / (concurrent * self.seconds))
        return max(used) if self.seconds > 0 else 0.0


def jain(shares):
    """Jain's index: 1 when all are equal, 1/n when one has everything."""
    square = sum(share * share for share in shares)
    return sum(shares) ** 2 / (len(shares) * square) if square else 0.0


def fair_shares(demands, total):
    """Max-min fair: nobody gets more than they ask for, and what they leave is for the others."""
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
