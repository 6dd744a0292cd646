"""Drives proxies in front of gateways. Called by check.sh, which has looked for the programs.

Each proxy has a gateway of its own, and runs twice: with the snippet, and with a control. Clients are curl processes, which reach
the proxy under the name and port of a real deployment (`--connect-to`).
"""

import argparse
import json
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import program
import settings
from verdicts import Verdicts, Wrong

HERE = Path(__file__).resolve().parent
HOST = "images.example.com"
SNIPPETS = {"nginx": "nginx.conf", "caddy": "Caddyfile", "haproxy": "haproxy.cfg", "traefik": "traefik.yaml"}
# Seconds in which the simulator makes a picture, by quality.
DURATIONS = {"high": 0.2, "low": 6, "medium": 65}
SCENARIO = "[life]\nsize_counts = \"no\"\n" + "".join(
    f"{quality}_ms = [{seconds * 1000:.0f}, {seconds * 1000:.0f}]\n" for quality, seconds in DURATIONS.items()
) + "[limits]\npoll_interval_min_ms = 50\n"
# The gateway's own limit of a body, lowered: the proxy's has to be above it.
BODY_BYTES_MAX = 30_000_000


class Rig:
    """A gateway, and a proxy in front of it."""

    def __init__(self, name, version, folder, gateway, operator, port, process):
        self.name, self.version, self.folder = name, version, folder
        self.gateway, self.operator, self.port, self.process = gateway, operator, port, process

    def curl(self, *arguments, name=HOST):
        """Returns status, version of HTTP, body and head; the status is 000 where the connection broke."""
        head = tempfile.NamedTemporaryFile(dir=self.folder, delete=False).name
        result = subprocess.run(
            ["curl", *self.options(), "-D", head, "-o", "-", "-w", "\n%{http_code} %{http_version}", *arguments],
            capture_output=True)
        body, _, numbers = result.stdout.rpartition(b"\n")
        code, version = numbers.decode().split()
        return code, version, body, Path(head).read_text().lower()

    def options(self):
        return ["-sS", "-m", "200", "--cacert", str(self.folder / "fullchain.pem"), "--connect-to",
                f"{HOST}:443:127.0.0.1:{self.port}", "-H", f"authorization: Bearer {program.CLIENT_KEY}", "-H", "expect:"]

    def edit(self, prompt, *fields, quality="high", picture="small.png", options=()):
        return self.curl(*options, *self.form(prompt, *fields, quality=quality, picture=picture))

    def form(self, prompt, *fields, quality, picture):
        values = ["model=gpt-image-1.5", f"quality={quality}", "size=1024x1024", f"prompt={prompt} {self.name} {self.port}",
                  f"image=@{self.folder.parent / picture}", *fields]
        return [part for value in values for part in ("-F", value)] + [f"https://{HOST}/v1/images/edits"]

    def metric(self, name):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.operator}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        found = re.search(rf"^gptproto_gateway_{name} (\d+)", text, re.M)
        if not found:
            raise SystemExit(f"/metrics has no {name}")
        return int(found[1])


# ---- checks: each raises Wrong, or returns what it saw

def speaks_http2(rig):
    code, version, _, _ = rig.curl("--http2", f"https://{HOST}/v1/models")
    if (code, version) != ("200", "2"):
        raise Wrong(f"{code} over HTTP/{version}")
    return "HTTP/2"


def serves_the_playground(rig):
    code, _, page, head = rig.curl("-H", "accept: text/html", f"https://{HOST}/")
    if code != "200" or "content-security-policy" not in head:
        raise Wrong(f"/ answers {code}")
    files = set(re.findall(rb'(?:src|href)="[./]*(web/[^"]+)"', page))
    for file in files:
        code, _, _, _ = rig.curl(f"https://{HOST}/{file.decode()}")
        if code != "200":
            raise Wrong(f"{file.decode()} answers {code}")
    if not files:
        raise Wrong("the page names no file")
    return f"/ and {len(files)} files"


