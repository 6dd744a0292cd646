"""What the gateway is compared with: an endpoint in OpenAI's form that buys at once, in the request itself.

    python3 synchronous.py --listen PORT --picture FILE

Every edit that arrives whole is one purchase, whatever becomes of its answer, which takes 0.3 to 0.6 s. GET /purchases
tells how often each nonce was bought.
"""

import argparse
import asyncio
import base64
import collections
import json
import pathlib
import random
import re

NONCE = re.compile(rb"nonce-[a-z0-9-]+")
purchases = collections.Counter()


def message(body):
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return head.encode() + body


async def answer(reader, picture):
    head = await reader.readuntil(b"\r\n\r\n")
    if head.startswith(b"GET /purchases"):
        return message(json.dumps(purchases).encode())
    length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    if length:
        body = await reader.readexactly(int(length.group(1)))
    else:
        body = await reader.readuntil(b"\r\n0\r\n\r\n")
    purchases[NONCE.search(body).group().decode()] += 1
    await asyncio.sleep(random.uniform(0.3, 0.6))
    return message(picture)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", type=int, required=True)
    parser.add_argument("--picture", type=pathlib.Path, required=True)
    options = parser.parse_args()
    # With what it is padded, as large as the simulator's.
    picture = options.picture.read_bytes()
    picture += bytes(max(55_000 - len(picture), 0))
    item = {"b64_json": base64.b64encode(picture).decode()}
    picture = json.dumps({"created": 1, "data": [item]}).encode()

    async def serve(reader, writer):
        try:
            writer.write(await answer(reader, picture))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", options.listen, limit=16_000_000)
    await server.serve_forever()


asyncio.run(main())
