"""Draws the pictures that the suites send, with nothing but Python's own library.

    python3 pictures.py FOLDER
"""

import pathlib
import random
import struct
import sys
import zlib


def png(width, height, channels, pixel_rows):
    """A PNG of 8 bits a channel: 3 channels are RGB, 4 are RGBA."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, {3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row for row in pixel_rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def gradient(width, height, blue):
    rows = (
        b"".join(bytes((x * 255 // width, y * 255 // height, blue)) for x in range(width)) for y in range(height)
    )
    return png(width, height, 3, rows)


def mask(width, height):
    """Opaque, with a fully transparent hole in the middle: the part to be edited."""
    keep, edit = b"\0\0\0\xff", b"\0\0\0\0"
    quarter = width // 4
    solid = keep * width
    holed = keep * quarter + edit * (width - 2 * quarter) + keep * quarter
    return png(width, height, 4, (holed if height // 4 <= y < height * 3 // 4 else solid for y in range(height)))


def noise(width, height):
    """A picture that does not compress, so that it is as large as a photo."""
    dice = random.Random(1)
    return png(width, height, 3, (dice.randbytes(width * 3) for _ in range(height)))


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: pictures.py FOLDER")
    folder = pathlib.Path(sys.argv[1])
    (folder / "photo.png").write_bytes(gradient(320, 240, 40))
    (folder / "second.png").write_bytes(gradient(200, 200, 200))
    (folder / "mask.png").write_bytes(mask(320, 240))
    (folder / "large.png").write_bytes(noise(1200, 900))
    (folder / "huge.png").write_bytes(noise(3200, 2400))


if __name__ == "__main__":
    main()
