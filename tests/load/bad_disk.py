#!/usr/bin/env python3
"""A full disk, and a disk whose syncs fail, under the real binary.

  full    the gateway's directory is a small tmpfs, which is filled once a picture has been bought: nothing more is bought,
          /readyz answers 503 with the reason, what was bought is delivered; with free space the gateway buys again.
  reserve the file system fills up below the gateway's reserve during a purchase, so that storing its picture fails: the
          purchase is not lost, and is delivered once there is free space.
  journal the disk has not one page left, so that the journal itself cannot be written: nothing is bought, /readyz answers 503
          with the reason, and with free space the same process delivers what was under way and buys again.
  sync    strace makes fsync and fdatasync fail from a moment on: nothing more is bought, /readyz and /healthz answer 503, what
          was accepted is delivered, the gateway ends with an error, and a restart without the fault knows every purchase.

Needs root (to mount a tmpfs) and strace. Exit codes: 0 passed, 1 something was lost or bought, 2 not carried out.

usage: tests/load/bad_disk.py [--binary FILE]
"""

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time

from lib.clients import Client
from lib.project import ROOT, any_binary, give_up, require
from lib.rig import Rig, call

SCENARIO = """
[life]
low_ms = [1500, 1500]
size_counts = "no"
[limits]
poll_interval_min_ms = 0
"""
RESERVE_BYTES = 8 << 20
TMPFS_BYTES = 24 << 20
failed = []


def expect(condition, what):
    print(f"  {'ok ' if condition else 'BAD'} {what}", flush=True)
    if not condition:
        failed.append(what)


def until(condition, what, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    expect(False, f"{what} (waited {seconds} s)")
    return False


def ready(rig):
    status, _, page = call(rig.operator_port, "GET", "/readyz")
    return status, page.decode()


class Background:
    """One request of a client, made in a thread."""

    def __init__(self, client, prompt):
        self.answer = None
        self.thread = threading.Thread(target=self.run, args=(client, prompt), daemon=True)
        self.thread.start()

    def run(self, client, prompt):
        self.answer = client.request(prompt, None)

    def result(self):
        self.thread.join(60)
        return self.answer


class SmallDisk:
    """The gateway's directory on a tmpfs of its own."""

    def __init__(self, rig):
        self.path = rig.directory
        self.path.mkdir(mode=0o700)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES},mode=0700", "none", self.path],
                                 capture_output=True, text=True, check=False)
        if mounted.returncode:
            give_up(f"cannot mount a tmpfs (root is needed): {mounted.stderr.strip()}")
        self.ballast = self.path / "ballast"

    def fill(self, leave):
        with open(self.ballast, "ab") as ballast:
            while True:
                disk = os.statvfs(self.path)
                free = disk.f_bavail * disk.f_frsize
                if free <= leave:
                    return
                try:
                    ballast.write(b"\0" * min(65536, free - leave))
                    ballast.flush()
                except OSError:
                    return

    def empty(self):
        self.ballast.unlink()

    def close(self):
        subprocess.run(["umount", "-l", self.path], check=False)


