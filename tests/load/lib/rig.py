"""A simulator and a gateway in front of it, as processes that scripts start, kill and compare.

The gateway's directory outlives each of its processes. The simulator is never killed: its memory and its log say what was
bought. Nothing here judges.
"""

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
import time
import tomllib
from pathlib import Path

from lib.project import ROOT, give_up

# Every key carries the mark that tests/canary/scan.py looks for.
sys.path.append(str(ROOT / "tests" / "canary"))
from scan import INPUTS, MARK  # noqa: E402

UPSTREAM_KEY = f"sk-upstream-{MARK * 3}"
# The folder that keeps what the runs wrote, for the scan.
OUTPUT = os.environ.get("GATEWAY_TEST_OUTPUT")
# Fields of an edit of one picture, and of one of several, each picture a prediction of its own.
ONE = {"model": "gpt-image-1.5", "quality": "low", "size": "256x256"}
SEVERAL = {"model": "gpt-image-2-plus", "size": "1254x1254"}
# Fields of an edit whose parameters the strict table of the -plus models refuses, and which the client did not ask for.
FIELDS_OF = {"strict-plus": {"model": "gpt-image-1.5-plus"}}
# The ways in which the simulator may differ from the documents, by name.
PROFILES = tomllib.loads((ROOT / "config" / "profiles.toml").read_text())
# Of each answer that is kept for the scan.
KEPT_BYTES = 1_000_000
# The number of refused submits that the simulator keeps.
REFUSALS_KEPT = 10_000
UNKNOWN = "submission_outcome_unknown"


def free_ports(count):
    """Returns free ports of TEST_PORTS (FIRST-LAST).

    The default lies below the ephemeral range, so that no outgoing connection takes a port while its server is down.
    Scripts that run side by side are given ranges that do not overlap, for the same reason.
    """
    first, last = map(int, os.environ.get("TEST_PORTS", "15000-31999").split("-"))
    found = []
    for port in random.SystemRandom().sample(range(first, last + 1), min(1000, last + 1 - first)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    return give_up(f"there are no {count} free ports between {first} and {last}")


def call(port, method, path, body=None, headers=None, timeout=60, pause_s=0):
    """Sends a request on a connection of its own, and reads the body `pause_s` after the head; returns status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        time.sleep(pause_s)
        status, named, data = answer.status, answer.headers, answer.read()
        # Not the simulator's answers, which contain the upstream key or large pictures, and not all of a large picture.
        if OUTPUT and not path.startswith(("/_simulator/", "/files/")):
            with open(Path(OUTPUT) / f"answers-{os.getpid()}", "ab") as kept:
                kept.write(bytes(named) + data[:KEPT_BYTES] + b"\n")
        return status, named, data
    finally:
        connection.close()


class Rig:
    """A simulator and a gateway's directory, ports and environment, in a folder of their own."""

    def __init__(self, binary, workers, scenario, overrides=None, pictures=1, upstream_keys=(UPSTREAM_KEY,), profile="documented"):
        self.binary, self.profile = binary, profile
        self.fields = FIELDS_OF.get(profile, ONE) if pictures == 1 else SEVERAL | {"n": str(pictures)}
        self.pictures = pictures
        if OUTPUT:
            Path(OUTPUT).mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="gateway-rig-", dir=OUTPUT))
        self.directory = self.folder / "gateway"
        self.simulator_log = self.folder / "accepted.jsonl"
        self.simulator_port, self.port, self.operator_port = free_ports(3)
        self.keys = [f"kill-loop-client-{MARK * 3}-{number}" for number in range(workers)]
        self.output = open(self.folder / "output", "ab")
        # In a file that is not scanned: the simulator's banner shows the upstream key.
        self.simulator_output = open(self.folder / "simulator-output", "ab")
        (self.folder / INPUTS).write_text(f"{self.simulator_output.name}\n")
        self.gateway = None
        # The address of a server beside the gateway, where a script has one.
        self.helper = None
        # Turns stamps in the journal into times of this machine, where the gateway's clock is another.
        self.real_ms = lambda stamp_ms: stamp_ms
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
        # None removes a variable.
        self.environment = {name: value for name, value in self.environment.items() if value is not None}
        arguments = [binary, "simulate", "--listen", f"127.0.0.1:{self.simulator_port}",
                     "--scenario", scenario_file, "--log", self.simulator_log]
        arguments += [word for key in upstream_keys for word in ("--key", key)]
        self.simulator = subprocess.Popen(arguments, env=bare, stdout=self.simulator_output, stderr=self.simulator_output)
        self.wait_for(self.simulator, self.simulator_port, "/_simulator/counters")
        self.set_profile(profile)

    def wait_for(self, process, port, path):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if process.poll() is not None:
                give_up(f"a server ended with code {process.returncode} before it was up:\n{self.last_output()}")
            try:
                if call(port, "GET", path, timeout=5)[0] == 200:
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(0.005)
        give_up(f"nothing answers on port {port}:\n{self.last_output()}")

    def last_output(self):
        output = [(self.folder / name).read_bytes()[-3000:] for name in ("simulator-output", "output")]
        return b"\n".join(output).decode(errors="replace")

    def use_directory(self, directory):
        """Sets the storage directory of the gateways that are launched from now on."""
        self.directory = directory
        self.environment["GATEWAY_STORAGE__DIRECTORY"] = str(directory)

    def launch(self, through=()):
        """Starts the gateway without waiting for it; `through` is a command that is to execute it."""
        command = [*through, self.binary, "serve"]
        self.gateway = subprocess.Popen(command, env=self.environment, stdout=self.output, stderr=self.output)

    def wait_until_ready(self):
        """Waits until the gateway is ready. Ends the script with exit code 1 when it does not start again after a kill."""
        started_before = (self.directory / "journal.sqlite").exists()
        try:
            self.wait_for(self.gateway, self.operator_port, "/readyz")
        except SystemExit:
            if started_before:
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

    def call_simulator(self, method, path, value):
        status, _, data = call(self.simulator_port, method, path, json.dumps(value), {"Content-Type": "application/json"})
        assert status == 200, data

    def set_profile(self, name):
        """Makes the simulator differ from the documents as `simulate --profile NAME` does, and keeps the rest of its scenario."""
        self.call_simulator("PUT", "/_simulator/scenario", PROFILES[name])

    def refusals(self):
        """Returns the refused submits, oldest first, without those that had not arrived whole."""
        _, _, data = call(self.simulator_port, "GET", "/_simulator/refusals")
        refusals = json.loads(data)
        if len(refusals) >= REFUSALS_KEPT:
            give_up("the simulator refused more submits than it keeps: there is nothing to compare with")
        return [refusal for refusal in refusals if refusal["prompt"] is not None]

    def accepted_prompts(self):
        """Returns the prompts of all purchases so far, oldest first, also of one that is not yet in the simulator's log."""
        _, _, data = call(self.simulator_port, "GET", "/_simulator/predictions")
        return [one["parameters"]["prompt"] for one in json.loads(data)]

    def accepted(self):
        """Returns all purchases from the simulator's memory, checked against its log on disk, which is written a little later."""
        until = time.monotonic() + 5
        while True:
            _, _, data = call(self.simulator_port, "GET", "/_simulator/predictions")
            remembered = json.loads(data)
            lines = self.simulator_log.read_text().splitlines(keepends=True) if self.simulator_log.exists() else []
            logged = {line["id"]: line for line in map(json.loads, (line for line in lines if line.endswith("\n")))}
            if set(logged) == {one["id"] for one in remembered}:
                break
            if time.monotonic() > until:
                give_up("the simulator's log and its memory differ: there is nothing to compare with")
            time.sleep(0.02)
        return [{"id": one["id"], "prompt": one["parameters"]["prompt"], "at": logged[one["id"]]["at"],
                 "prompt_blake3": logged[one["id"]]["prompt_blake3"],
                 "inputs": [picture["digest"] for picture in one["inputs"]], "key": one["key"], "state": one["state"]} for one in remembered]

    def idle(self):
        """Returns whether the gateway has no unfinished work."""
        _, _, data = call(self.operator_port, "GET", "/status.json")
        status = json.loads(data)
        engine = status.get("engine", status)
        return engine["queued"] + engine["submitting"] + engine["polling"] == 0

    def journal(self):
        return Journal(self.directory, self.real_ms)

    def journal_states(self):
        """Returns the states of all predictions, oldest first, as the running gateway has committed them."""
        connection = sqlite3.connect(f"file:{self.directory / 'journal.sqlite'}?mode=ro", uri=True, timeout=5)
        try:
            return [row[0] for row in connection.execute(
                "SELECT state FROM purchases JOIN jobs ON jobs.id = job_id ORDER BY created_ms, slot")]
        finally:
            connection.close()


