"""A network that breaks: relays connections, and harms each as a seeded dice says.

    python3 network.py --listen PORT --to PORT --seed SEED --stall SECONDS --log FILE

One connection carries one request: the `Connection: close` that is added makes clients open a new one for the next, so
that every request meets the dice. What happened to each connection goes to the log, a JSON object a line.
"""

import argparse
import asyncio
import json
import random
import re
import socket
import struct
import time

# What may happen to a connection, and how often.
FAULTS = {
    "pass": 32,
    "cut_upload": 11,  # after this number of bytes of the request
    "cut_waiting": 12,  # after the last byte of the request, while the server works
    "cut_answer": 14,  # after this number of bytes of the answer
    "stall_upload": 6,  # the rest of the request comes late
    "stall_answer": 6,  # the answer is left in the server's hands too long
    "hold_answer": 6,  # the answer is taken from the server at once, and comes late
    "trickle_upload": 6,
    "trickle_answer": 7,
}
NONCE = re.compile(rb"nonce-[a-z0-9-]+")
PIECE = 65536


class Cut(Exception):
    """The dice or one of the two ends broke the connection."""


class Message:
    """One HTTP message on its way: where its head ends, and where it ends itself."""

    def __init__(self):
        self.buffer = bytearray()
        self.head = b""
        self.total = None
        self.chunked = False

    def add(self, data):
        """Takes more of the message. Returns the head with `Connection: close`, once, when it is complete."""
        if self.head:
            return None
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        lines = bytes(self.buffer[:end]).split(b"\r\n")
        lines = [line for line in lines if not line.lower().startswith(b"connection:")]
        self.head = b"\r\n".join([*lines, b"connection: close", b"", b""])
        self.rest = bytes(self.buffer[end + 4 :])
        length = self.field(b"content-length")
        self.chunked = (self.field(b"transfer-encoding") or b"").lower() == b"chunked"
        self.total = len(self.head) + int(length or 0)
        return self.head

    def field(self, name):
        found = re.search(rb"\r\n" + name + rb":[ \t]*([^\r]*)", self.head, re.IGNORECASE)
        return found and found.group(1).strip()


