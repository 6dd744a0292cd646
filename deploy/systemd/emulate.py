#!/usr/bin/env python3
"""Plays systemd for a gateway: receives what it says at NOTIFY_SOCKET, hands sockets and credentials on, watches its watchdog.

Prints one line for each thing that was seen: what, by which tool, and the verdict, separated by tabs. The upstream is the program's
own simulator. Needs Python and, for the stalled journal, strace and root.

Exit codes: 0 all well, 1 something is not, 2 not carried out.

usage: deploy/systemd/emulate.py [--binary FILE]
"""

import argparse
import http.client
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "load"))
from lib.clients import Client  # noqa: E402
from lib.project import any_binary, require  # noqa: E402
from lib.rig import UPSTREAM_KEY, Rig, call  # noqa: E402
from lib.supervisor import InheritingRig, NotifySocket  # noqa: E402

SCENARIO = '[life]\nlow_ms = [100, 200]\nsize_counts = "no"\n[limits]\npoll_interval_min_ms = 0\n'
ADMIN_TOKEN = f"{UPSTREAM_KEY}-admin"
# Of the watchdog, in seconds; signs of life are due at half of it.
WATCHDOG_S = 2
# How long each sync of the journal takes while it is stalled.
STALL_S = 6
OWN = "receiver of our own"
failed = []


def row(thing, tool, holds, detail=""):
    print(f"{thing}\t{tool}\t{'ok' if holds else 'FAILED'}{f': {detail}' if detail else ''}", flush=True)
    if not holds:
        failed.append(thing)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", type=lambda text: ROOT.joinpath(text).resolve(), default=any_binary())
    binary = parser.parse_args().binary
    require(binary)
    life(binary)
    abstract(binary)
    credentials(binary)
    stalled(binary)
    sys.exit(1 if failed else 0)


def watched(rig, name):
    """Has the gateways of a rig report to a socket of this name, below a watchdog."""
    receiver = NotifySocket(name)
    rig.environment |= {"NOTIFY_SOCKET": receiver.name, "WATCHDOG_USEC": str(WATCHDOG_S * 1_000_000)}
    return receiver


def life(binary):
    """From the start to the stop, with inherited sockets."""
    rig = InheritingRig(binary, 1, SCENARIO)
    receiver = watched(rig, rig.folder / "notify")
    try:
        rig.launch()
        ready = receiver.wait_for("READY=1\nSTATUS=")
        row("READY=1, and a status", OWN, ready is not None)
        # No connection could be refused here; it is answered, and by the gateway that is ready.
        row("inherited sockets answer once it is ready", OWN, call(rig.operator_port, "GET", "/readyz")[0] == 200)
        answer = Client(rig, 0, "life").request("an edit over an inherited socket", None)
        row("an edit over an inherited socket", OWN, answer.status == 200 and len(answer.pictures) == 1)
        time.sleep(3 * WATCHDOG_S)
        signs = receiver.times_of("WATCHDOG=1")
        longest = max((after - before for before, after in zip(signs, signs[1:])), default=WATCHDOG_S)
        row("WATCHDOG=1 at half of its time", OWN, len(signs) >= 5 and longest < 0.75 * WATCHDOG_S, f"{longest:.2f} s of {WATCHDOG_S} s at most")
        row("STATUS= in one sentence", OWN, receiver.wait_for("STATUS=Ready. In flight: 0", seconds=5) is not None)
        before = len(receiver.messages)
        asked = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        rig.gateway.send_signal(signal.SIGHUP)
        reloading = receiver.wait_for("RELOADING=1\nMONOTONIC_USEC=", before)
        stamp = int(reloading[2].split("MONOTONIC_USEC=")[1].split("\n")[0]) if reloading else 0
        again = receiver.wait_for("READY=1\nSTATUS=Reloaded", reloading[1]) if reloading else None
        row("RELOADING=1 with its time, then READY=1", OWN, again is not None and 0 <= stamp - asked < 5_000_000)
        rig.gateway.send_signal(signal.SIGTERM)
        stopping = receiver.wait_for("STOPPING=1")
        row("STOPPING=1, then exit code 0", OWN, stopping is not None and rig.gateway.wait(30) == 0)
    finally:
        receiver.close()
        rig.close(keep=False)


