#!/usr/bin/env python3
"""Runs a command and kills it at the k-th system call that changes something outside of its memory.

strace (inject=…:signal=SIGKILL:when=k) counts each thread and each kind of call separately, so that it cannot name one
point of a program with several threads. This tracer has one count for all threads and kinds. The kill falls on the entry
of the call: the call is not made, and everything counted before it was.

Counting begins with the start of the command, or with SIGUSR1 when --armed-by-signal is given. Each counted call is a
line in the file --calls: its number, name, thread and file. Linux 5.3 or newer, x86_64 or aarch64.

usage: tracer.py [--kill-at K] [--armed-by-signal] --calls FILE -- COMMAND …
"""

import argparse
import ctypes
import os
import platform
import re
import signal
import sys

# The calls that count, by number.
CALLS = {
    "x86_64": {1: "write", 18: "pwrite64", 20: "writev", 42: "connect", 44: "sendto", 46: "sendmsg", 48: "shutdown",
               74: "fsync", 75: "fdatasync", 77: "ftruncate", 82: "rename", 83: "mkdir", 87: "unlink", 257: "openat",
               258: "mkdirat", 263: "unlinkat", 264: "renameat", 265: "linkat", 316: "renameat2"},
    "aarch64": {64: "write", 68: "pwrite64", 66: "writev", 203: "connect", 206: "sendto", 211: "sendmsg", 210: "shutdown",
                82: "fsync", 83: "fdatasync", 46: "ftruncate", 56: "openat", 34: "mkdirat", 35: "unlinkat",
                38: "renameat", 37: "linkat", 276: "renameat2"},
}
BY_DESCRIPTOR = {"write", "pwrite64", "writev", "connect", "sendto", "sendmsg", "shutdown", "fsync", "fdatasync", "ftruncate"}
# Opening without O_CREAT or O_TRUNC changes nothing.
O_CREAT, O_TRUNC = os.O_CREAT, os.O_TRUNC

PTRACE_SYSCALL, PTRACE_SEIZE, PTRACE_LISTEN, PTRACE_GET_SYSCALL_INFO = 24, 0x4206, 0x4208, 0x420E
TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, EXITKILL = 1, 2, 4, 8, 0x100000
EVENT_STOP, SYSCALL_ENTRY, WALL = 128, 1, 0x40000000


class SyscallInfo(ctypes.Structure):
    _fields_ = [("op", ctypes.c_uint8), ("pad", ctypes.c_uint8 * 3), ("arch", ctypes.c_uint32), ("ip", ctypes.c_uint64),
                ("sp", ctypes.c_uint64), ("number", ctypes.c_uint64), ("arguments", ctypes.c_uint64 * 6)]


libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request, thread, address=None, data=None):
    """Returns False when the thread has ended, which is normal after a kill."""
    if libc.ptrace(request, thread, address, data) >= 0:
        return True
    error = ctypes.get_errno()
    if error == 3:  # ESRCH
        return False
    raise OSError(error, f"ptrace({request}): {os.strerror(error)}; it needs the right to trace its own children")


class Tracer:
    def __init__(self, command, kill_at, armed, lines):
        self.calls = CALLS.get(platform.machine()) or sys.exit(f"the numbers of system calls on {platform.machine()} are not known here")
        self.kill_at, self.armed, self.lines, self.count = kill_at, armed, lines, 0
        self.pid = os.fork()
        if self.pid == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
            os.execv(command[0], command)
        os.waitpid(self.pid, os.WUNTRACED)
        ptrace(PTRACE_SEIZE, self.pid, None, TRACESYSGOOD | TRACEFORK | TRACEVFORK | TRACECLONE | EXITKILL)
        os.kill(self.pid, signal.SIGCONT)

    def arm(self, *_):
        self.armed = True

    def run(self):
        """Traces the command to its end; returns its wait status."""
        while True:
            try:
                thread, status = os.waitpid(-1, WALL)
            except ChildProcessError:
                return 0
            if os.WIFEXITED(status) or os.WIFSIGNALED(status):
                if thread == self.pid:
                    return status
                continue
            self.resume(thread, os.WSTOPSIG(status), status >> 16)

    def resume(self, thread, stopped_by, event):
        deliver = 0
        if stopped_by == signal.SIGTRAP | 0x80:
            if self.armed:
                self.count_call(thread)
        elif event == EVENT_STOP and stopped_by in (signal.SIGSTOP, signal.SIGTSTP):
            ptrace(PTRACE_LISTEN, thread)
            return
        elif event == 0:
            deliver = stopped_by
        ptrace(PTRACE_SYSCALL, thread, None, deliver)

    def count_call(self, thread):
        info = SyscallInfo()
        if not ptrace(PTRACE_GET_SYSCALL_INFO, thread, ctypes.sizeof(info), ctypes.addressof(info)) or info.op != SYSCALL_ENTRY:
            return
        name = self.calls.get(info.number)
        if name is None or (name == "openat" and not info.arguments[2] & (O_CREAT | O_TRUNC)):
            return
        file = self.file_of(info.arguments[0]) if name in BY_DESCRIPTOR else "-"
        # Wake-ups of the event loop, and log lines.
        if "eventfd" in file or info.arguments[0] in (1, 2) and name == "write":
            return
        self.count += 1
        try:
            with open(f"/proc/{thread}/comm") as comm:
                named = comm.read().strip().replace(" ", "_")
        except OSError:
            named = "?"
        print(self.count, name, named, file, file=self.lines, flush=True)
        if self.count == self.kill_at:
            os.kill(self.pid, signal.SIGKILL)

    def file_of(self, descriptor):
        try:
            target = os.readlink(f"/proc/{self.pid}/fd/{descriptor}")
            name = re.sub(r":\[(\d+)\]$", "", os.path.basename(target))  # sockets without their number
            return re.sub(r"^\.tmp.*", "temporary", name).replace(" ", "_") or "-"
        except OSError:
            return "-"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kill-at", type=int, default=0)
    parser.add_argument("--armed-by-signal", action="store_true")
    parser.add_argument("--calls", type=argparse.FileType("w"), required=True)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    tracer = Tracer(arguments.command, arguments.kill_at, not arguments.armed_by_signal, arguments.calls)
    signal.signal(signal.SIGUSR1, tracer.arm)
    signal.signal(signal.SIGTERM, lambda *_: os.kill(tracer.pid, signal.SIGTERM))
    status = tracer.run()
    sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    main()
