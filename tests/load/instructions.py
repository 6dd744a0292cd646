#!/usr/bin/env python3
"""Instructions of a hit and of a whole edit, beside those of the bare servers (benches/bare), counted by callgrind.

Clock times of a busy machine differ by half from hour to hour; the same requests take the same instructions everywhere. All
servers run one after the other under valgrind, are warm when counting begins, and receive the same requests: a form with a
picture of 10 KB, answered with one of 10 KB. The kernel's instructions are not counted. Callgrind counts every byte of a
`rep movsb` as one instruction.

  hit    the answer is stored: requests one after the other
  edit   every request is another: eight at once, so that records share a commit as they do under load. What the gateway does
         some times a second, such as to learn generation times, has a larger share here than at full speed

Needs valgrind, cargo, two cores and target/release/gptproto-gateway. With --tree, prints the functions that contain most, which
needs a program with symbols. Exits 3 when an aim is missed.

usage: tests/load/instructions.py [--quick] [--tree N] [hit|edit]...
"""

import asyncio
import sys

from lib.bare import Bare, answer_options
from lib.callgrind import Counting, require_callgrind, under_callgrind
from lib.http_client import Pool
from lib.measuring import Scratch, Table, form, parser_of, prepare, raw_request
from lib.pictures import png
from lib.project import give_up
from lib.rig import call

PATH = "/v1/images/edits"
# Of each posted and each answered picture.
PICTURE_BYTES = 10_000
EDGE = 58
NUMBER = b"0000000000"
POLLS = {
    "GATEWAY_UPSTREAM__FIRST_POLL_MS": "100",
    "GATEWAY_UPSTREAM__POLL_INTERVAL_MIN_MS": "10",
    "GATEWAY_UPSTREAM__POLL_INTERVAL_MAX_MS": "1000",
}
OWN_MS = 100


async def send(port, head, tail, numbers, at_once):
    """Sends a request for each number."""
    pool, gate = Pool(port), asyncio.Semaphore(at_once)

    async def one(number):
        async with gate:
            await pool.send(b"%s%010d%s" % (head, number, tail))

    await asyncio.gather(*(one(number) for number in numbers))
    pool.close()


def measure(kind, requests, functions):
    """Returns the instructions of a request of the gateway and of the bare server, and the trees of both."""
    scratch = Scratch("instructions")
    upstream = scratch.upstream("--latency-ms", 0 if kind == "hit" else OWN_MS, "--picture-bytes", PICTURE_BYTES)
    rig = scratch.gateway(upstream, {} if kind == "hit" else POLLS, through=under_callgrind(scratch.folder, "gateway"))
    picture = png("instructions", EDGE)
    body, headers = form([picture], f"picture {NUMBER.decode()}")
    headers["Authorization"] = f"Bearer {rig.keys[0]}"
    status, answered, answer = call(rig.port, "POST", PATH, body, headers)
    if kind == "hit":
        status, answered, answer = call(rig.port, "POST", PATH, body, headers)
    if status != 200 or answered["x-gateway-cache"] != kind.replace("edit", "miss"):
        give_up(f"the gateway answers {status}, x-gateway-cache: {answered['x-gateway-cache']}: {answer[:500]}")
    file = scratch.folder / "picture"
    file.write_bytes(picture)
    own = ("--picture", file) if kind == "hit" else ("--upstream", f"http://127.0.0.1:{upstream}", "--latency-ms", OWN_MS)
    bare = Bare(scratch, f"{kind}s", (*answer_options(scratch, answered, answer), *own), under_callgrind(scratch.folder, "bare"))

    head, tail = raw_request(PATH, body, headers).split(NUMBER)
    counts, trees = {}, {}
    for name, pid, port in (("gateway", rig.gateway.pid, rig.port), ("bare", bare.pid, bare.port)):
        counting = Counting(pid, scratch.folder, name)
        warm = requests // 4

        def load(first, number):
            numbers = [0] * number if kind == "hit" else range(first, first + number)
            asyncio.run(send(port, head, tail, numbers, 1 if kind == "hit" else 8))

        load(1, warm)
        counting.zero()
        load(1 + warm, requests)
        counts[name] = counting.dump() / requests
        trees[name] = counting.tree(requests, functions) if functions else []
    rig.close(keep=True)
    scratch.close()
    return counts, trees


def instructions(table, kind, requests, functions=0):
    counts, trees = measure(kind, requests, functions)
    for name, count in counts.items():
        table.row(f"{kind}: {name}", count / 1000, "k instructions")
    table.row(f"{kind}: instructions of the bare server's", counts["gateway"] / counts["bare"], "x", 1.7 if kind == "hit" else None,
              key=f"{kind}_instructions")
    for name, tree in trees.items():
        if tree:
            print(f"\n{kind}, {name}: instructions of a request, callees included\n" + "\n".join(tree))


def main():
    parser = parser_of(__doc__, "fewer requests", ("hit", "edit"))
    parser.add_argument("--tree", type=int, default=0, metavar="N", help="print the N functions that contain most")
    arguments = parser.parse_args()
    prepare()
    require_callgrind()
    table = Table()
    for kind in arguments.parts or ("hit", "edit"):
        instructions(table, kind, 100 if arguments.quick else 300, arguments.tree)
    sys.exit(table.close())


if __name__ == "__main__":
    main()
