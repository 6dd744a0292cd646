"""Starts the program as a rendered container would: its arguments, variables, user, and a volume and a secret as the kubelet mounts
them. Its upstream is a simulator on the loopback, and its ports are free ones."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from verdicts import Wrong

USER = 65532
UPSTREAM_KEY, CLIENT_KEY = "sk-upstream-0123456789abcdef", "sk-gw-manifest-0123456789abcdef"
START_S = 20


def start(container):
    """Raises Wrong unless the program starts, answers the probes and a client, and stops in time."""
    folder = Path(tempfile.mkdtemp(prefix="manifest-"))
    running = []
    try:
        return run(container, folder, running)
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
            process.wait()
        shutil.rmtree(folder)


def run(container, folder, running):
    as_user = {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}
    group = USER if as_user else -1
    folder.chmod(0o755)
    # The program may lie where only this user can read it.
    binary = folder / "gptproto-gateway"
    shutil.copy(os.environ["BINARY"], binary)
    data, secrets = folder / "data", folder / "secrets"
    for path in (data, secrets):
        path.mkdir()
    for name, key in container["keys"].items():
        (secrets / name).write_text(key)
        (secrets / name).chmod(0o440)
        os.chown(secrets / name, -1, group)
    # As fsGroup leaves it: root's, and writable by the group.
    os.chown(data, -1, group)
    data.chmod(0o2775)
    client, operator, upstream = free_ports(3)
    variables = {name: value.replace(container["secrets"], str(secrets)).replace(":8787", f":{client}")
                 .replace(":8788", f":{operator}") for name, value in container["variables"].items()}
    variables["GATEWAY_STORAGE__DIRECTORY"] = str(data)
    if "--sandbox" not in container["arguments"]:
        variables["GATEWAY_UPSTREAM__BASE_URL"] = f"http://127.0.0.1:{upstream}"
    log = folder / "log"
    with open(os.devnull) as nothing, open(log, "wb") as output:
        running.append(subprocess.Popen([binary, "simulate", "--listen", f"127.0.0.1:{upstream}", "--key", UPSTREAM_KEY],
                                        env={}, stdin=nothing, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        wait_for(running[0], f"http://127.0.0.1:{upstream}/_simulator/counters", log)
        running.append(subprocess.Popen([binary, *container["arguments"]], env=variables, cwd="/", stdin=nothing,
                                        stdout=output, stderr=output, **as_user))
    # It is ready in the end, also where no probe asks.
    for path in [*container["probes"], "/readyz"]:
        wait_for(running[1], f"http://127.0.0.1:{operator}{path}", log)
    request = urllib.request.Request(f"http://127.0.0.1:{client}/v1/models", headers={"authorization": f"Bearer {container['client_key']}"})
    if status(request) != 200:
        raise Wrong("a client with its key gets no list of models")
    begun = time.monotonic()
    running[1].send_signal(signal.SIGTERM)
    try:
        code = running[1].wait(container["stop_s"])
    except subprocess.TimeoutExpired:
        raise Wrong(f"it has not stopped after {container['stop_s']} s") from None
    if code != 0:
        raise Wrong(f"it ended with {code}")
    return f"{' '.join(container['probes'])} are 200; stops in {time.monotonic() - begun:.0f} s"


def wait_for(process, address, log):
    deadline = time.monotonic() + START_S
    while (found := status(address)) != 200:
        if process.poll() is not None:
            lines = log.read_text().strip().splitlines()
            raise Wrong(f"exit code {process.returncode}: {lines[-1] if lines else 'nothing in the log'}")
        # An address that is not there will not come.
        if found == 404 or time.monotonic() > deadline:
            raise Wrong(f"{address.partition('/')[2].partition('/')[2].partition('/')[2]!r} answers {found}")
        time.sleep(0.05)


def status(request):
    try:
        with urllib.request.urlopen(request, timeout=2) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports
