#!/usr/bin/env python3
"""Hits of the result cache, beside nginx that serves the very same answer from a file.

The same POST, a form with a picture, goes to both in turn: to the gateway, which has the answer, and to nginx (one worker,
sendfile on and off), which reads the form, throws it away and sends a file. Both are pinned to one core, the load to the other.

  large   a picture of 2 MiB, 2.8 MB as b64_json: requests/s and CPU for each GB sent; aims beside nginx with sendfile on. The reader
          throws bodies away in the kernel, for wrk, which takes 8 KB at a time, would be what is measured
  small   a picture of 10 KB for one of 10 KB, by wrk: requests/s and CPU for each hit

Where others use the measured core too, requests/s say little and CPU says more; the last line tells how much they had.

Needs nginx and wrk (Debian: nginx, wrk), two cores and target/release/gptproto-gateway. Exits 3 when an aim is missed.

usage: tests/load/hits.py [--quick] [large|small]...
"""

import argparse
import statistics
import sys

from crash_kit import png
from measure_kit import Load, Scratch, Stopwatch, Swallow, Table, call, form, free_ports, give_up, prepare

PATH = "/v1/images/edits"
GATEWAY, SENDFILE, PLAIN = "gateway", "nginx, sendfile on", "nginx, sendfile off"
# By name: bytes of the answered picture, edge of the posted one in pixels (58: 10 KB), connections.
SETTINGS = {"large": (2 << 20, 16, 8), "small": (10_000, 58, 64)}


class Side:
    """One that answers, and what it took in each round."""

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
        """CPU seconds of a request."""
        return statistics.median(self.costs)

    def load_cost(self):
        return statistics.median(self.load_costs)


def measure(name, rounds, seconds):
    """All sides in turn; returns them with the length of the answer."""
    picture_bytes, edge, connections = SETTINGS[name]
    scratch = Scratch("hits")
    world = scratch.gateway(scratch.upstream("--latency-ms", 0, "--picture-bytes", picture_bytes))
    body, headers = form([png("hits", edge)], "the same wish")
    headers["Authorization"] = f"Bearer {world.keys[0]}"
    answers = [call(world.port, "POST", PATH, body, headers) for _ in range(2)]
    for status, heard, answer in answers:
        if status != 200:
            give_up(f"the gateway answers {status}: {answer[:500]}")
    if heard["x-gateway-cache"] != "hit" or answer != answers[0][2]:
        give_up("the second answer is not the first one from the cache")

    # Under the path of the request, for nginx refuses to POST to a file only when there is one.
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

    heads = headers | {"Host": "127.0.0.1", "Content-Length": len(body)}
    lines = "".join(f"{header}: {value}\r\n" for header, value in heads.items())
    request = f"POST {PATH} HTTP/1.1\r\n{lines}\r\n".encode() + body
    sent = scratch.folder / "request"
    sent.write_bytes(request)
    lua = f"""
        local file = io.open("{sent}", "rb"); local whole = file:read("*a"); file:close()
        request = function() return whole end"""

    def make_load(port):
        if name == "large":
            return Swallow(port, request, connections, seconds)
        return Load(scratch, port, PATH, connections, seconds, lua)

    sides = {GATEWAY: Side(world.port, world.gateway.pid), SENDFILE: Side(ports[0], nginx.pid), PLAIN: Side(ports[1], nginx.pid)}
    for _ in range(rounds):
        for side in sides.values():
            side.round(make_load)
    world.close(keep=True)
    scratch.close()
    return sides, len(answer)


def large(table, rounds, seconds):
    sides, length = measure("large", rounds, seconds)
    for name, side in sides.items():
        table.row(f"hits of 2 MiB: {name}", side.rate(), "requests/s")
        table.row(f"hits of 2 MiB: {name}", side.cost() / length * 1e9, "CPU s/GB")
    gateway, nginx = sides[GATEWAY], sides[SENDFILE]
    table.row("hits of 2 MiB: the load itself", gateway.load_cost() / length * 1e9, "CPU s/GB")
    table.row("hits of 2 MiB: requests/s of nginx's", gateway.rate() / nginx.rate(), "x", 0.8, at_least=True)
    table.row("hits of 2 MiB: bytes for each CPU second of nginx's", nginx.cost() / gateway.cost(), "x", 0.8, at_least=True)


def small(table, rounds, seconds):
    sides, _ = measure("small", rounds, seconds)
    for name in (SENDFILE, PLAIN):
        table.row(f"hits of 10 KB: {name}", sides[name].rate(), "requests/s")
        table.row(f"hits of 10 KB: {name}", sides[name].cost() * 1e6, "CPU us")
    table.row("hits of 10 KB: the load itself", sides[GATEWAY].load_cost() * 1e6, "CPU us")
    table.row(f"hits of 10 KB: {GATEWAY}", sides[GATEWAY].rate(), "requests/s", 15_000, at_least=True)
    table.row(f"hits of 10 KB: {GATEWAY}", sides[GATEWAY].cost() * 1e6, "CPU us", 60)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("what", nargs="*", choices=[[], *SETTINGS], help="both, unless one is named")
    arguments = parser.parse_args()
    prepare("nginx", "wrk")
    table = Table()
    for name in arguments.what or SETTINGS:
        (large if name == "large" else small)(table, *((1, 2) if arguments.quick else (5, 4)))
    sys.exit(table.close())


if __name__ == "__main__":
    main()