def takes_20_mb(rig):
    seen = []
    for version in ("--http1.1", "--http2"):
        code, spoken, body, _ = rig.edit(f"large {version}", picture="20mb.png", options=[version])
        if code != "200":
            raise Wrong(f"{code} over HTTP/{spoken}: {said(body)}")
        seen.append(f"HTTP/{spoken}")
    return f"200 over {' and '.join(seen)}"


def leaves_413_to_the_gateway(rig):
    code, _, body, _ = rig.edit("too large", picture="40mb.png")
    if code != "413" or b'"error"' not in body:
        raise Wrong(f"{code}: {said(body)}")
    return json.loads(body)["error"]["code"]


def passes_uploads_on(rig):
    """The first half of an upload has to reach the gateway before the second is sent."""
    boundary = "half"
    parts = [f'--{boundary}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in
             (("model", "gpt-image-1.5"), ("quality", "high"), ("prompt", f"half {rig.name}"))]
    picture = (rig.folder.parent / "900kb.png").read_bytes()
    body = b"".join(parts) + (f'--{boundary}\r\ncontent-disposition: form-data; name="image"; filename="a.png"\r\n'
                              "content-type: image/png\r\n\r\n").encode() + picture + f"\r\n--{boundary}--\r\n".encode()
    head = (f"POST /v1/images/edits HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {program.CLIENT_KEY}\r\nconnection: close\r\n"
            f"content-type: multipart/form-data; boundary={boundary}\r\ncontent-length: {len(body)}\r\n\r\n").encode()
    context = ssl.create_default_context(cafile=rig.folder / "fullchain.pem")
    with socket.create_connection(("127.0.0.1", rig.port)) as plain, context.wrap_socket(plain, server_hostname=HOST) as stream:
        stream.settimeout(60)
        half = len(body) // 2
        stream.sendall(head + body[:half])
        # Below the control's time-outs.
        deadline = time.monotonic() + 2
        while not (arrived := rig.metric("engine_spool_reserved_bytes")) and time.monotonic() < deadline:
            time.sleep(0.05)
        stream.sendall(body[half:])
        status = stream.makefile("rb").readline().decode().strip()
    if not arrived:
        raise Wrong("the gateway has nothing of the first half")
    if " 200" not in status:
        raise Wrong(status)
    return "the gateway reads the first half before the second is sent"


