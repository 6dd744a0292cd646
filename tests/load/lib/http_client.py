"""A client of HTTP/1.1 that costs little: for hundreds of requests a second, or thousands that wait."""

import asyncio
import re
import socket
import time
from dataclasses import dataclass

from lib.project import give_up

LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
PREDICTION = re.compile(rb"\r\nx-gateway-prediction: ([0-9a-f]+)", re.IGNORECASE)


@dataclass
class Exchange:
    """One request and its answer; moments in nanoseconds of CLOCK_MONOTONIC."""
    began_ns: int
    # Of the last byte of the answer.
    ended_ns: int
    # When the submit had arrived at the quick upstream.
    submitted_ns: int
    status: int
    answer: bytes


class Connection(asyncio.Protocol):
    """Sends one request at a time."""

    def __init__(self):
        self.future = None
        self.closed = False

    def connection_made(self, transport):
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, request):
        """Returns a future of the exchange."""
        self.future = asyncio.get_running_loop().create_future()
        self.pieces, self.left, self.head = [], 0, b""
        self.began_ns = time.monotonic_ns()
        self.transport.write(request)
        return self.future

    def data_received(self, data):
        if not self.head:
            data = b"".join([*self.pieces, data])
            head, gap, body = data.partition(b"\r\n\r\n")
            if not gap:
                self.pieces = [data]
                return
            self.head, self.pieces, data = head, [], body
            self.left = int(LENGTH.search(head)[1])
        self.pieces.append(data)
        self.left -= len(data)
        if self.left <= 0:
            submitted = PREDICTION.search(self.head)
            exchange = Exchange(self.began_ns, time.monotonic_ns(), int(submitted[1][:16], 16) if submitted else 0,
                          int(self.head[9:12]), b"".join(self.pieces))
            self.future.set_result(exchange)

    def connection_lost(self, _error):
        self.closed = True
        if self.future and not self.future.done():
            self.future.set_exception(ConnectionError("closed before the answer had ended"))


async def connect(port, source=None):
    _, connection = await asyncio.get_running_loop().create_connection(
        Connection, "127.0.0.1", port, local_addr=(source, 0) if source else None)
    return connection


class Pool:
    """Connections that are kept between requests; the last one used is used first."""

    def __init__(self, port):
        self.port = port
        self.free = []

    async def send(self, request):
        """Returns the exchange; ends the script when the answer is not 200."""
        while self.free and self.free[-1].closed:
            self.free.pop()
        connection = self.free.pop() if self.free else await connect(self.port)
        exchange = await connection.send(request)
        self.free.append(connection)
        if exchange.status != 200:
            give_up(f"the gateway answers {exchange.status}: {exchange.answer[:500]}")
        return exchange

    def close(self):
        for connection in self.free:
            connection.transport.close()
