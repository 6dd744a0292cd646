#!/usr/bin/env python3
"""Searches everything that tests wrote for their keys: no secret may be in logs, metrics, errors, panics or files.

    tests/canary/scan.py FOLDER...      searches every byte of every file below
    tests/canary/scan.py --selftest     plants the mark in every encoding and must find each of them

Every key of the tests (upstream keys, client keys, the webhook secret) is a prefix and MARK, repeated: any sixteen bytes of
a key contain a whole mark, so that a key is found although it was cut into pieces or wrapped over lines. The mark is
searched as plain text in any case, as UTF-16 of both byte orders, as hex (also with separators), with some or all letters
URL-encoded, and as base64 (its letters are the same in the URL-safe alphabet) at each of its three alignments.

Tests keep what they write below the folder that GATEWAY_TEST_OUTPUT names. Files that a test made as an input for the
program (a file of keys) are listed there in `inputs`, one path a line, and are not searched. Prints files, bytes and hits;
exits 0 without a hit, 1 with one, and 2 when there was nothing to search.
"""

import argparse
import base64
import os
import re
import sys
import tempfile
from pathlib import Path

MARK = "vQ7kZp3X"
# Bytes of a file that are read at a time, and how many of them are searched again together with the next ones.
PIECE, OVERLAP = 1 << 24, 256
# Where keys of tests are made. Each must carry the mark, or nothing could be found.
SOURCES = ("tests/gateway/harness.rs", "tests/load/lib/rig.py", "tests/clients/lib/common.sh")
# The name of files that list inputs of the program, by path.
INPUTS = "inputs"