def abstract(binary):
    rig = Rig(binary, 1, SCENARIO)
    receiver = watched(rig, f"@gptproto-gateway-{os.getpid()}")
    try:
        rig.start()
        row("READY=1 at an abstract socket", OWN, receiver.wait_for("READY=1") is not None)
        rig.stop()
    finally:
        receiver.close()
        rig.close(keep=False)


def credentials(binary):
    """The secrets of a rig as files of an emulated $CREDENTIALS_DIRECTORY, and none in the environment."""
    rig = Rig(binary, 1, SCENARIO)
    folder = rig.folder / "credentials"
    folder.mkdir(mode=0o700)
    tool = "emulated $CREDENTIALS_DIRECTORY"
    try:
        secrets = {
            "gptproto-api-key": rig.environment.pop("GPTPROTO_API_KEY"),
            "client-keys": rig.environment.pop("GATEWAY_CLIENT_KEYS"),
            "admin-token": ADMIN_TOKEN,
        }
        for name, text in secrets.items():
            (folder / name).write_text(text + "\n")
            (folder / name).chmod(0o400)
        rig.environment["CREDENTIALS_DIRECTORY"] = str(folder)
        rig.start()
        answer = Client(rig, 0, "credentials").request("an edit with keys from credentials", None)
        row("an edit with keys from credentials", tool, answer.status == 200 and len(answer.pictures) == 1)
        statuses = [call(rig.operator_port, "GET", "/admin/keys", headers={"Authorization": f"Bearer {token}"})[0]
                    for token in (ADMIN_TOKEN, ADMIN_TOKEN + "x")]
        row("the admin token from a credential", tool, statuses == [200, 401], f"{statuses}")
        rig.stop()
        # Without the folder there is no key.
        del rig.environment["CREDENTIALS_DIRECTORY"]
        rig.launch()
        row("control: without the folder there is no key", tool, rig.gateway.wait(30) == 64)
    finally:
        rig.close(keep=False)


def stalled(binary):
    """A journal whose syncs take longer than the watchdog's time: no sign of life comes, while pages are served all the same."""
    thing, tool = "a stalled journal gives no WATCHDOG=1", "strace"
    if os.geteuid() != 0 or not shutil.which("strace"):
        row(thing, tool, True, "SKIPPED: needs root and strace")
        return
    rig = Rig(binary, 1, SCENARIO)
    receiver = watched(rig, rig.folder / "notify")
    tracer = None
    try:
        rig.start()
        receiver.wait_for("WATCHDOG=1")
        delay = f"inject=fsync,fdatasync:delay_enter={STALL_S * 1_000_000}"
        tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", delay, "-p", str(rig.gateway.pid)],
                                  stdout=rig.output, stderr=rig.output)
        time.sleep(1)
        begun = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", rig.port, timeout=60)
        body, content_type = Client(rig, 0, "stalled").form("an edit that waits for the disk")
        connection.request("POST", "/v1/images/edits", body, {"Authorization": f"Bearer {rig.keys[0]}", "Content-Type": content_type})
        time.sleep(STALL_S - 1)
        signs = [at for at in receiver.times_of("WATCHDOG=1") if at > begun + WATCHDOG_S]
        served = call(rig.operator_port, "GET", "/healthz", timeout=5)[0]
        row(thing, tool, not signs and served == 200, f"{len(signs)} signs in {STALL_S - 1 - WATCHDOG_S} s, /healthz {served}")
        tracer.send_signal(signal.SIGINT)
        tracer.wait(30)
        status = connection.getresponse().status
        before = len(receiver.messages)
        row("it goes on when the journal does", tool, status == 200 and receiver.wait_for("WATCHDOG=1", before) is not None)
        rig.stop()
    finally:
        if tracer is not None and tracer.poll() is None:
            tracer.kill()
            tracer.wait()
        receiver.close()
        rig.close(keep=False)


if __name__ == "__main__":
    main()
