"""What crash tests of the gateway are made of: a simulator, a gateway that can be killed, and clients that ask again.

Used by kill_loop.py and by the other load programs; nothing here judges. The simulator and the gateway are processes of their own. The gateway's
directory outlives each of its processes; the simulator is never killed, for its memory and its log are the oracle.
"""

import base64
import http.client
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Every key carries what tests/canary/scan.py looks for.
sys.path.append(str(ROOT / "tests" / "canary"))
from scan import INPUTS, MARK  # noqa: E402

UPSTREAM_KEY = f"sk-upstream-{MARK * 3}"
# Where what the runs wrote is left for that, if anywhere.
OUTPUT = os.environ.get("GATEWAY_TEST_OUTPUT")
# By how many pictures a wish is of: one in one prediction, or several in as many predictions.
ONE = {"model": "gpt-image-1.5", "quality": "low", "size": "256x256"}
SEVERAL = {"model": "gpt-image-2-plus", "size": "1254x1254"}
UNKNOWN = "submission_outcome_unknown"


def give_up(problem):
    """Ends with a code that is not the one of a verdict."""
    print(problem, file=sys.stderr)
    sys.exit(2)


def default_binary():
    """The release build, or the debug one where there is none."""
    builds = [ROOT / "target" / profile / "gptproto-gateway" for profile in ("release", "debug")]
    return next((build for build in builds if build.exists()), builds[0])


