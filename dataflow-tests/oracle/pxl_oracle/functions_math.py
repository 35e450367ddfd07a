"""Arithmetic, comparison, logic and selection."""

import math

from .registry import scalar
from .values import I64_MAX, I64_MIN, wrap

_EPSILON = 2.220446049250313e-16
_TIME_SUMS = ("TI:T", "IT:T")


def _floats(*letters):
    return tuple(a + b + ":F" for a, b in letters)


_MIXED = _floats("FF", "FI", "IF")
scalar("add", "II:I", *_TIME_SUMS)(lambda a, b: wrap(a + b))
scalar("add", *_MIXED)(lambda a, b: float(a) + float(b))
scalar("add", "SS:S")(lambda a, b: a + b)
scalar("subtract", "II:I", "TT:I", "TI:T", "IT:I")(lambda a, b: wrap(a - b))
scalar("subtract", *_MIXED)(lambda a, b: float(a) - float(b))
scalar("multiply", "II:I")(lambda a, b: wrap(a * b))
scalar("multiply", *_MIXED)(lambda a, b: float(a) * float(b))


@scalar("divide", "II:F", *_MIXED)
def divide(a, b):
    a, b = float(a), float(b)
    if b != 0:
        return a / b
    if a == 0 or a != a:
        return math.nan
    return math.copysign(math.inf, a) * math.copysign(1.0, b)


def remainder(a, b):
    """C remainder: the sign of the dividend; by zero 0."""
    if b == 0:
        return 0
    rest = abs(a) % abs(b)
    return -rest if a < 0 else rest


scalar("modulo", "II:I", "IT:I", "TI:I", "TT:I")(remainder)
scalar("negate", "I:I")(lambda a: wrap(-a))
scalar("negate", "F:F")(lambda a: -a)
scalar("invert", "I:I")(lambda a: ~a)
scalar("abs", "I:I")(lambda a: wrap(abs(a)))
scalar("abs", "F:F")(abs)


def _guarded(function):
    def safe(*args):
        try:
            return function(*(float(arg) for arg in args))
        except OverflowError:
            return math.inf
        except (ValueError, ZeroDivisionError):
            return math.nan

    return safe


def _log(function):
    def safe(value):
        if value == 0:
            return -math.inf
        return function(value) if value > 0 else math.nan

    return _guarded(safe)


_PAIRS = ("II:F", "IF:F", "FI:F", "FF:F")
_ONES = ("I:F", "F:F")


@scalar("pow", *_PAIRS)
def power(a, b):
    a, b = float(a), float(b)
    odd = b == math.floor(b) and b % 2 == 1 if math.isfinite(b) else False
    if a == 0 and b < 0:
        return math.copysign(math.inf, a) if odd else math.inf
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and odd else math.inf
    except ValueError:
        return math.nan


scalar("ln", *_ONES)(_log(math.log))
scalar("log2", *_ONES)(_log(math.log2))
scalar("log10", *_ONES)(_log(math.log10))
scalar("log", *_PAIRS)(lambda base, v: divide(_log(math.log)(v), _log(math.log)(base)))
scalar("exp", *_ONES)(_guarded(math.exp))
scalar("sqrt", *_ONES)(_guarded(math.sqrt))


def to_int(value):
    """A float's integer, saturating; NaN is 0."""
    if value != value:
        return 0
    if value in (math.inf, -math.inf):
        return I64_MAX if value > 0 else I64_MIN
    return max(I64_MIN, min(I64_MAX, int(value)))


scalar("ceil", "F:I")(lambda v: to_int(math.ceil(v) if math.isfinite(v) else v))
scalar("floor", "F:I")(lambda v: to_int(math.floor(v) if math.isfinite(v) else v))
scalar("round", "FI:S")(lambda v, digits: b"%.*f" % (max(digits, 0), v))


@scalar("bin", "II:I", "TT:T", "IT:I", "TI:T", "FI:I")
def bin_(value, size):
    value = to_int(value) if isinstance(value, float) else value
    return wrap(value - remainder(value, size))


_EXACT = ("II:B", "SS:B", "BB:B", "TT:B", "UU:B")
_LOOSE = ("BI:B", "IB:B", "IF:B", "FI:B")
scalar("equal", *_EXACT)(lambda a, b: a == b)
scalar("equal", "BI:B", "IB:B")(lambda a, b: int(a) == int(b))
scalar("equal", "IF:B", "FI:B")(lambda a, b: float(a) == float(b))
scalar("equal", "FF:B")(lambda a, b: abs(a - b) < _EPSILON)
scalar("approxEqual", "FF:B")(lambda a, b: abs(a - b) < _EPSILON)
scalar("notEqual", *_EXACT)(lambda a, b: a != b)
scalar("notEqual", "BI:B", "IB:B")(lambda a, b: int(a) != int(b))
scalar("notEqual", "IF:B", "FI:B")(lambda a, b: float(a) != float(b))
scalar("notEqual", "FF:B")(lambda a, b: abs(a - b) > _EPSILON)
_ORDERED = ("II:B", "FF:B", "SS:B", "TT:B")
scalar("lessThan", *_ORDERED)(lambda a, b: a < b)
scalar("lessThanEqual", *_ORDERED)(lambda a, b: a <= b)
scalar("greaterThan", *_ORDERED)(lambda a, b: a > b)
scalar("greaterThanEqual", *_ORDERED)(lambda a, b: a >= b)
scalar("logicalAnd", "BB:B", "II:B")(lambda a, b: bool(a) and bool(b))
scalar("logicalOr", "BB:B", "II:B")(lambda a, b: bool(a) or bool(b))
scalar("logicalNot", "B:B", "I:B")(lambda a: not a)
scalar("time_to_int64", "T:I")(lambda a: a)
scalar("int64_to_time", "I:T")(lambda a: a)
scalar("select", "BBB:B", "BII:I", "BFF:F", "BTT:T", "BSS:S")(lambda c, x, y: x if c else y)