def streams(rig):
    """The first event has to arrive well before the end of a stream."""
    reading = subprocess.Popen(["curl", *rig.options(), "-N", *rig.form("stream", "stream=true", quality="low", picture="small.png")],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    first = reading.stdout.readline()
    begun = time.monotonic()
    rest = reading.stdout.read()
    seconds = time.monotonic() - begun
    reading.wait()
    if b"completed" not in rest:
        raise Wrong(f"no picture: {said(first + rest)}")
    if seconds < DURATIONS["low"] / 2:
        raise Wrong(f"the first event came {seconds:.1f} s before the end")
    return f"the first event comes {seconds:.1f} s before the end"


def waits_for_the_picture(quality):
    def check(rig):
        begun = time.monotonic()
        code, _, body, _ = rig.edit("long", quality=quality)
        if code != "200":
            raise Wrong(f"{code} after {time.monotonic() - begun:.0f} s: {said(body)}")
        return f"200 after {time.monotonic() - begun:.0f} s"
    return check


def names_the_public_address(rig):
    code, _, body, _ = rig.edit("address", "response_format=url")
    if code != "200":
        raise Wrong(f"{code}: {said(body)}")
    url = json.loads(body)["data"][0]["url"]
    if not url.startswith(f"https://{HOST}/"):
        raise Wrong(url[:60])
    code, _, picture, _ = rig.curl(url)
    if code != "200" or not picture.startswith(b"\x89PNG"):
        raise Wrong(f"the address answers {code}")
    return f"{url[:30]}…, 200"


def replaces_what_clients_say(rig):
    code, _, body, _ = rig.edit("forged", "response_format=url",
                                options=["-H", "x-forwarded-host: evil.example", "-H", "x-forwarded-proto: http"])
    if code != "200" or not json.loads(body)["data"][0]["url"].startswith(f"https://{HOST}/"):
        raise Wrong(f"{code}: {said(body)}")
    return "forged X-Forwarded-* are replaced"


def keeps_connections(rig):
    before = rig.metric('connections_accepted_total{listener="clients"}'.replace("{", r"\{").replace("}", r"\}"))
    for _ in range(10):
        rig.curl(f"https://{HOST}/v1/models")
    opened = rig.metric(r'connections_accepted_total\{listener="clients"\}') - before
    if opened > 3:
        raise Wrong(f"{opened} connections for 10 requests")
    return f"{opened} new connections for 10 requests"


def said(body):
    """Returns the beginning of a body as text, without tags."""
    return " ".join(re.sub(rb"<[^>]*>", b" ", body).decode(errors="replace").split())[:60] or "nothing"


# What each control has to fail at. Caddy and HAProxy have less to get wrong by default, and of a body that both Caddy and the gateway refuse
# either may be first.
CONTROLS = {
    "nginx": {"HTTP/2", "20 MB", "413", "upload", "stream", "long", "address", "forged", "connections"},
    "caddy": {"20 MB", "long", "address", "connections"},
    "haproxy": {"HTTP/2", "long", "address", "forged", "connections"},
    "traefik": set(),
}


def checks(whole):
    long = "medium" if whole else "low"
    return [
        ("HTTP/2", "HTTP/2 to the proxy", speaks_http2),
        ("playground", "the playground", serves_the_playground),
        ("20 MB", "an edit of 20 MB", takes_20_mb),
        ("413", "a body above server.body_bytes_max", leaves_413_to_the_gateway),
        ("upload", "an upload is passed on as it arrives", passes_uploads_on),
        ("stream", "a stream is passed on as it comes", streams),
        ("long", f"an edit of {DURATIONS[long]} s", waits_for_the_picture(long)),
        ("address", "addresses of results", names_the_public_address),
        ("forged", "forged addresses", replaces_what_clients_say),
        ("connections", "connections to the gateway stay open", keeps_connections),
    ]


# ---- the snippets' figures, without a proxy

# Where a snippet has its figures: a longest body in bytes, a longest time without an answer, and how long an idle connection stays.
FIGURES = {
    "nginx": (r"client_max_body_size (\d+)m", 2**20, r"proxy_read_timeout (\d+)s", r"keepalive_timeout (\d+)s"),
    "caddy": (r"max_size (\d+)MB", 10**6, r"response_header_timeout (\d+)s", r"keepalive (\d+)s"),
    "haproxy": (None, 0, r"timeout server (\d+)s", r"timeout http-keep-alive (\d+)s"),
    "traefik": (None, 0, r"responseHeaderTimeout: (\d+)s", r"idleConnTimeout: (\d+)s"),
}


def check_figures(subject):
    """Holds the figures of a snippet to the gateway's limits."""
    name, text, limits = subject["name"], subject["text"], subject["limits"]
    body, unit, answer, idle = FIGURES[name]
    if body and int(re.search(body, text)[1]) * unit <= limits["body_bytes_max"]:
        raise Wrong("its longest body is not above server.body_bytes_max")
    if int(re.search(answer, text)[1]) <= max(limits["response_timeout_s"], limits["streamed_response_timeout_s"]):
        raise Wrong("its time-out is not above server.response_timeout_s and streamed_response_timeout_s")
    if int(re.search(idle, text)[1]) >= limits["keep_alive_timeout_s"]:
        raise Wrong("it keeps connections longer than server.keep_alive_timeout_s")
    return "fit"


def figures(verdicts):
    for name, file in SNIPPETS.items():
        subject = {"name": name, "text": (HERE / file).read_text(), "limits": dict(settings.DEFAULTS["server"])}
        changes = {"response_timeout_s": 3600, "keep_alive_timeout_s": 30} | ({"body_bytes_max": 2 * 10**9} if FIGURES[name][0] else {})
        verdicts.check(f"{name}: figures of {file}", "config/default.toml", check_figures, subject, [
            (f"server.{key} = {value}", lambda one, key=key, value=value: one["limits"].update({key: value}))
            for key, value in changes.items()])


# ---- programs

def start(running, lock, command, log, variables=None):
    with open(log, "ab") as output:
        process = subprocess.Popen([str(part) for part in command], env=variables, stdin=subprocess.DEVNULL, stdout=output,
                                   stderr=output)
    with lock:
        running.append(process)
    return process


def adapted(name, text, gateway, port, folder):
    """Returns a configuration of the proxy with the test's ports and certificate in place of a deployment's."""
    text = text.replace("127.0.0.1:8787", f"127.0.0.1:{gateway}").replace("/etc/ssl/images.example.com", str(folder))
    if name == "nginx":
        text = re.sub(r"listen \[::\]:443.*\n", "", text).replace("listen 443", f"listen 127.0.0.1:{port}")
        return (f"daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log stderr;\nevents {{}}\nhttp {{\naccess_log off;\n"
                + "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
                + text + "}\n")
    if name == "caddy":
        site = f"https://{HOST}:{port} {{\n\tbind 127.0.0.1\n\ttls {folder}/fullchain.pem {folder}/privkey.pem"
        return "{\n\tadmin off\n\tauto_https disable_redirects\n}\n" + text.replace(f"{HOST} {{", site)
    if name == "haproxy":
        return text.replace("bind :443", f"bind 127.0.0.1:{port}")
    static, _, dynamic = text.partition("\n---\n")
    (folder / "gateway.yaml").write_text(
        dynamic.replace("tls:\n        certResolver: default", "tls: {}") +
        f"tls:\n  certificates:\n    - certFile: {folder}/fullchain.pem\n      keyFile: {folder}/privkey.pem\n")
    return (static.partition("certificatesResolvers:")[0].replace('":443"', f'"127.0.0.1:{port}"')
            + f"providers:\n  file:\n    filename: {folder}/gateway.yaml\n")


def commands(name, file):
    """Returns the command that checks a configuration, or None, and the one that runs the proxy."""
    return {
        "nginx": (["nginx", "-t", "-c", file], ["nginx", "-c", file]),
        "caddy": (["caddy", "validate", "--adapter", "caddyfile", "--config", file],
                  ["caddy", "run", "--adapter", "caddyfile", "--config", file]),
        "haproxy": (["haproxy", "-c", "-f", file], ["haproxy", "-db", "-f", file]),
        "traefik": (None, ["traefik", f"--configFile={file}"]),
    }[name]


def version_of(name):
    command = {"nginx": ["nginx", "-v"], "caddy": ["caddy", "version"], "haproxy": ["haproxy", "-v"],
               "traefik": ["traefik", "version"]}[name]
    result = subprocess.run(command, capture_output=True, text=True)
    return f"{name} {re.search(r'[0-9]+[.][0-9.]+', result.stdout + result.stderr)[0]}"


def drive(name, whole, folder, simulator, running, lock):
    """Returns the rows of a proxy: thing, tool, verdict, whether it is good."""
    rows, version = [], version_of(name)
    client, operator, *ports = program.free_ports(4)
    folder = folder / name
    folder.mkdir()
    for file in ("fullchain.pem", "privkey.pem", "haproxy.pem"):
        shutil.copy(folder.parent / file, folder)
    gateway = start(running, lock, [os.environ["BINARY"], "serve"], folder / "gateway.log", {
        "GPTPROTO_API_KEY": program.UPSTREAM_KEY, "GATEWAY_CLIENT_KEYS": f"app:{program.CLIENT_KEY}",
        "GATEWAY_UPSTREAM__BASE_URL": f"http://127.0.0.1:{simulator}", "GATEWAY_SERVER__LISTEN": f"127.0.0.1:{client}",
        "GATEWAY_OPERATOR__LISTEN": f"127.0.0.1:{operator}", "GATEWAY_STORAGE__DIRECTORY": str(folder / "data"),
        # Without server.public_url, so that what the proxy says decides on the addresses of results.
        "GATEWAY_SERVER__HOSTS": HOST, "GATEWAY_SERVER__BODY_BYTES_MAX": str(BODY_BYTES_MAX),
        "GATEWAY_SERVER__STREAM_HEARTBEAT_MS": "1000", "GATEWAY_UPSTREAM__LATENCY_PRIORS": "off",
        "GATEWAY_UPSTREAM__FIRST_POLL_MS": "100", "GATEWAY_UPSTREAM__POLL_INTERVAL_MIN_MS": "100",
        "GATEWAY_UPSTREAM__POLL_INTERVAL_MAX_MS": "300", "GATEWAY_SERVER__SHUTDOWN_DELAY_S": "0"})
    program.wait_for(gateway, f"http://127.0.0.1:{operator}/readyz", folder / "gateway.log")
    for kind, port in zip(("snippet", "control"), ports):
        source = HERE / (SNIPPETS[name] if kind == "snippet" else f"controls/{SNIPPETS[name]}")
        if not source.exists():
            continue
        text = source.read_text()
        if kind == "control" and whole:
            text = text.replace("        proxy_read_timeout 3s;\n", "").replace("timeout client 3s", "timeout client 50000")
            text = text.replace("timeout server 3s", "timeout server 50000")
        file = folder / f"{kind}-{source.name}"
        file.write_text(adapted(name, text, client, port, folder))
        if kind == "snippet" and (checking := commands(name, file)[0]):
            result = subprocess.run([str(part) for part in checking], capture_output=True, text=True)
            # HAProxy exits with 0 and warns.
            warnings = re.findall(r"^.*(?:\[(?:WARNING|ALERT|warn|emerg)\]|WARN).*$", result.stdout + result.stderr, re.M)
            rows.append((f"{name}: {source.name}", version, "valid" if result.returncode == 0 and not warnings else
                         f"WRONG: {(warnings or [result.stderr])[0][:200]}", result.returncode == 0 and not warnings))
        environment = os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)}
        process = start(running, lock, commands(name, file)[1], folder / f"{kind}.log", environment)
        rig = Rig(f"{name}-{kind}", version, folder, client, operator, port, process)
        wait_for_port(rig, folder / f"{kind}.log")
        for key, thing, check in checks(whole):
            if kind == "control" and key not in CONTROLS[name]:
                continue
            try:
                seen, good = check(rig), kind == "snippet"
            except Wrong as wrong:
                seen, good = str(wrong), kind == "control"
            if kind == "snippet":
                rows.append((f"{name}: {thing}", version, seen if good else f"WRONG: {seen}", good))
            else:
                rows.append((f"  control: {thing}", version, f"fails: {seen}" if good else f"NOT NOTICED: {seen}", good))
    return rows