def png(seed, side=48):
    """A small PNG of noise, so that nothing about it can be compressed away or shared."""
    noise = random.Random(seed)
    rows = b"".join(b"\0" + noise.randbytes(3 * side) for _ in range(side))
    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    pieces = (len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(pieces)


def png_texts(picture):
    """The text chunks of a PNG, every checksum checked; raises ValueError when it is not whole."""
    if picture[:8] != b"\x89PNG\r\n\x1a\n":
        raise ValueError("no PNG")
    texts, at = {}, 8
    while at + 12 <= len(picture):
        length = int.from_bytes(picture[at:at + 4], "big")
        kind, data = picture[at + 4:at + 8], picture[at + 8:at + 8 + length]
        if zlib.crc32(kind + data).to_bytes(4, "big") != picture[at + 8 + length:at + 12 + length]:
            raise ValueError("a damaged PNG")
        if kind == b"tEXt":
            name, _, value = data.partition(b"\0")
            texts[name.decode("latin-1")] = value.decode("latin-1")
        if kind == b"IEND":
            return texts
        at += 12 + length
    raise ValueError("a PNG cut short")


def free_ports(count):
    """Ports below the ephemeral range, so that no outgoing connection takes one while its server is down."""
    found = []
    for port in random.SystemRandom().sample(range(20000, 30000), 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    give_up("no free ports between 20000 and 30000")


def call(port, method, path, body=None, headers=None, timeout=60):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        status, told, data = answer.status, answer.headers, answer.read()
        # The simulator knows the key, and says so.
        if OUTPUT and not path.startswith("/_simulator/"):
            with open(Path(OUTPUT) / f"answers-{os.getpid()}", "ab") as kept:
                kept.write(bytes(told) + data + b"\n")
        return status, told, data
    finally:
        connection.close()


class World:
    """A simulator and a gateway's directory, ports and environment, in a folder of their own."""

    def __init__(self, binary, workers, scenario, overrides=None, pictures=1, upstream_keys=(UPSTREAM_KEY,)):
        self.binary = binary
        self.fields = ONE if pictures == 1 else SEVERAL | {"n": str(pictures)}
        self.pictures = pictures
        if OUTPUT:
            Path(OUTPUT).mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="kill-loop-", dir=OUTPUT))
        self.directory = self.folder / "gateway"
        self.simulator_log = self.folder / "accepted.jsonl"
        self.simulator_port, self.port, self.operator_port = free_ports(3)
        self.keys = [f"kill-loop-client-{MARK * 3}-{number}" for number in range(workers)]
        self.output = open(self.folder / "output", "ab")
        # Apart, and not for the scan: its banner shows the upstream key.
        self.simulator_output = open(self.folder / "simulator-output", "ab")
        (self.folder / INPUTS).write_text(f"{self.simulator_output.name}\n")
        self.gateway = None
        scenario_file = self.folder / "scenario.toml"
        scenario_file.write_text(scenario)
        foreign = ("GATEWAY_", "GPTPROTO_")
        bare = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        self.environment = {
            **bare,
            "GPTPROTO_API_KEY": upstream_keys[0],
            "GATEWAY_CLIENT_KEYS": ",".join(f"w{number}:{key}" for number, key in enumerate(self.keys)),
            "GATEWAY_UPSTREAM__BASE_URL": f"http://127.0.0.1:{self.simulator_port}",
            "GATEWAY_UPSTREAM__SUBMITS_PER_MINUTE": "100000",
            "GATEWAY_UPSTREAM__REQUESTS_PER_MINUTE": "1000000",
            "GATEWAY_UPSTREAM__LATENCY_PRIORS": "off",
            "GATEWAY_UPSTREAM__FIRST_POLL_MS": "20",
            "GATEWAY_UPSTREAM__POLL_INTERVAL_MIN_MS": "20",
            "GATEWAY_UPSTREAM__POLL_INTERVAL_MAX_MS": "60",
            "GATEWAY_SERVER__LISTEN": f"127.0.0.1:{self.port}",
            "GATEWAY_SERVER__SHUTDOWN_DELAY_S": "0",
            "GATEWAY_SERVER__SHUTDOWN_GRACE_S": "5",
            "GATEWAY_OPERATOR__LISTEN": f"127.0.0.1:{self.operator_port}",
            "GATEWAY_STORAGE__DIRECTORY": str(self.directory),
            "GATEWAY_LOG__FILTER": "warn",
            "GATEWAY_LOG__FORMAT": "json",
            **(overrides or {}),
        }
        # None takes a variable away.
        self.environment = {name: value for name, value in self.environment.items() if value is not None}
        arguments = [binary, "simulate", "--listen", f"127.0.0.1:{self.simulator_port}",
                     "--scenario", scenario_file, "--log", self.simulator_log]
        arguments += [word for key in upstream_keys for word in ("--key", key)]
        self.simulator = subprocess.Popen(arguments, env=bare, stdout=self.simulator_output, stderr=self.simulator_output)
        self.wait_for(self.simulator, self.simulator_port, "/_simulator/counters")

    def wait_for(self, process, port, path):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if process.poll() is not None:
                give_up(f"a server ended with code {process.returncode} before it was up:\n{self.last_words()}")
            try:
                if call(port, "GET", path, timeout=5)[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(0.005)
        give_up(f"nothing answers on port {port}:\n{self.last_words()}")

    def last_words(self):
        said = [(self.folder / name).read_bytes()[-3000:] for name in ("simulator-output", "output")]
        return b"\n".join(said).decode(errors="replace")

    def use_directory(self, directory):
        """What the next gateway keeps its journal in."""
        self.directory = directory
        self.environment["GATEWAY_STORAGE__DIRECTORY"] = str(directory)

    def launch(self, through=()):
        """Starts the gateway, by another command where one is given, and does not wait for it."""
        command = [*through, self.binary, "serve"]
        self.gateway = subprocess.Popen(command, env=self.environment, stdout=self.output, stderr=self.output)

    def wait_until_ready(self):
        """Waits until the gateway takes traffic. One that does not come back after a kill has failed the test."""
        came_before = (self.directory / "journal.sqlite").exists()
        try:
            self.wait_for(self.gateway, self.operator_port, "/readyz")
        except SystemExit:
            if came_before:
                print("! MUST BE 0: the gateway did not start again after a kill")
                sys.exit(1)
            raise

    def start(self):
        self.launch()
        self.wait_until_ready()

    def kill(self):
        self.gateway.send_signal(signal.SIGKILL)
        self.gateway.wait()

    def stop(self):
        """Stops the gateway as an operator would; returns its exit code."""
        self.gateway.send_signal(signal.SIGTERM)
        return self.gateway.wait(30)

    def close(self, keep):
        for process in (self.gateway, self.simulator):
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.output.close()
        self.simulator_output.close()
        if not keep and not OUTPUT:
            shutil.rmtree(self.folder, ignore_errors=True)

    def tell_simulator(self, method, path, value):
        status, _, data = call(self.simulator_port, method, path, json.dumps(value), {"Content-Type": "application/json"})
        assert status == 200, data

    def accepted(self):
        """Everything that was bought, from the simulator's memory; checked against its log on disk."""
        _, _, data = call(self.simulator_port, "GET", "/_simulator/predictions")
        remembered = json.loads(data)
        logged = {line["id"]: line for line in map(json.loads, self.simulator_log.read_text().splitlines())} \
            if self.simulator_log.exists() else {}
        if set(logged) != {one["id"] for one in remembered}:
            give_up("the simulator's log and its memory differ: the oracle itself is broken")
        return [{"id": one["id"], "prompt": one["parameters"]["prompt"], "at": logged[one["id"]]["at"],
                 "prompt_blake3": logged[one["id"]]["prompt_blake3"]} for one in remembered]

    def idle(self):
        """Whether nothing is under way in the gateway."""
        _, _, data = call(self.operator_port, "GET", "/status.json")
        status = json.loads(data)
        engine = status.get("engine", status)
        return engine["queued"] + engine["submitting"] + engine["following"] == 0

    def journal(self):
        return Journal(self.directory)

    def journal_states(self):
        """The states of all predictions, oldest first, as a gateway that is running has committed them."""
        connection = sqlite3.connect(f"file:{self.directory / 'journal.sqlite'}?mode=ro", uri=True, timeout=5)
        try:
            return [row[0] for row in connection.execute(
                "SELECT state FROM purchases JOIN jobs ON jobs.id = job_id ORDER BY created_ms, slot")]
        finally:
            connection.close()


class Journal:
    """What the journal says, read from a copy, so that not even a lock of the original is touched.

    Only for a gateway that is not running: then the database and its write-ahead log are one consistent state.
    """

    def __init__(self, directory):
        self.orders, self.verdict = [], "ok"
        with tempfile.TemporaryDirectory(prefix="kill-loop-journal-") as scratch:
            for name in ("journal.sqlite", "journal.sqlite-wal"):
                if (directory / name).exists():
                    shutil.copyfile(directory / name, Path(scratch) / name)
            if not (Path(scratch) / "journal.sqlite").exists():
                return
            connection = sqlite3.connect(Path(scratch) / "journal.sqlite")
            connection.row_factory = sqlite3.Row
            try:
                self.verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
                # A kill before the tables were made leaves none, which is well.
                if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'jobs'").fetchone()[0]:
                    self.orders = [dict(row) for row in connection.execute(
                        "SELECT jobs.id, client, fingerprint, created_ms, delivered_ms, evicted, state, upstream_id, failure,"
                        " purchases.id AS prediction FROM jobs JOIN purchases ON job_id = jobs.id"
                        " ORDER BY created_ms, jobs.id, slot")]
                    self.pictures = [dict(row) for row in connection.execute("SELECT * FROM pictures")]
            except sqlite3.DatabaseError as error:
                self.verdict = str(error)
            finally:
                connection.close()

    pictures = ()

    def newest_of(self, client, since_ms):
        """The newest order of a client that is not older than a moment."""
        found = [order for order in self.orders if order["client"] == client and order["created_ms"] >= since_ms]
        return found[-1] if found else None


@dataclass
class Answer:
    status: int
    code: str
    should_retry: str
    predictions: list
    # `prompt-blake3` of each picture, as the simulator wrote it into them.
    pictures: list
    missing: int
    problem: str
    at_ms: int


@dataclass
class Wish:
    """One picture that a client wants, and all it heard about it."""
    worker: str
    prompt: str
    began_ms: int
    answers: list = field(default_factory=list)
    broken: int = 0
    final: Answer = None
    # Nobody asks any more.
    given_up: bool = False
    asked_again: list = field(default_factory=list)


class Client:
    """Wants pictures, one after the other, and asks again until it knows."""

    def __init__(self, world, number, seed):
        self.world = world
        self.name = f"w{number}"
        self.random = random.Random(f"{seed}/{number}")
        self.picture = png(f"{seed}/{number}")
        self.wishes = []
        self.current = None
        self.count = 0

    def request(self, prompt, retries, timeout=60):
        """One request, as the SDK of Python makes it."""
        boundary = f"b{self.random.getrandbits(64):016x}"
        fields = self.world.fields | {"prompt": prompt}
        body = b"".join(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
                        for name, value in fields.items())
        body += (f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
                 "Content-Type: image/png\r\n\r\n").encode() + self.picture + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Authorization": f"Bearer {self.world.keys[int(self.name[1:])]}",
                   "Content-Type": f"multipart/form-data; boundary={boundary}"}
        if retries is not None:
            headers["x-stainless-retry-count"] = str(retries)
        status, heard, data = call(self.world.port, "POST", "/v1/images/edits", body, headers, timeout)
        return understand(status, heard, data)

    def new_wish(self):
        self.count += 1
        nonce = f"kill loop {self.name} {self.count} {self.random.getrandbits(64):016x}"
        wish = Wish(self.name, nonce, time.time_ns() // 1_000_000)
        self.wishes.append(wish)
        return wish

    def wish(self, deadline):
        """Asks for one picture until there is a final answer, or the deadline has passed."""
        wish = self.new_wish()
        self.pursue(wish, deadline)
        return wish

    def pursue(self, wish, deadline):
        self.current = wish
        # Half of the clients are SDKs, which count their retries; the others are loops around curl.
        counts = self.random.random() < 0.5
        tries = 0
        while time.monotonic() < deadline:
            try:
                answer = self.request(wish.prompt, tries if counts else None)
            except (OSError, http.client.HTTPException):
                wish.broken += 1
                tries += 1
                time.sleep(self.random.uniform(0.005, 0.04))
                continue
            wish.answers.append(answer)
            if is_final(answer):
                wish.final = answer
                break
            tries += 1
            time.sleep(self.random.uniform(0.01, 0.1))
        self.current = None

    def ask_again(self, wish):
        """The same request once more, after it was answered for good."""
        try:
            wish.asked_again.append(self.request(wish.prompt, self.random.choice([None, 1])))
        except (OSError, http.client.HTTPException):
            wish.broken += 1


def understand(status, heard, data):
    predictions = [name.strip() for name in heard.get("x-gateway-prediction", "").split(",") if name.strip()]
    missing = int(heard.get("x-gateway-missing", "0"))
    answer = Answer(status, "", heard.get("x-should-retry", ""), predictions, [], missing, "", time.time_ns() // 1_000_000)
    try:
        body = json.loads(data)
        if status == 200:
            pictures = [base64.b64decode(item["b64_json"]) for item in body["data"]]
            answer.pictures = [png_texts(picture).get("prompt-blake3", "") for picture in pictures]
        else:
            answer.code = body["error"]["code"] or ""
    except (ValueError, KeyError, IndexError, TypeError) as error:
        answer.problem = f"unreadable answer: {error}"
    return answer


def is_final(answer):
    """Whether an SDK of OpenAI's would leave it at this answer."""
    if answer.should_retry in ("true", "false"):
        return answer.should_retry == "false"
    return not (answer.status in (408, 409, 429) or answer.status >= 500)


class Crowd:
    """Clients in threads of their own, until they are told to stop wishing."""

    def __init__(self, world, seed, again_share):
        self.clients = [Client(world, number, seed) for number in range(len(world.keys))]
        self.stopping = threading.Event()
        self.deadline = float("inf")
        self.again_share = again_share
        self.threads = [threading.Thread(target=self.run, args=(client,), daemon=True) for client in self.clients]
        for thread in self.threads:
            thread.start()

    def run(self, client):
        while not self.stopping.is_set():
            wish = client.wish(self.deadline)
            # Some pictures of several are no whole answer: to ask again is to want more.
            if wish.final and not wish.final.missing and client.random.random() < self.again_share:
                client.ask_again(wish)
            time.sleep(client.random.uniform(0, 0.05))

    def finish(self, response_timeout_s):
        """No new wishes; waits for what is open. Returns all wishes."""
        self.stopping.set()
        until = time.monotonic() + response_timeout_s
        for thread in self.threads:
            thread.join(max(0.0, until - time.monotonic()))
        return [wish for client in self.clients for wish in client.wishes]

    def answered(self):
        return sum(1 for client in self.clients for wish in client.wishes if wish.final)

    def begun(self):
        return sum(len(client.wishes) for client in self.clients)