def full(binary):
    print("a full disk")
    rig = Rig(binary, 1, SCENARIO, {"GATEWAY_STORAGE__FREE_BYTES_MIN": str(RESERVE_BYTES)})
    disk = SmallDisk(rig)
    try:
        rig.start()
        client = Client(rig, 0, 1)
        first = Background(client, "before the disk is full")
        until(lambda: len(rig.accepted()) == 1, "the first purchase")
        disk.fill(RESERVE_BYTES // 2)
        until(lambda: ready(rig)[0] == 503, "/readyz turns to 503")
        expect("disk" in ready(rig)[1], f"/readyz gives the reason: {ready(rig)[1].strip()}")
        refused = client.request("while the disk is full", None)
        expect((refused.status, refused.code) == (503, "disk_full"), f"a new request is refused: {refused.status} {refused.code}")
        expect(first.result().status == 200, "what was bought is delivered, stored in the reserve")
        expect(len(rig.accepted()) == 1, "nothing more was bought")
        disk.empty()
        until(lambda: ready(rig)[0] == 200, "/readyz turns to 200 again")
        expect(client.request("with free space again", None).status == 200, "it buys again")
        expect(rig.stop() == 0, "it stops with exit code 0")
    finally:
        rig.close(False)
        disk.close()
        shutil.rmtree(rig.folder, ignore_errors=True)


def reserve(binary):
    print("no free space for a picture that was bought")
    # No reserve, so that the purchase is made and only storing its picture fails.
    rig = Rig(binary, 1, SCENARIO + "[pictures]\npadding_bytes = 3000000\n", {"GATEWAY_STORAGE__FREE_BYTES_MIN": "0"})
    disk = SmallDisk(rig)
    try:
        rig.start()
        client = Client(rig, 0, 2)
        first = Background(client, "no space for this picture")
        until(lambda: rig.journal_states() == ["accepted"], "the purchase is accepted")
        disk.fill(1_000_000)
        time.sleep(4)
        expect(first.answer is None, "its client still waits")
        disk.empty()
        answer = first.result()
        expect(answer is not None and answer.status == 200,
               f"with free space again it is delivered: {answer and (answer.status, answer.code)}")
        expect(len(rig.accepted()) == 1, "bought once")
    finally:
        rig.close(False)
        disk.close()
        shutil.rmtree(rig.folder, ignore_errors=True)


def journal(binary):
    print("no free space for a record of the journal")
    # No reserve, so that the journal meets the full disk.
    rig = Rig(binary, 1, SCENARIO, {"GATEWAY_STORAGE__FREE_BYTES_MIN": "0"})
    disk = SmallDisk(rig)
    try:
        rig.start()
        client = Client(rig, 0, 4)
        expect(client.request("before the disk is full", None).status == 200, "a purchase before the disk is full")
        under_way = Background(client, "under way when the disk is full")
        until(lambda: rig.journal_states().count("accepted") == 1, "the second purchase is accepted")
        disk.fill(0)
        refused = client.request("while the journal cannot be written", None)
        expect(refused.status == 503, f"a new request is refused: {refused.status} {refused.code}")
        until(lambda: ready(rig)[0] == 503, "/readyz turns to 503")
        print(f"      /readyz: {ready(rig)[1].strip()}")
        expect(len(rig.accepted()) == 2, "nothing more was bought")
        process = rig.gateway.pid
        disk.empty()
        until(lambda: ready(rig)[0] == 200, "/readyz turns to 200 again", 60)
        answer = under_way.result()
        expect(answer is not None and answer.status == 200,
               f"what was under way is delivered: {answer and (answer.status, answer.code)}")
        again = client.request("while the journal cannot be written", None)
        expect(again.status == 200, f"it buys again: {again.status} {again.code}")
        expect(rig.gateway.pid == process and rig.gateway.poll() is None, "without a restart")
        rig.kill()
        rig.start()
        for prompt in ("before the disk is full", "under way when the disk is full", "while the journal cannot be written"):
            again = client.request(prompt, 1)
            expect(again.status == 200, f"a restart knows it ({prompt}): {again.status} {again.code}")
        expect(len(rig.accepted()) == 3, f"nothing was bought twice: {len(rig.accepted())}")
    finally:
        rig.close(False)
        disk.close()
        shutil.rmtree(rig.folder, ignore_errors=True)


def sync(binary):
    print("syncs that fail")
    if shutil.which("strace") is None:
        give_up("strace is missing: apt-get install strace")
    # Long enough that the last questions are answered before the listeners close.
    rig = Rig(binary, 1, SCENARIO, {"GATEWAY_SERVER__SHUTDOWN_DELAY_S": "5"})
    try:
        rig.start()
        client = Client(rig, 0, 3)
        expect(client.request("while syncs work", None).status == 200, "a purchase while syncs work")
        first = Background(client, "bought before syncs fail")
        until(lambda: len(rig.accepted()) == 2, "the second purchase")
        until(lambda: rig.journal_states().count("accepted") == 1, "its id is journalled")
        tracer = subprocess.Popen(
            ["strace", "-f", "-q", "-o", rig.folder / "strace", "-e", "trace=fsync,fdatasync",
             "-e", "inject=fsync,fdatasync:error=EIO", "-p", str(rig.gateway.pid)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        answer = first.result()
        expect(answer is not None and answer.status == 200,
               f"what was bought is delivered: {answer and (answer.status, answer.code)}")
        refused = client.request("while syncs fail", None)
        expect(refused.status == 503, f"a new request is refused: {refused.status} {refused.code}")
        expect(ready(rig)[0] == 503, f"/readyz gives the reason: {ready(rig)[1].strip()}")
        health = call(rig.operator_port, "GET", "/healthz")[0]
        expect(health == 503, f"/healthz asks for a restart: {health}")
        expect(len(rig.accepted()) == 2, "nothing more was bought")
        code = rig.gateway.wait(30)
        expect(code == 1, f"the gateway stops by itself with an error: exit code {code}")
        tracer.wait(10)
        rig.start()
        again = client.request("bought before syncs fail", 1)
        expect(again.status == 200, f"a restart knows the purchase: {again.status} {again.code}")
        expect(len(rig.accepted()) == 2, "nothing was bought twice")
    finally:
        rig.close(False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", type=lambda text: ROOT.joinpath(text).resolve(), default=any_binary())
    binary = parser.parse_args().binary
    require(binary)
    for scene in (full, reserve, journal, sync):
        scene(binary)
    print(f"{len(failed)} checks failed" if failed else "bad disks: nothing was lost, and nothing was bought without being delivered")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