def base64_cores(mark):
    """Yields the letters of the mark's base64 that do not depend on its neighbours, for each alignment."""
    for lead in range(3):
        text = base64.b64encode(b"\0" * lead + mark).rstrip(b"=")
        first = -(-lead * 8 // 6)
        last = (lead + len(mark)) * 8 // 6
        yield text[first:last]


# What may stand between the bytes of a hex dump.
SEPARATORS = ("", " ", ":", "-", ",", ", ", "\\x", "0x", " 0x", ",0x", ", 0x", "%")


def needles():
    """Yields what to search in lower-cased bytes: a name, and bytes."""
    mark = MARK.lower().encode()
    yield "plain", mark
    # Without the outer zero byte, on which side it may be: the rest is the same in both orders.
    yield "UTF-16", b"\0".join(bytes([letter]) for letter in mark)
    # Hex of the mark in each case of its letters.
    for separator in SEPARATORS:
        for letters in (MARK.encode(), mark, mark.upper()):
            yield "hex", separator.join(f"{letter:02x}" for letter in letters).encode()


def exact_needles():
    """Yields what to search in unchanged bytes."""
    for number, core in enumerate(base64_cores(MARK.encode())):
        yield f"base64 at {number}", core


def url_encoded(data):
    """Yields places of the mark with some letters URL-encoded: searches for the mark around each encoded letter."""
    whole = re.compile(b"(?i:" + b"".join(b"(?:%%%02x|%c)" % (letter, letter) for letter in MARK.encode()) + b")")
    for letter in set(MARK.encode()):
        for at in places(data, b"%%%02x" % letter):
            around = max(0, at - 3 * len(MARK))
            for match in whole.finditer(data, around, at + 3 * len(MARK)):
                yield match.start(), match.end()


def places(data, needle):
    at = data.find(needle)
    while at >= 0:
        yield at
        at = data.find(needle, at + 1)


def find(data):
    """Yields the name, start and end of each hit in some bytes."""
    small = data.lower()
    for where, wanted in ((small, needles()), (data, exact_needles())):
        for name, needle in wanted:
            for at in places(where, needle):
                yield name, at, at + len(needle)
    for start, end in url_encoded(small):
        yield "URL-encoded", start, end


def scan_file(path, piece_bytes):
    """Returns the hits in a file as (encoding, offset, excerpt), and its size."""
    hits, offset, tail = {}, 0, b""
    with open(path, "rb") as file:
        while piece := file.read(piece_bytes):
            data = tail + piece
            base = offset - len(tail)
            for name, start, end in find(data):
                excerpt = data[max(0, start - 40):end + 24]
                # Each place is shown once, under the first name that matches.
                hits.setdefault(base + start, (name, excerpt))
            offset += len(piece)
            tail = data[-OVERLAP:]
    return [(name, at, excerpt) for at, (name, excerpt) in sorted(hits.items())], offset


def files_below(folders):
    """Returns every file except the inputs, each once, and the number of inputs."""
    inputs = set()
    for folder in folders:
        for listed in folder.rglob(INPUTS):
            if listed.is_file():
                inputs.update(Path(line).resolve() for line in listed.read_text().splitlines() if line)
                inputs.add(listed.resolve())
    found = {path.resolve() for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}
    return sorted(found - inputs), len(found & inputs)


def scan(folders, show=10, piece_bytes=PIECE):
    """Searches and prints hits; returns (files, bytes, hits)."""
    files, skipped = files_below(folders)
    size, count = 0, 0
    for path in files:
        hits, bytes_of_file = scan_file(path, piece_bytes)
        size += bytes_of_file
        count += len(hits)
        for name, offset, excerpt in hits[:show]:
            print(f"HIT {path} at {offset}: {name}: {excerpt!r}")
        if len(hits) > show:
            print(f"HIT {path}: {len(hits) - show} more")
    print(f"canary scan: {len(files)} files, {size} bytes, {skipped} inputs left out, {count} hits")
    return len(files), size, count


def encodings():
    """Yields a key in each form in which it might leak, with a name."""
    key = f"sk-selftest-{MARK * 4}-end"
    raw = key.encode()
    yield "plain", b"authorization: Bearer " + raw
    yield "in upper case", key.upper().encode()
    yield "in lower case", key.lower().encode()
    for lead in range(3):
        for name, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
            yield f"{name} behind {lead} bytes", encode(b"\xff" * lead + raw)
    yield "the answer to a challenge", base64.b64encode(b"user:" + raw)
    yield "hex", raw.hex().encode()
    yield "hex in upper case", raw.hex().upper().encode()
    yield "hex with spaces", raw.hex(" ").encode()
    yield "hex with colons", raw.hex(":").encode()
    yield "escaped", "".join(f"\\x{letter:02x}" for letter in raw).encode()
    yield "a list of bytes in hex", ", ".join(f"0x{letter:02x}" for letter in raw).encode()
    yield "URL-encoded, all of it", "".join(f"%{letter:02X}" for letter in raw).encode()
    yield "URL-encoded, some of it", key.replace("Q", "%51").replace("Z", "%5a").encode()
    yield "UTF-16, little-endian", key.encode("utf-16-le")
    yield "UTF-16, big-endian", key.encode("utf-16-be")
    for start in range(16):
        yield f"sixteen bytes from {start} on", raw[12 + start:28 + start]
    yield "a hex dump", "\n".join(raw[at:at + 16].hex(" ") for at in range(0, len(raw), 16)).encode()


def selftest():
    """The negative control: finds each planted key, and nothing where none is planted."""
    missed, piece = [], 1 << 16
    with tempfile.TemporaryDirectory(prefix="canary-") as scratch:
        for number, (name, leak) in enumerate(encodings()):
            folder = Path(scratch) / str(number)
            folder.mkdir()
            # Across the border of two pieces, between random bytes.
            lead = os.urandom(piece - len(leak) // 2)
            (folder / "leak").write_bytes(lead + leak + os.urandom(100))
            print(f"--- {name}")
            if scan([folder], 1, piece)[2] == 0:
                missed.append(name)
            (folder / "leak").unlink()
        clean = Path(scratch) / "clean"
        clean.mkdir()
        (clean / "noise").write_bytes(os.urandom(PIECE) + f"{MARK[:-1]} {MARK[1:]} {MARK[::-1]}".encode())
        (clean / "key").write_text(MARK)
        (clean / INPUTS).write_text(f"{clean / 'key'}\n")
        print("--- nothing")
        if scan([clean])[2] != 0:
            missed.append("a hit where no key is")
    top = Path(__file__).resolve().parents[2]
    for source in SOURCES:
        text = (top / source).read_text()
        if MARK not in text and "from scan import" not in text:
            missed.append(f"{source} makes keys without the mark")
    print(f"selftest: {number + 2} cases, {len(missed)} wrong{''.join(f', {name}' for name in missed)}")
    return 1 if missed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--selftest", action="store_true", help="plants the mark in every encoding and must find each")
    parser.add_argument("folders", nargs="*", type=Path)
    options = parser.parse_args()
    if options.selftest:
        return selftest()
    if not options.folders:
        parser.error("name a folder, or --selftest")
    files, size, hits = scan(options.folders)
    if hits:
        return 1
    if not files or not size:
        print("there was nothing to search")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