class Connection:
    def __init__(self, number, options, reader, writer):
        self.dice = random.Random(f"{options.seed}:{number}")
        self.fault = self.dice.choices(list(FAULTS), FAULTS.values())[0]
        self.where = self.dice.random()
        # Whether the server notices at once that the client has disconnected, or finishes its answer.
        self.tells = self.dice.random() < 0.6
        self.resets = self.dice.random() < 0.5
        self.options = options
        self.reader, self.writer = reader, writer
        self.server = None
        self.went = {"number": number, "fault": self.fault, "tells": self.tells, "nonce": None, "retry": None,
                     "begun": round(time.time(), 3), "sent": 0, "upload": "partial", "whole_at": None, "answered": 0, "status": None,
                     "end": "whole"}
        self.tail = b""

    async def run(self):
        try:
            first = await self.reader.readuntil(b"\r\n")
            if first.startswith(b"GET /_network"):
                self.writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                await self.writer.drain()
                return None
            self.from_server, self.server = await asyncio.open_connection("127.0.0.1", self.options.to)
            await self.upload(first)
            await self.answer()
        except (Cut, OSError, asyncio.IncompleteReadError) as why:
            self.went["end"] = str(why) or type(why).__name__
        finally:
            self.went["took"] = round(time.time() - self.went["begun"], 3)
            self.hang_up(self.writer)
            await self.leave_server()
        return self.went

    async def upload(self, data):
        message = Message()
        await self.pass_on_upload(message, data)
        self.went["upload"] = "whole"
        self.went["whole_at"] = round(time.time(), 3)
        if self.fault == "cut_waiting":
            # While the server works: an edit takes 0.3 s at least, and a moment to be bought.
            await asyncio.sleep(self.where * 0.5)
            raise Cut("cut")

    async def pass_on_upload(self, message, data):
        sent = 0
        late = False
        body_tail = b""
        while True:
            head = message.add(data)
            if message.head:
                if head:
                    data = head + message.rest
                    retry = message.field(b"x-stainless-retry-count")
                    self.went["retry"] = int(retry) if retry else None
                self.look_for_nonce(data)
                limit = int(message.total * self.where)
                if self.fault == "cut_upload" and sent + len(data) > limit:
                    await self.send(data[: limit - sent])
                    raise Cut("cut")
                if self.fault == "stall_upload" and not late and sent + len(data) > limit:
                    late = True
                    await self.send(data[: limit - sent])
                    await asyncio.sleep(self.options.stall)
                    data, sent = data[limit - sent :], limit
                if self.fault == "trickle_upload":
                    await self.trickle(self.server, data, message.total)
                else:
                    await self.send(data)
                sent += len(data)
                self.went["sent"] = sent
                body_tail = (body_tail + data)[-7:]
                if body_tail == b"\r\n0\r\n\r\n" if message.chunked else sent >= message.total:
                    return
            data = await self.reader.read(PIECE)
            if not data:
                raise Cut("the client left")

    async def send(self, data):
        self.server.write(data)
        await self.server.drain()

    def look_for_nonce(self, data):
        if self.went["nonce"] is None:
            found = NONCE.search(self.tail + data)
            # One at the very end may be incomplete.
            if found and found.end() < len(self.tail) + len(data):
                self.went["nonce"] = found.group().decode()
            self.tail = (self.tail + data)[-100:]

    async def trickle(self, writer, data, total):
        """In 20 pieces for the whole message, over up to 2 s."""
        size = max(total // 20, 1)
        for start in range(0, len(data), size):
            if start:
                await asyncio.sleep(self.where * 2 / 20)
            writer.write(data[start : start + size])
            await writer.drain()

    async def answer(self):
        left = asyncio.create_task(self.client_leaves())
        relay = asyncio.create_task(self.pass_on_answer())
        try:
            await asyncio.wait([left, relay], return_when=asyncio.FIRST_COMPLETED)
            if not relay.done():
                raise Cut("the client left")
            relay.result()
        finally:
            for task in (left, relay):
                task.cancel()
            await asyncio.gather(left, relay, return_exceptions=True)

    async def client_leaves(self):
        try:
            while await self.reader.read(PIECE):
                pass
        except OSError:
            pass

    async def pass_on_answer(self):
        if self.fault == "stall_answer":
            await asyncio.sleep(self.options.stall)
        message = Message()
        if self.fault == "hold_answer":
            held = bytearray()
            while data := await self.from_server.read(PIECE):
                held += data
            await asyncio.sleep(self.options.stall)
            await self.pass_on_piece(message, bytes(held))
            return
        while data := await self.from_server.read(PIECE):
            await self.pass_on_piece(message, data)

    async def pass_on_piece(self, message, data):
        head = message.add(data)
        if not message.head:
            return
        if head:
            data = head + message.rest
            self.went["status"] = int(head[9:12])
        if self.fault == "cut_answer":
            limit = int(message.total * self.where)
            if self.went["answered"] + len(data) > limit:
                self.writer.write(data[: limit - self.went["answered"]])
                await self.writer.drain()
                self.went["answered"] = limit
                # The client is to get what was sent.
                await asyncio.sleep(0.01)
                raise Cut("cut")
        if self.fault == "trickle_answer":
            await self.trickle(self.writer, data, message.total)
        else:
            self.writer.write(data)
            await self.writer.drain()
        self.went["answered"] += len(data)

    async def leave_server(self):
        if self.server is None:
            return
        if self.went["end"] != "whole" and self.went["upload"] == "whole" and not self.tells:
            # A middlebox that hides the disconnection of the client and reads the answer to its end.
            try:
                async with asyncio.timeout(20):
                    while await self.from_server.read(PIECE):
                        pass
            except (OSError, TimeoutError):
                pass
        self.hang_up(self.server)

    def hang_up(self, writer):
        if self.resets and self.went["end"] != "whole" and not writer.is_closing():
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            writer.close()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", type=int, required=True)
    parser.add_argument("--to", type=int, required=True)
    parser.add_argument("--seed", required=True)
    parser.add_argument("--stall", type=float, required=True)
    parser.add_argument("--log", required=True)
    options = parser.parse_args()
    log = open(options.log, "w", buffering=1)
    number = 0

    async def accept(reader, writer):
        nonlocal number
        number += 1
        went = await Connection(number, options, reader, writer).run()
        if went:
            print(json.dumps(went), file=log)

    server = await asyncio.start_server(accept, "127.0.0.1", options.listen)
    await server.serve_forever()


asyncio.run(main())
