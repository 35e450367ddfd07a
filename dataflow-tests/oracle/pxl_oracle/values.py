"""The six PxL data types: JSON in and out, zero values, wrapping, keys and the packed order.

Types are one letter each: B BOOLEAN, I INT64, F FLOAT64, S STRING, T TIME64NS, U UINT128.
Values are bool, int, float, bytes, int (Unix ns) and int (128 bits).
"""

import re
import struct
import uuid
from datetime import datetime, timedelta, timezone

I64_MIN, I64_MAX = -(1 << 63), (1 << 63) - 1
F64_MAX = 1.7976931348623157e308
NAMES = {"B": "BOOLEAN", "I": "INT64", "F": "FLOAT64", "S": "STRING", "T": "TIME64NS", "U": "UINT128"}
ZERO = {"B": False, "I": 0, "F": 0.0, "S": b"", "T": 0, "U": 0}

_RFC3339 = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|z|[+-]\d\d:?\d\d)$")
_EPOCH = datetime(1970, 1, 1)


class PxlError(Exception):
    """The script is not valid PxL, or asks for something the language refuses."""


def wrap(number):
    """Two's complement 64-bit wrapping, as INT64 arithmetic does."""
    return ((number + (1 << 63)) & ((1 << 64) - 1)) - (1 << 63)


def time_from_text(text):
    match = _RFC3339.match(text)
    if not match:
        raise ValueError(f"not an RFC 3339 time: {text!r}")
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    nanos = int((match[7] or "0")[:9].ljust(9, "0"))
    delta = datetime(year, month, day, hour, minute) - _EPOCH
    zone = match[8]
    offset_s = 0
    if zone not in "Zz":
        digits = zone[1:].replace(":", "")
        offset_s = (int(digits[:2]) * 60 + int(digits[2:])) * 60 * (-1 if zone[0] == "-" else 1)
    return ((delta.days * 86400 + delta.seconds + second - offset_s) * 1_000_000_000) + nanos


def time_to_text(nanos):
    seconds, rest = divmod(nanos, 1_000_000_000)
    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def value_from_json(kind, value):
    """A field of a rows file as a value of the column's type."""
    if kind == "B" and isinstance(value, bool):
        return value
    if kind == "T":
        return time_from_text(value) if isinstance(value, str) else int(value)
    if kind == "I" and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind == "F":
        return float({"Infinity": "inf", "-Infinity": "-inf"}.get(value, value))
    if kind == "S" and isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if kind == "U":
        return uuid.UUID(value).int
    raise ValueError(f"{value!r} is no {NAMES[kind]}")


def value_to_json(kind, value):
    """A value as the contract's JSON; floats stay floats unless they are no number."""
    if kind == "S":
        return value.decode("utf-8", "replace")
    if kind == "T":
        return time_to_text(value)
    if kind == "U":
        return str(uuid.UUID(int=value))
    if kind == "F":
        if value != value:
            return "NaN"
        if value in (float("inf"), float("-inf")):
            return "Infinity" if value > 0 else "-Infinity"
    return value


def total_order(value):
    """IEEE totalOrder of a float as an integer."""
    bits = struct.unpack(">q", struct.pack(">d", value))[0]
    return bits ^ (0x7FFF_FFFF_FFFF_FFFF if bits < 0 else 0)


def order_key(kind, value):
    """Sorts as the packed row does: total order for floats, bytewise for strings."""
    return total_order(value) if kind == "F" else value


def identity(kind, value):
    """A hashable stand-in: floats by their bits, everything else by value."""
    return struct.pack(">d", value) if kind == "F" else value
