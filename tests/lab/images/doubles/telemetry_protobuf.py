"""As much of protobuf's wire format (https://protobuf.dev/programming-guides/encoding/) and of
snappy (https://github.com/google/snappy/blob/main/format_description.txt) as is needed to read."""

from __future__ import annotations

from collections.abc import Iterator

Value = int | bytes


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """The fields of a message: numbers as they are encoded, everything else as bytes."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        match key & 7:
            case 0:
                number, at = varint(message, at)
                yield key >> 3, number
            case 1:
                yield key >> 3, int.from_bytes(message[at : at + 8], "little")
                at += 8
            case 2:
                length, at = varint(message, at)
                yield key >> 3, message[at : at + length]
                at += length
            case 5:
                yield key >> 3, int.from_bytes(message[at : at + 4], "little")
                at += 4
            case kind:
                raise ValueError(f"wire type {kind}")


def parts(message: bytes, wanted: int) -> Iterator[bytes]:
    """The submessages and texts with one number."""
    for number, value in fields(message):
        if number == wanted and isinstance(value, bytes):
            yield value


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number at a place, and the place after it."""
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7


def unsnappy(data: bytes) -> bytes:
    """A block in snappy's format, uncompressed."""
    length, at = varint(data, 0)
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        if tag & 3 == 0:
            size = tag >> 2
            if size >= 60:
                extra = size - 59
                size = int.from_bytes(data[at : at + extra], "little")
                at += extra
            out += data[at : at + size + 1]
            at += size + 1
            continue
        width = (0, 1, 2, 4)[tag & 3]
        offset = int.from_bytes(data[at : at + width], "little")
        at += width
        size = (tag >> 2) + 1
        if width == 1:
            size = (tag >> 2 & 7) + 4
            offset |= tag >> 5 << 8
        # One by one: a copy may reach into what it has just written.
        for _ in range(size):
            out.append(out[-offset])
    if len(out) != length:
        raise ValueError("snappy: wrong length")
    return bytes(out)
