"""Measuring: processes on cores of their own, their cost in CPU and memory, and a table of figures and aims.

Core 0 is for the measured program, core 1 for the load and the upstream. BINARY=FILE measures another program than the
release build. PERF=FILE makes perf sample each gateway into FILE.1, FILE.2, … (perf report -i FILE.1; needs a build with
symbols: CARGO_PROFILE_RELEASE_STRIP=none).
"""

import argparse
import atexit
import hashlib
import json
import os
import re
import resource
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lib.project import give_up, release_binary, require
from lib.rig import Rig, call, free_ports

BINARY = release_binary()
MEASURED_CORE, LOAD_CORE = 0, 1
TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
PACKAGES = {"taskset": "util-linux"}
# Budgets and limits that no measurement reaches.
UNLIMITED = {
    "GATEWAY_UPSTREAM__SUBMITS_PER_MINUTE": "1000000",
    "GATEWAY_UPSTREAM__REQUESTS_PER_MINUTE": "10000000",
    "GATEWAY_UPSTREAM__CONCURRENT_PREDICTIONS": "20000",
    "GATEWAY_UPSTREAM__QUEUE_MAX": "20000",
    "GATEWAY_UPSTREAM__QUEUE_BYTES_MAX": "20000000000",
}


def prepare(*programs):
    """Gives up when a program or a core is missing, then moves this process to the core of the load."""
    for program in (*programs, "taskset"):
        if not (shutil.which(program) or Path("/usr/sbin", program).exists()):
            give_up(f"{program} is missing: apt-get install {PACKAGES.get(program, program)}")
    require(BINARY)
    if len(os.sched_getaffinity(0)) < 2:
        give_up("two cores are needed: one for what is measured, one for the load")
    os.sched_setaffinity(0, {LOAD_CORE})


def pinned(core):
    return ("taskset", "-c", str(core))


