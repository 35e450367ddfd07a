"""JSON as the string functions read and write it: compact text, first of duplicate members."""

import json
import re

_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r",
            "\t": "\\t"}
_NEEDS_ESCAPE = re.compile('["\\\\\x00-\x1f]')


def quoted(text):
    return '"' + _NEEDS_ESCAPE.sub(
        lambda match: _ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04X}", text
    ) + '"'


def double_text(value):
    """A double, always with a decimal point or an exponent."""
    return repr(float(value))


def to_text(value):
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, float):
        return double_text(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{quoted(k)}:{to_text(v)}" for k, v in value.items()) + "}"
    return "[" + ",".join(to_text(item) for item in value) + "]"


def _first_wins(pairs):
    members = {}
    for key, value in pairs:
        members.setdefault(key, value)
    return members


def _no_constant(name):
    raise ValueError(name)


def _integer(text):
    """Beyond 64 bits an integer is read as a double."""
    number = int(text)
    return number if -(1 << 63) <= number < 1 << 64 else float(text)


def parse(data):
    """The value behind JSON bytes; raises ValueError."""
    return json.loads(data.decode("utf-8"), object_pairs_hook=_first_wins,
                      parse_constant=_no_constant, parse_int=_integer)


def parse_or(data, default):
    try:
        return parse(data)
    except (ValueError, RecursionError):
        return default
