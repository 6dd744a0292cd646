#!/usr/bin/env python3
"""Latency that the gateway adds to an edit.

Starts the release binary as simulator and as gateway on free loopback ports, and makes the same edits in turn in three ways:
directly at the simulator (submit, poll, download), through the gateway with equal polls, and through the gateway with its
default configuration. Prints for each the time of an edit beyond the time in which the simulator makes the picture. Needs
Python 3 and target/release/gptproto-gateway.

usage: tests/load/added_latency.py [EDITS]     (default 20)
"""

import argparse
import base64
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lib.project import release_binary, require
from lib.rig import UPSTREAM_KEY, call, free_ports

BINARY = release_binary()
CLIENT_KEY = "added-latency-client-key"
OWN_SECONDS = 1.0  # the simulator makes each picture in exactly this time
QUICK_POLL_S = 0.02


def wait_until_up(port, path, process):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"a server ended with exit code {process.returncode} before it was up")
        try:
            if call(port, "GET", path, timeout=1)[0] == 200:
                return
        except OSError:
            time.sleep(0.02)
    sys.exit(f"nothing answers on port {port}")


def start(arguments, environment, log):
    return subprocess.Popen([BINARY, *arguments], env={**os.environ, **environment}, stdout=log, stderr=log)


def direct(port, picture, prompt):
    headers = {"Authorization": f"Bearer {UPSTREAM_KEY}", "Content-Type": "application/json"}
    body = json.dumps({"prompt": prompt, "base64_images": ["data:image/png;base64," + base64.b64encode(picture).decode()],
                       "n": 1, "size": "1024x1024", "quality": "low", "enable_sync_mode": False, "response_format": "url"})
    began = time.monotonic()
    status, _, data = call(port, "POST", "/api/v3/openai/gpt-image-2/image-edit", body, headers)
    assert status == 200, data
    prediction = json.loads(data)["data"]["id"]
    while True:
        time.sleep(QUICK_POLL_S)
        status, _, data = call(port, "GET", f"/api/v3/predictions/{prediction}/result", headers=headers)
        answer = json.loads(data)["data"]
        if answer["status"] == "completed":
            break
    path = "/" + answer["outputs"][0].split("/", 3)[3]
    status, _, data = call(port, "GET", path)
    assert status == 200 and data.startswith(b"\x89PNG")
    return time.monotonic() - began


def through(port, picture, prompt):
    boundary = "added-latency"
    fields = {"model": "gpt-image-2", "prompt": prompt, "quality": "low", "size": "1024x1024"}
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items())
    body += (f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n').encode()
    body += picture + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Authorization": f"Bearer {CLIENT_KEY}", "Content-Type": f"multipart/form-data; boundary={boundary}"}
    began = time.monotonic()
    status, _, data = call(port, "POST", "/v1/images/edits", body, headers)
    took = time.monotonic() - began
    assert status == 200, data
    assert base64.b64decode(json.loads(data)["data"][0]["b64_json"]).startswith(b"\x89PNG")
    return took


def report(name, seconds):
    added = sorted((taken - OWN_SECONDS) * 1000 for taken in seconds)
    p99 = added[min(len(added) - 1, int(len(added) * 0.99))]
    print(f"{name:<38} p50 {statistics.median(added):7.1f} ms   p99 {p99:7.1f} ms   ({len(added)} edits)")
    return statistics.median(added)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("edits", nargs="?", type=int, default=20, help="in each of the three ways")
    edits = parser.parse_args().edits
    require(BINARY)
    folder = Path(tempfile.mkdtemp(prefix="added-latency-"))
    log = open(folder / "log", "wb")
    processes = []
    try:
        names = ("simulator", "quick", "quick-op", "default", "default-op")
        ports = dict(zip(names, free_ports(len(names))))
        scenario = folder / "scenario.toml"
        own = int(OWN_SECONDS * 1000)
        scenario.write_text(f"[life]\nlow_ms = [{own}, {own}]\nsize_counts = \"no\"\n[limits]\npoll_interval_min_ms = 0\n")
        processes.append(start(["simulate", "--listen", f"127.0.0.1:{ports['simulator']}", "--scenario", str(scenario),
                                "--key", UPSTREAM_KEY], {}, log))
        wait_until_up(ports["simulator"], "/_simulator/counters", processes[-1])
        for name, extra in (("quick", {"GATEWAY_UPSTREAM__LATENCY_PRIORS": "off",
                                       "GATEWAY_UPSTREAM__FIRST_POLL_MS": "20", "GATEWAY_UPSTREAM__POLL_INTERVAL_MIN_MS": "20",
                                       "GATEWAY_UPSTREAM__POLL_INTERVAL_MAX_MS": "20",
                                       "GATEWAY_UPSTREAM__REQUESTS_PER_MINUTE": "100000"}),
                            ("default", {})):
            environment = {
                "GPTPROTO_API_KEY": UPSTREAM_KEY,
                "GATEWAY_CLIENT_KEYS": f"load:{CLIENT_KEY}",
                "GATEWAY_UPSTREAM__BASE_URL": f"http://127.0.0.1:{ports['simulator']}",
                "GATEWAY_SERVER__LISTEN": f"127.0.0.1:{ports[name]}",
                "GATEWAY_OPERATOR__LISTEN": f"127.0.0.1:{ports[name + '-op']}",
                "GATEWAY_STORAGE__DIRECTORY": str(folder / name),
                "GATEWAY_UPSTREAM__SUBMITS_PER_MINUTE": "100000",
                **extra,
            }
            processes.append(start(["serve"], environment, log))
            wait_until_up(ports[name + "-op"], "/readyz", processes[-1])
        # The picture to edit is one that the simulator made.
        direct_png = {"Authorization": f"Bearer {CLIENT_KEY}", "Content-Type": "application/json"}
        status, _, data = call(ports["quick"], "POST", "/v1/images/generations",
                            json.dumps({"model": "gpt-image-2", "prompt": "start", "quality": "low", "size": "1024x1024"}), direct_png)
        assert status == 200, data
        picture = base64.b64decode(json.loads(data)["data"][0]["b64_json"])

        print(f"the simulator's time: {OWN_SECONDS * 1000:.0f} ms an edit; input {len(picture)} bytes", flush=True)
        taken = {"direct": [], "quick": [], "default": []}
        for number in range(edits):
            taken["direct"].append(direct(ports["simulator"], picture, f"direct {number}"))
            taken["quick"].append(through(ports["quick"], picture, f"quick {number}"))
            # By default the first poll comes after 5 s; a few of these edits are enough.
            if number < max(3, edits // 5):
                taken["default"].append(through(ports["default"], picture, f"default {number}"))
        direct_ms = report("directly at the simulator, added", taken["direct"])
        gateway_ms = report("through the gateway, equal polls, added", taken["quick"])
        report("through the gateway, default polls, added", taken["default"])
        print(f"added by the gateway: {gateway_ms - direct_ms:+.1f} ms at the median")
        resident = Path(f"/proc/{processes[-1].pid}/status").read_text()
        print("idle memory of a gateway after a few edits:",
              next(line.split(None, 1)[1] for line in resident.splitlines() if line.startswith("VmRSS")))
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
