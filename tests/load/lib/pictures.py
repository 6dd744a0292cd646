"""Pictures that clients send, and what the simulator writes into those that it makes."""

import random
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png(seed, side=48):
    """Returns a small PNG of noise, which neither compresses nor equals that of another seed."""
    noise = random.Random(seed)
    rows = b"".join(b"\0" + noise.randbytes(3 * side) for _ in range(side))
    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    pieces = (len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big") for kind, data in chunks)
    return SIGNATURE + b"".join(pieces)


def png_texts(picture):
    """Returns the text chunks of a PNG by name, every checksum checked; raises ValueError when the PNG is not whole."""
    if picture[:8] != SIGNATURE:
        raise ValueError("no PNG")
    texts, at = {}, 8
    while at + 12 <= len(picture):
        length = int.from_bytes(picture[at:at + 4], "big")
        kind, data = picture[at + 4:at + 8], picture[at + 8:at + 8 + length]
        if zlib.crc32(kind + data).to_bytes(4, "big") != picture[at + 8 + length:at + 12 + length]:
            raise ValueError("a damaged PNG")
        if kind == b"tEXt":
            name, _, value = data.partition(b"\0")
            texts[name.decode("latin-1")] = value.decode("latin-1")
        if kind == b"IEND":
            return texts
        at += 12 + length
    raise ValueError("a PNG cut short")
