#!/usr/bin/env python3
"""Executes a command below the confinement that a service unit asks for, as far as that works without systemd.

It takes from the unit: SystemCallFilter= with SystemCallErrorNumber=, LimitNOFILE=, UMask=. Where it is root it also makes all
file systems read-only but the writable folder and /tmp (ProtectSystem=strict), mounts /proc with processes alone (ProcSubset=pid,
ProtectProc=invisible), takes all capabilities away (CapabilityBoundingSet=), and becomes another user (User=).

Needs systemd-analyze, libseccomp and util-linux (setpriv, unshare, mount).

usage: deploy/systemd/confined.py UNIT WRITABLE_FOLDER COMMAND...
"""

import ctypes
import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

# The user and group that own nothing.
NOBODY = 65534
# Of libseccomp.
ALLOW, FAIL = 0x7FFF0000, 0x00050000
UNKNOWN = -1


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__.strip().splitlines()[-1])
    unit, writable, command = settings(Path(sys.argv[1])), sys.argv[2], sys.argv[3:]
    if os.geteuid() == 0 and "GATEWAY_CONFINED" not in os.environ:
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", "sh", "-euc", MOUNTS, "sh", writable, sys.executable, *sys.argv])
    os.environ.pop("GATEWAY_CONFINED", None)
    files = int(unit["LimitNOFILE"][-1])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = files if hard == resource.RLIM_INFINITY else min(files, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(int(unit["UMask"][-1], 8))
    if "LISTEN_PID" in os.environ:
        os.environ["LISTEN_PID"] = str(os.getpid())
    confine(allowed(unit["SystemCallFilter"]), getattr(errno, unit["SystemCallErrorNumber"][-1]))
    os.execvp(command[0], command)


# Run by a shell in a mount namespace of its own: the writable folder, then this script with its arguments.
MOUNTS = f"""
writable=$1; shift
mount --bind "$writable" "$writable"
mount --bind /tmp /tmp
findmnt -rno TARGET | while read -r at; do
  case $(printf '%b' "$at") in "$writable"|"$writable"/*|/tmp|/proc|/proc/*|/dev|/dev/*) ;; *) mount -o remount,bind,ro "$(printf '%b' "$at")" 2>/dev/null || true ;; esac
done
mount -t proc -o subset=pid,hidepid=invisible proc /proc
chown {NOBODY}:{NOBODY} "$writable"
export GATEWAY_CONFINED=1
exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""


def settings(path):
    """Returns the values of each key of a unit, in their order."""
    found = {}
    for line in path.read_text().splitlines():
        key, sign, value = line.partition("=")
        if sign and not line.startswith(("#", ";")):
            found.setdefault(key.strip(), []).append(value.strip())
    return found


def members(name):
    """Returns the system calls of a set, or the one of that name."""
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True).stdout
    names = [line.strip() for line in listed.splitlines()[1:] if line.startswith(" ") and not line.strip().startswith("#")]
    return set().union(*(members(one) for one in names if one))


def allowed(filters):
    calls = set()
    for position, text in enumerate(filters):
        named = set().union(*(members(name) for name in text.lstrip("~").split()))
        if text.startswith("~"):
            calls -= named
        else:
            calls |= named
        # systemd always allows these, with the first list of what is allowed.
        if position == 0:
            calls |= members("@default")
    return calls


def confine(calls, error):
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    filters = library.seccomp_init(FAIL | error)
    for name in sorted(calls):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number != UNKNOWN:
            # One of another architecture cannot be added, and need not.
            library.seccomp_rule_add(filters, ALLOW, number, 0)
    if library.seccomp_load(filters) != 0:
        sys.exit("the filter of system calls was not loaded")


if __name__ == "__main__":
    main()
