"""Passes bytes between clients and a gateway as they are, and writes down what was asked and answered.

    python3 recorder.py --listen PORT --to PORT --log FILE

One JSON line for each answer: method, path, status, headers, the statuses of interim answers, the body where it is
text, and whether it arrived whole. The bytes are parsed only after a connection has ended, so that
recording changes nothing for either side.
"""

import argparse
import asyncio
import json


class Cut(Exception):
    """The bytes end before the message does."""


class Bytes:
    """Reads HTTP/1.1 messages from the bytes of one direction of a connection."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def __bool__(self):
        return self.at < len(self.data)

    def take(self, count):
        if self.at + count > len(self.data):
            raise Cut
        self.at += count
        return self.data[self.at - count : self.at]

    def until(self, mark):
        end = self.data.find(mark, self.at)
        if end < 0:
            raise Cut
        return self.take(end + len(mark) - self.at)

    def head(self):
        first, *lines = self.until(b"\r\n\r\n").decode("latin-1").rstrip("\r\n").split("\r\n")
        fields = (line.partition(":") for line in lines)
        return first.split(" ", 2), {name.strip().lower(): value.strip() for name, _, value in fields}

    def chunked(self):
        body = b""
        while size := int(self.until(b"\r\n").split(b";")[0], 16):
            body += self.take(size)
            self.take(2)
        self.until(b"\r\n")
        return body

    def rest(self):
        return self.take(len(self.data) - self.at)

    def body(self, headers, *, otherwise):
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self.chunked()
        if "content-length" in headers:
            return self.take(int(headers["content-length"]))
        return otherwise()


def answer_to(request, answers):
    """What the next answer says, and whether it is whole."""
    method, path = request
    said = {"method": method, "path": path, "interim": [], "whole": False}
    try:
        while True:
            (_, status, *_), headers = answers.head()
            if not 100 <= int(status) < 200:
                break
            said["interim"].append(int(status))
        said |= {"status": int(status), "headers": headers}
        start = answers.at
        if method != "HEAD" and int(status) not in (204, 304):
            body = answers.body(headers, otherwise=answers.rest)
            kind = headers.get("content-type", "")
            if kind.startswith(("application/json", "text/")):
                said["body"] = body.decode()
        said["whole"] = True
    except Cut:
        said["cut"] = answers.data[start:].decode("latin-1")[:200] if "status" in said else ""
    return said


def exchanges(asked, answered):
    requests, answers = Bytes(asked), Bytes(answered)
    while answers:
        method, path = "?", "?"
        try:
            (method, path, *_), headers = requests.head()
            requests.body(headers, otherwise=lambda: b"")
        except Cut:
            # Answered before it was all there.
            requests.at = len(requests.data)
        said = answer_to((method, path), answers)
        yield said
        if not said["whole"]:
            return


async def pump(reader, writer, kept):
    try:
        while data := await reader.read(1 << 16):
            kept.append(data)
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except (OSError, RuntimeError):
        # One side is gone without a word; the other one learns it in the same way.
        writer.transport.abort()


async def pass_on(reader, writer, to, log):
    try:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", to)
    except OSError:
        writer.transport.abort()
        return
    asked, answered = [], []
    upward = asyncio.create_task(pump(reader, up_writer, asked))
    await pump(up_reader, writer, answered)
    # The gateway has said its last word, so nothing that still comes can reach it.
    upward.cancel()
    for one in (writer, up_writer):
        one.close()
    for said in exchanges(b"".join(asked), b"".join(answered)):
        log.write(json.dumps(said) + "\n")
    log.flush()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", type=int, required=True)
    parser.add_argument("--to", type=int, required=True)
    parser.add_argument("--log", required=True)
    options = parser.parse_args()
    with open(options.log, "w", encoding="utf-8") as log:
        server = await asyncio.start_server(
            lambda reader, writer: pass_on(reader, writer, options.to, log), "127.0.0.1", options.listen
        )
        async with server:
            await server.serve_forever()


asyncio.run(main())