def wait_for_port(rig, log):
    deadline = time.monotonic() + 10
    while rig.curl(f"https://{HOST}/v1/models")[0] == "000":
        if rig.process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{rig.name} does not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)


def png(path, side):
    """Writes a picture of noise, three bytes a pixel."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = b"".join(b"\0" + os.urandom(3 * side) for _ in range(side))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
                     + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b""))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("proxies", nargs="+", choices=SNIPPETS)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="proxies-"))
    running, lock = [], threading.Lock()
    try:
        for name, side in (("small.png", 64), ("900kb.png", 547), ("20mb.png", 2600), ("40mb.png", 3700)):
            png(folder / name, side)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", folder / "privkey.pem", "-out",
                        folder / "fullchain.pem"], check=True, capture_output=True)
        (folder / "haproxy.pem").write_text((folder / "fullchain.pem").read_text() + (folder / "privkey.pem").read_text())
        (folder / "scenario.toml").write_text(SCENARIO)
        [port] = program.free_ports(1)
        simulator = start(running, lock, [os.environ["BINARY"], "simulate", "--listen", f"127.0.0.1:{port}", "--key",
                                          program.UPSTREAM_KEY, "--scenario", folder / "scenario.toml"], folder / "simulator.log", {})
        program.wait_for(simulator, f"http://127.0.0.1:{port}/_simulator/counters", folder / "simulator.log")
        verdicts = Verdicts()
        figures(verdicts)
        with ThreadPoolExecutor(len(asked.proxies)) as pool:
            for rows in pool.map(lambda name: drive(name, asked.whole, folder, port, running, lock), asked.proxies):
                for row in rows:
                    verdicts.row(*row)
        if "traefik" not in asked.proxies:
            verdicts.row("traefik: traefik.yaml", "none", "not driven: it is not installed")
        verdicts.close()
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
