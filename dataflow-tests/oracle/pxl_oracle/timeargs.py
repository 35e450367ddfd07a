"""Durations, relative and absolute times, and the panes a sliding window is rounded to."""

import re
from dataclasses import dataclass
from datetime import datetime, timezone

from .values import PxlError

UNITS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
_RELATIVE = re.compile(r"(-?)(\d+)\s*(ms|s|m|h|d)")
_ABSOLUTE = re.compile(
    r"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))? ([+-])(\d\d):?(\d\d)$"
)
PANES_NS = [10**8, 10**9, 10**10, 60 * 10**9, 300 * 10**9, 3600 * 10**9]


@dataclass(frozen=True)
class Bound:
    """A time bound; `sliding` when it moves with now."""

    time_ns: int
    sliding: bool


def absolute(text):
    match = _ABSOLUTE.match(text.strip())
    if not match:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    moment = datetime(year, month, day, hour, minute, second, tzinfo=timezone.utc)
    zone = (int(match[9]) * 60 + int(match[10])) * 60 * (-1 if match[8] == "-" else 1)
    return (int(moment.timestamp()) - zone) * 10**9 + int((match[7] or "0").ljust(9, "0"))


def duration(text):
    match = _RELATIVE.search(text)
    if not match:
        raise PxlError(f"not a duration: {text!r}")
    return int(match[2]) * UNITS[match[3]] * (-1 if match[1] else 1)


def format_duration(nanos):
    sign, rest = ("-" if nanos < 0 else ""), abs(nanos)
    unit = next((unit for unit in ("d", "h", "m", "s") if rest >= UNITS[unit]), "ms")
    return f"{sign}{rest // UNITS[unit]}{unit}"


def pane_ns(window_ns):
    return next((pane for pane in PANES_NS if pane * 300 >= window_ns), PANES_NS[-1])


def window_start(now_ns, window_ns):
    """The excluded start of a sliding window: (now - window) rounded down to a pane."""
    pane = pane_ns(window_ns)
    return (now_ns - window_ns) // pane * pane