def busy_seconds(core):
    """Returns the seconds for which a core has been busy since the machine started."""
    line = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} "))
    user, nice, system, _idle, _wait, irq, softirq = map(int, line.split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS_A_SECOND


def family(pid):
    """Returns the ids of a process and its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += family(int(child))
    return found


def cpu_seconds(pid):
    """Returns user and system time of a process and its descendants so far, in steps of 0.01 s."""
    ticks = 0
    for member in family(pid):
        words = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        ticks += int(words[11]) + int(words[12])
    return ticks / TICKS_A_SECOND


def memory(pid, what="VmRSS"):
    """Returns resident bytes of a process: VmRSS now, VmHWM for the peak since `reset_peak`."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"^{what}:\s+(\d+) kB", status, re.MULTILINE)[1]) * 1024


def reset_peak(pid):
    Path(f"/proc/{pid}/clear_refs").write_text("5")


class Stopwatch:
    """Measures elapsed and CPU seconds of a process until `stop`."""

    # CPU seconds that other processes used on the measured core, and elapsed seconds, over all stopwatches.
    foreign = 0.0
    watched = 0.0

    def __init__(self, pid):
        self.pid = pid
        self.busy_before = busy_seconds(MEASURED_CORE)
        self.before = cpu_seconds(pid)
        self.began = time.monotonic()

    def stop(self):
        self.seconds = time.monotonic() - self.began
        self.cpu = cpu_seconds(self.pid) - self.before
        Stopwatch.foreign += max(0.0, busy_seconds(MEASURED_CORE) - self.busy_before - self.cpu)
        Stopwatch.watched += self.seconds
        return self


class WrkLoad:
    """Load by wrk, with one thread on the core of the load; the Lua script `lua` makes the requests.

    `ms` has the time of a request by its percentile: "50", "75", "90", "99".
    """

    def __init__(self, scratch, port, path, connections, seconds, lua):
        script = scratch.folder / "wrk.lua"
        script.write_text(lua)
        command = [*pinned(LOAD_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "--latency",
                   "-s", script, f"http://127.0.0.1:{port}{path}"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found = re.search(r"(\d+) requests in ([\d.]+)(m?s|m),", output)
        if not found:
            give_up(f"wrk did not measure:\n{output}")
        if "Non-2xx" in output or "Socket errors" in output:
            give_up(f"port {port} did not answer every request with success:\n{output}")
        self.requests = int(found[1])
        self.ms = {share: float(value) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]
                   for share, value, unit in re.findall(r"^ +(\d+)% +([\d.]+)(us|ms|s|m)$", output, re.MULTILINE)}
        self.cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


class DiscardingLoad:
    """Load by one request that is sent repeatedly on each of several connections.

    The kernel discards the bodies without copying them (MSG_TRUNC), so that large answers cost the reader little. wrk reads
    8 KB at a time, and would be the bottleneck.
    """

    READ_BYTES = 4 << 20

    def __init__(self, port, request, connections, seconds):
        before = time.process_time()
        self.requests = 0
        self.request = request
        self.buffer = memoryview(bytearray(self.READ_BYTES))
        with selectors.DefaultSelector() as selector:
            # By connection: missing bytes of the current answer.
            self.left = {}
            for _ in range(connections):
                connection = socket.create_connection(("127.0.0.1", port))
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.sendall(request)
                self.left[connection] = 0
                selector.register(connection, selectors.EVENT_READ)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                for key, _ in selector.select(timeout=1):
                    self.read(key.fileobj)
        for connection in self.left:
            connection.close()
        self.cpu = time.process_time() - before

    def read(self, connection):
        if self.left[connection]:
            got = connection.recv_into(self.buffer, min(self.left[connection], self.READ_BYTES), socket.MSG_TRUNC)
            self.left[connection] -= got
        else:
            head, gap, begun = connection.recv(4096, socket.MSG_PEEK).partition(b"\r\n\r\n")
            if not gap:
                give_up(f"the head of an answer came in pieces: {head}")
            length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
            if not head.startswith(b"HTTP/1.1 200") or not length:
                give_up(f"not a 200 with a length: {head}")
            connection.recv(len(head) + 4)
            self.left[connection] = int(length[1])
            got = len(begun)
        if not self.left[connection]:
            self.requests += 1
            connection.sendall(self.request)
        elif not got:
            give_up("a connection was closed during an answer")


class Scratch:
    """A temporary folder and the processes started with it, which all end when the script ends."""

    # Number of gateways that perf samples.
    sampled = 0

    def __init__(self, name):
        self.folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        self.processes = []
        atexit.register(self.close)

    def run(self, command, core, up):
        """Starts a server on a core and waits until `up()` raises no OSError."""
        log = self.folder / f"{Path(command[0]).name}-{len(self.processes)}.log"
        with open(log, "wb") as output:
            process = subprocess.Popen([*pinned(core), *map(str, command)], stdout=output, stderr=output)
        self.processes.append(process)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            if process.poll() is not None:
                break
            try:
                up()
                return process
            except OSError:
                time.sleep(0.01)
        return give_up(f"{command[0]} does not start:\n{log.read_text(errors='replace')[-2000:]}")

    def nginx(self, port, http):
        """Starts nginx with one worker on the measured core; `http` is the text of its http section."""
        folder = self.folder / "nginx"
        folder.mkdir()
        config = folder / "nginx.conf"
        config.write_text(f"""
user root; worker_processes 1; daemon off; pid {folder}/pid; error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s; tcp_nopush on; tcp_nodelay on;
  client_max_body_size 0;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  {http}
}}
""")
        nginx = shutil.which("nginx") or "/usr/sbin/nginx"
        return self.run([nginx, "-p", folder, "-c", config], MEASURED_CORE, lambda: call(port, "GET", "/", timeout=5))

    def upstream(self, *options):
        """Starts the quick upstream on the core of the load; returns its port."""
        port = free_ports(1)[0]
        command = [sys.executable, Path(__file__).with_name("quick_upstream.py"), "--port", port, *options]
        self.run(command, LOAD_CORE, lambda: call(port, "GET", "/_counters", timeout=5))
        return port

    def gateway(self, upstream_port, overrides=None, workers=1, core=MEASURED_CORE, through=()):
        """Starts a gateway in front of the quick upstream, on one core, or on both with `core` None; returns its rig.

        `through` is a command that executes the gateway in its own process, as strace -D and valgrind do.

        Close the rig with `keep`, so that its folder is deleted at the end of the script: for a minute ext4 skips inodes that
        were deleted (`recently_deleted`), which would slow down each file that the next gateway creates.
        """
        overrides = {"GATEWAY_UPSTREAM__BASE_URL": f"http://127.0.0.1:{upstream_port}", **UNLIMITED, **(overrides or {})}
        rig = Rig(BINARY, workers, "", overrides)
        atexit.register(rig.close, keep=False)
        rig.launch(through=(*pinned("0-1" if core is None else core), *through))
        rig.wait_until_ready()
        if "PERF" in os.environ:
            Scratch.sampled += 1
            perf = ["perf", "record", "--quiet", "-F", "999", "-g", "-p", str(rig.gateway.pid), "-o", f"{os.environ['PERF']}.{Scratch.sampled}"]
            self.processes.append(subprocess.Popen([*pinned(LOAD_CORE), *perf], stderr=subprocess.DEVNULL))
        return rig

    def close(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def form(pictures, prompt, boundary="measured", **fields):
    """Returns an edit as a multipart form, and its headers without the key."""
    fields = {"model": "gpt-image-2", "quality": "low", "size": "1024x1024", "prompt": prompt, **fields}
    body = b"".join(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
                    for name, value in fields.items())
    for number, picture in enumerate(pictures):
        body += (f'--{boundary}\r\nContent-Disposition: form-data; name="image[]"; filename="{number}.png"\r\n'
                 "Content-Type: image/png\r\n\r\n").encode() + picture + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def raw_request(path, body, headers):
    """Returns a POST as the bytes that a client sends."""
    headers = headers | {"Host": "127.0.0.1", "Content-Length": len(body)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def counters(port):
    """Returns the counters of the quick upstream."""
    return json.loads(call(port, "GET", "/_counters")[2])


def build():
    """Returns a text that identifies the measured program: its time and the beginning of its SHA-256."""
    moment = time.strftime("%Y-%m-%d %H:%M", time.gmtime(BINARY.stat().st_mtime))
    return f"of {moment} UTC, sha256 {hashlib.sha256(BINARY.read_bytes()).hexdigest()[:12]}"


def parser_of(doc, quick_help, parts=None):
    """Returns a parser of --quick and, where there are any, of the names of the parts to measure."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=quick_help)
    if parts:
        parser.add_argument("parts", nargs="*", choices=[[], *parts], help="all of them, unless some are named")
    return parser


def parse_arguments(doc, quick_help, parts=None):
    """Parses --quick and the names of the parts to measure, which are all of `parts` unless some are named."""
    arguments = parser_of(doc, quick_help, parts).parse_args()
    if parts:
        arguments.parts = arguments.parts or list(parts)
    return arguments


class Table:
    """Figures and their aims."""

    def __init__(self):
        self.missed = 0
        self.figures = {}

    def row(self, what, figure, unit, aim=None, at_least=False, key=None):
        """Prints a figure, with an aim that it must not exceed, or must reach with `at_least`; `key` names it for other scripts."""
        if key:
            self.figures[key] = figure
        verdict = ""
        if aim is not None:
            met = figure >= aim if at_least else figure <= aim
            self.missed += not met
            verdict = f"aim {'>=' if at_least else '<='} {aim:<8g} {'ok' if met else 'MISS'}"
        shown = f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"
        print(f"{what:<62} {shown:>10} {unit:<14} {verdict}".rstrip(), flush=True)

    def close(self):
        """Returns the exit code, which is 3 when an aim was missed."""
        if Stopwatch.watched:
            print(f"other processes used {Stopwatch.foreign / Stopwatch.watched:.0%} of the measured core; binary {build()}", flush=True)
        return 3 if self.missed else 0
