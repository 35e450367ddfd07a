"""Aggregates over all values of a group at once: exact sums, sketch quantiles, path clusters."""

import math
import struct
from dataclasses import dataclass
from fractions import Fraction

from .jsontext import double_text, to_text
from .paths import build_clusters
from .values import F64_MAX, I64_MAX, I64_MIN, NAMES, ZERO, PxlError, order_key, wrap

QUANTILES = [(1, "p01"), (10, "p10"), (25, "p25"), (50, "p50"), (75, "p75"), (90, "p90"),
             (95, "p95"), (99, "p99")]


@dataclass(frozen=True)
class Aggregate:
    """`function` takes the list of argument tuples and the list of times (None without)."""

    name: str
    result: str
    function: object


def exact_sum(values):
    """The sum of floats, exact and rounded once."""
    if any(value != value for value in values):
        return math.nan
    infinities = {value for value in values if math.isinf(value)}
    if infinities:
        return math.nan if len(infinities) == 2 else infinities.pop()
    total = sum((Fraction(value) for value in values), Fraction())
    try:
        return float(total)
    except OverflowError:
        return math.inf if total > 0 else -math.inf


def _sum_float(rows, _times):
    return exact_sum([value for (value,) in rows])


def _mean_float(rows, times):
    return _sum_float(rows, times) / len(rows) if rows else math.nan


def _mean_int(rows, _times):
    return float(sum(value for (value,) in rows)) / len(rows) if rows else math.nan


def _extreme(choose, kind):
    nothing = {"I": (I64_MAX, I64_MIN), "T": (I64_MAX, I64_MIN), "F": (F64_MAX, -F64_MAX)}[kind]
    default = nothing[0] if choose is min else nothing[1]

    def extreme(rows, _times):
        numbers = [value for (value,) in rows if value == value]
        return choose(numbers) if numbers else default

    return extreme


def _any(kind):
    def witness(rows, times):
        if not rows:
            return ZERO[kind]
        keys = [(order_key(kind, value)) for (value,) in rows]
        if times is not None:
            keys = list(zip(times, keys))
        return rows[keys.index(min(keys))][0]

    return witness


def bucket_midpoint(value):
    """Midpoint of the bucket (sign, exponent, top six fraction bits) a finite value falls in.

    For an INT64 the bucket holds integers only, so that small ones are their own midpoint.
    """
    if value == 0:
        return 0.0
    sign = -1.0 if value < 0 else 1.0
    magnitude = abs(value)
    if isinstance(magnitude, int):
        exponent = magnitude.bit_length() - 1
        width = max(1 << exponent >> 6, 1)
        return sign * float(magnitude // width * width + Fraction(width - 1, 2))
    bits = struct.unpack(">Q", struct.pack(">d", magnitude))[0]
    middle = (bits >> 46 << 46) | (1 << 45)
    return sign * struct.unpack(">d", struct.pack(">Q", middle))[0]


def _quantiles(rows, _times):
    numbers = sorted(value for (value,) in rows if value == value)
    if not numbers:
        return b""
    members = []
    for percent, name in QUANTILES:
        rank = -(-percent * len(numbers) // 100)
        value = numbers[max(rank, 1) - 1]
        if math.isinf(value):
            middle = math.copysign(F64_MAX, value)
        else:
            middle = bucket_midpoint(value)
        members.append(f'"{name}":{double_text(middle)}')
    return ("{" + ",".join(members) + "}").encode()


def _clusters(rows, _times):
    return to_text(build_clusters([value for (value,) in rows])).encode()


_SIMPLE = {
    ("sum", "I"): ("I", lambda rows, _: wrap(sum(value for (value,) in rows))),
    ("sum", "B"): ("I", lambda rows, _: sum(value for (value,) in rows)),
    ("sum", "F"): ("F", _sum_float),
    ("mean", "I"): ("F", _mean_int),
    ("mean", "B"): ("F", _mean_int),
    ("mean", "F"): ("F", _mean_float),
    ("quantiles", "I"): ("S", _quantiles),
    ("quantiles", "F"): ("S", _quantiles),
    ("_build_request_path_clusters", "S"): ("S", _clusters),
}
for _kind in "IFT":
    _SIMPLE["min", _kind] = (_kind, _extreme(min, _kind))
    _SIMPLE["max", _kind] = (_kind, _extreme(max, _kind))
for _kind in "BIFSTU":
    _SIMPLE["count", _kind] = ("I", lambda rows, _: len(rows))
    _SIMPLE["any", _kind] = (_kind, _any(_kind))

NAMES_OF_AGGREGATES = {name for name, _ in _SIMPLE} | {"sample", "pprof", "_kmeans_fit"}


def resolve_aggregate(name, kinds):
    if (name, kinds) not in _SIMPLE:
        types = ", ".join(NAMES[kind] for kind in kinds)
        raise PxlError(f"could not find UDA '{name}' with update arg types [{types}]")
    result, function = _SIMPLE[name, kinds]
    return Aggregate(name, result, function)
