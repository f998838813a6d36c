"""Bodies of remote writes of version 1, for requests that no Prometheus sends."""

import time


def varint(number):
    encoded = bytearray()
    while True:
        encoded.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(encoded)


def field(number, payload):
    """A field of protobuf with a length."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def snappy(message):
    """A snappy block of literals only."""
    block = varint(len(message))
    for start in range(0, len(message), 60):
        literal = message[start : start + 60]
        block += bytes([(len(literal) - 1) << 2]) + literal
    return block


EMPTY = snappy(b"")
"""The empty message, one byte: it writes nothing."""


def one_sample(labels):
    """A write of one series with the sample 1 of now."""
    pairs = [
        field(1, field(1, name.encode()) + field(2, value.encode()))
        for name, value in sorted(labels.items())
    ]
    value = varint(1 << 3 | 1) + bytes.fromhex("000000000000f03f")
    timestamp = varint(2 << 3) + varint(int(time.time() * 1000))
    series = b"".join(pairs) + field(2, value + timestamp)
    return snappy(field(1, series))
