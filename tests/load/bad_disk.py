#!/usr/bin/env python3
"""A disk that is full, and a disk whose syncs fail, under the real binary.

  full    the gateway's directory is a small tmpfs. Once a picture has been bought the rest of it is filled: nothing more
          is bought and /readyz says so; what was bought is delivered; with the room back it goes on by itself.
  reserve the same, but the file system fills up below the gateway's reserve in the midst of a purchase, so that storing
          its picture fails: the purchase is not lost, and is delivered once there is room.
  sync    strace makes fsync and fdatasync fail from a moment on: nothing more is bought, /readyz says so, what was
          accepted is delivered, and a restart without the fault knows every purchase.

Needs root (to mount a tmpfs) and strace. Exit codes: 0 well, 1 something was lost or bought, 2 it could not be tried.

usage: tests/load/bad_disk.py [--binary FILE]
"""

import argparse
import os
import shutil
import subprocess
import sys
import threading
import time

from crash_kit import ROOT, Client, World, call, default_binary, give_up

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


def ready(world):
    status, _, page = call(world.operator_port, "GET", "/readyz")
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

    def __init__(self, world):
        self.path = world.directory
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
    world = World(binary, 1, SCENARIO, {"GATEWAY_STORAGE__FREE_BYTES_MIN": str(RESERVE_BYTES)})
    disk = SmallDisk(world)
    try:
        world.start()
        client = Client(world, 0, 1)
        first = Background(client, "before the disk is full")
        until(lambda: len(world.accepted()) == 1, "the first purchase")
        disk.fill(RESERVE_BYTES // 2)
        until(lambda: ready(world)[0] == 503, "/readyz turns to 503")
        expect("disk" in ready(world)[1], f"/readyz says why: {ready(world)[1].strip()}")
        refused = client.request("while the disk is full", None)
        expect((refused.status, refused.code) == (503, "disk_full"), f"a new request is refused: {refused.status} {refused.code}")
        expect(first.result().status == 200, "what was bought is delivered from the reserve")
        expect(len(world.accepted()) == 1, "nothing more was bought")
        disk.empty()
        until(lambda: ready(world)[0] == 200, "/readyz turns to 200 again")
        expect(client.request("with room again", None).status == 200, "and it buys again")
        expect(world.stop() == 0, "it stops well")
    finally:
        world.close(False)
        disk.close()
        shutil.rmtree(world.folder, ignore_errors=True)


def reserve(binary):
    print("no room for a picture that was bought")
    # No reserve at all, so that the purchase is begun and only its picture finds no room.
    world = World(binary, 1, SCENARIO + "[pictures]\npadding_bytes = 3000000\n", {"GATEWAY_STORAGE__FREE_BYTES_MIN": "0"})
    disk = SmallDisk(world)
    try:
        world.start()
        client = Client(world, 0, 2)
        first = Background(client, "no room for me")
        until(lambda: world.journal_states() == ["accepted"], "the purchase is accepted")
        disk.fill(1_000_000)
        time.sleep(4)
        expect(first.answer is None, "its client still waits")
        disk.empty()
        answer = first.result()
        expect(answer is not None and answer.status == 200,
               f"with room again it is delivered: {answer and (answer.status, answer.code)}")
        expect(len(world.accepted()) == 1, "bought once")
    finally:
        world.close(False)
        disk.close()
        shutil.rmtree(world.folder, ignore_errors=True)


def sync(binary):
    print("syncs that fail")
    if shutil.which("strace") is None:
        give_up("strace is missing: apt-get install strace")
    world = World(binary, 1, SCENARIO)
    try:
        world.start()
        client = Client(world, 0, 3)
        expect(client.request("while syncs work", None).status == 200, "a purchase while syncs work")
        first = Background(client, "bought before syncs fail")
        until(lambda: len(world.accepted()) == 2, "the second purchase")
        until(lambda: world.journal_states().count("accepted") == 1, "its id is journalled")
        saboteur = subprocess.Popen(
            ["strace", "-f", "-q", "-o", world.folder / "strace", "-e", "trace=fsync,fdatasync",
             "-e", "inject=fsync,fdatasync:error=EIO", "-p", str(world.gateway.pid)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        answer = first.result()
        expect(answer is not None and answer.status == 200,
               f"what was bought is delivered: {answer and (answer.status, answer.code)}")
        refused = client.request("while syncs fail", None)
        expect(refused.status == 503, f"a new request is refused: {refused.status} {refused.code}")
        expect(ready(world)[0] == 503, f"/readyz says why: {ready(world)[1].strip()}")
        expect(len(world.accepted()) == 2, "nothing more was bought")
        world.kill()
        saboteur.wait(10)
        world.start()
        again = client.request("bought before syncs fail", 1)
        expect(again.status == 200, f"a restart knows the purchase: {again.status} {again.code}")
        expect(len(world.accepted()) == 2, "and bought nothing twice")
    finally:
        world.close(False)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", type=lambda text: ROOT.joinpath(text).resolve(), default=default_binary())
    binary = parser.parse_args().binary
    if not binary.exists():
        give_up(f"{binary} is missing: run cargo build --release")
    for story in (full, reserve, sync):
        story(binary)
    print(f"{len(failed)} things went wrong" if failed else "bad disks: nothing was lost and nothing bought in vain")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