class Journal:
    """The contents of the journal of a stopped gateway, read from a copy so that the original is not even locked.

    While a gateway runs, the copies of the database and of its write-ahead log might not belong together.
    """

    def __init__(self, directory, real_ms=lambda stamp_ms: stamp_ms):
        self.rows, self.verdict = [], "ok"
        with tempfile.TemporaryDirectory(prefix="gateway-journal-") as scratch:
            for name in ("journal.sqlite", "journal.sqlite-wal"):
                if (directory / name).exists():
                    shutil.copyfile(directory / name, Path(scratch) / name)
            if not (Path(scratch) / "journal.sqlite").exists():
                return
            connection = sqlite3.connect(Path(scratch) / "journal.sqlite")
            connection.row_factory = sqlite3.Row
            try:
                self.verdict = connection.execute("PRAGMA integrity_check").fetchone()[0]
                # A gateway that was killed before it made the tables leaves none.
                if connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'jobs'").fetchone()[0]:
                    self.rows = [dict(row) for row in connection.execute(
                        "SELECT jobs.id, client, fingerprint, created_ms, delivered_ms, evicted, idempotency_key, state, upstream_id,"
                        " failure, account, slot, purchases.id AS prediction FROM jobs JOIN purchases ON job_id = jobs.id")]
                    for row in self.rows:
                        row["created_ms"] = real_ms(row["created_ms"])
                    self.rows.sort(key=lambda row: (row["created_ms"], row["id"], row["slot"]))
                    in_journal = ("SELECT *, (SELECT length(bytes) FROM contents WHERE contents.purchase_id = pictures.purchase_id"
                                  " AND contents.position = pictures.position) AS in_journal FROM pictures")
                    self.pictures = [dict(row) for row in connection.execute(in_journal)]
            except sqlite3.DatabaseError as error:
                self.verdict = str(error)
            finally:
                connection.close()

    pictures = ()

    def newest_of(self, client, since_ms):
        """Returns the newest row of a client that is not older than `since_ms`."""
        found = [row for row in self.rows if row["client"] == client and row["created_ms"] >= since_ms]
        return found[-1] if found else None
