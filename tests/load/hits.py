#!/usr/bin/env python3
"""Hits of the result cache, compared with a bare server and with nginx sending the same answer from a file.

The same POST, a form with a picture, goes in turn to the gateway, which has the answer, to nginx (one worker, sendfile on
and off), which reads the form, discards it and sends a file, and, where it is small, to a bare server (benches/bare), which
reads the form in one pass, computes the digest of the picture and answers with the stored one. All are pinned to one core, the
load to the other.

  large   a picture of 2 MiB, 2.8 MB as b64_json: requests/s and CPU for each GB sent; aims relative to nginx with sendfile on.
          The kernel discards the bodies for the reader, because wrk, which reads 8 KB at a time, would be the bottleneck
  small   a picture of 10 KB for one of 10 KB, by wrk: requests/s and CPU for each hit; aim relative to the bare server

Where other processes use the measured core too, CPU is the better figure; the last line says what share they used.
`instructions.py hit` counts the instructions of small hits, which no other process changes.

Needs nginx and wrk (Debian: nginx, wrk), cargo, two cores and target/release/gptproto-gateway. Exits 3 when an aim is missed.

usage: tests/load/hits.py [--quick] [large|small]...
"""

import statistics
import sys

from lib.bare import Bare, answer_options
from lib.measuring import DiscardingLoad, Scratch, Stopwatch, Table, WrkLoad, form, parse_arguments, prepare, raw_request
from lib.pictures import png
from lib.project import give_up
from lib.rig import call, free_ports

PATH = "/v1/images/edits"
GATEWAY, BARE, SENDFILE, PLAIN = "gateway", "bare server", "nginx, sendfile on", "nginx, sendfile off"
# By name: bytes of the answered picture, edge of the posted one in pixels (58: 10 KB), connections.
SETTINGS = {"large": (2 << 20, 16, 8), "small": (10_000, 58, 64)}


class Server:
    """A server, and its figures of each round."""

    def __init__(self, port, pid):
        self.port, self.pid = port, pid
        self.rates, self.costs, self.load_costs = [], [], []

    def round(self, make_load):
        watch = Stopwatch(self.pid)
        load = make_load(self.port)
        watch.stop()
        self.rates.append(load.requests / watch.seconds)
        self.costs.append(watch.cpu / load.requests)
        self.load_costs.append(load.cpu / load.requests)

    def rate(self):
        return statistics.median(self.rates)

    def cost(self):
        """Returns CPU seconds of a request."""
        return statistics.median(self.costs)

    def load_cost(self):
        return statistics.median(self.load_costs)


def measure(name, rounds, seconds):
    """Measures all servers in turn; returns them and the length of the answer."""
    picture_bytes, edge, connections = SETTINGS[name]
    scratch = Scratch("hits")
    rig = scratch.gateway(scratch.upstream("--latency-ms", 0, "--picture-bytes", picture_bytes))
    picture = png("hits", edge)
    body, headers = form([picture], "the same prompt")
    headers["Authorization"] = f"Bearer {rig.keys[0]}"
    answers = [call(rig.port, "POST", PATH, body, headers) for _ in range(2)]
    for status, received, answer in answers:
        if status != 200:
            give_up(f"the gateway answers {status}: {answer[:500]}")
    if received["x-gateway-cache"] != "hit" or answer != answers[0][2]:
        give_up("the second answer is not the first one from the cache")

    # At the path of the request: nginx answers a POST with 405, and so with error_page, only where a file exists.
    file = scratch.folder / "www" / PATH[1:]
    file.parent.mkdir(parents=True)
    file.write_bytes(answer)
    ports = free_ports(2)
    common = f"root {scratch.folder}/www; default_type application/json; error_page 405 =200 {PATH}; location = / {{ return 204; }}"
    nginx = scratch.nginx(ports[0], f"""
        server {{ listen 127.0.0.1:{ports[0]}; sendfile on; {common} }}
        server {{ listen 127.0.0.1:{ports[1]}; sendfile off; {common} }}""")
    for port in ports:
        if call(port, "POST", PATH, body, headers)[2] != answer:
            give_up("nginx does not serve what the gateway answered")

    request = raw_request(PATH, body, headers)
    sent = scratch.folder / "request"
    sent.write_bytes(request)
    lua = f"""
        local file = io.open("{sent}", "rb"); local whole = file:read("*a"); file:close()
        request = function() return whole end"""

    def make_load(port):
        if name == "large":
            return DiscardingLoad(port, request, connections, seconds)
        return WrkLoad(scratch, port, PATH, connections, seconds, lua)

    servers = {GATEWAY: Server(rig.port, rig.gateway.pid)}
    if name == "small":
        posted = scratch.folder / "picture"
        posted.write_bytes(picture)
        bare = Bare(scratch, "hits", (*answer_options(scratch, answers[1][1], answer), "--picture", posted))
        if call(bare.port, "POST", PATH, body, headers)[2] != answer:
            give_up("the bare server does not serve what the gateway answered")
        servers[BARE] = Server(bare.port, bare.pid)
    servers |= {SENDFILE: Server(ports[0], nginx.pid), PLAIN: Server(ports[1], nginx.pid)}
    for _ in range(rounds):
        for server in servers.values():
            server.round(make_load)
    rig.close(keep=True)
    scratch.close()
    return servers, len(answer)


def large(table, rounds, seconds):
    servers, length = measure("large", rounds, seconds)
    for name, server in servers.items():
        table.row(f"hits of 2 MiB: {name}", server.rate(), "requests/s")
        table.row(f"hits of 2 MiB: {name}", server.cost() / length * 1e9, "CPU s/GB")
    gateway, nginx = servers[GATEWAY], servers[SENDFILE]
    table.row("hits of 2 MiB: the load itself", gateway.load_cost() / length * 1e9, "CPU s/GB")
    table.row("hits of 2 MiB: requests/s of nginx's", gateway.rate() / nginx.rate(), "x", 0.8, at_least=True)
    table.row("hits of 2 MiB: bytes for each CPU second of nginx's", nginx.cost() / gateway.cost(), "x", 0.8, at_least=True)


def small(table, rounds, seconds):
    servers, _ = measure("small", rounds, seconds)
    for name, server in servers.items():
        table.row(f"hits of 10 KB: {name}", server.rate(), "requests/s")
        table.row(f"hits of 10 KB: {name}", server.cost() * 1e6, "CPU us")
    gateway, bare = servers[GATEWAY], servers[BARE]
    table.row("hits of 10 KB: the load itself", gateway.load_cost() * 1e6, "CPU us")
    table.row("hits of 10 KB: CPU of the bare server's", gateway.cost() / bare.cost(), "x", 1.6, key="hit_cpu")


def main():
    arguments = parse_arguments(__doc__, "one short round", SETTINGS)
    prepare("nginx", "wrk")
    table = Table()
    for name in arguments.parts:
        (large if name == "large" else small)(table, *((1, 2) if arguments.quick else (5, 4)))
    sys.exit(table.close())


if __name__ == "__main__":
    main()
