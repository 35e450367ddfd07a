"""Rows of a frame at one `now`, by definition and without haste.

A row is (values, upid of the scanned row). Results are shared per frame object, so a frame read
twice is computed once.
"""

from collections import Counter, defaultdict
from itertools import product

from . import frames, timeargs
from .values import ZERO, identity, order_key, value_to_json


class TooManyRows(Exception):
    """A join grew past the environment's limit; only random scripts do that."""


class Environment:
    """What functions may look at besides their arguments."""

    def __init__(self, rows, now_ns, rows_max=5_000_000):
        self.rows_max = rows_max
        self.rows, self.now_ns, self.metadata = rows, now_ns, rows.metadata
        self.memory = {}


def rows_of(frame, env):
    if id(frame) not in env.memory:
        env.memory[id(frame)] = (_EVALUATE[type(frame)](frame, env), frame)
    return env.memory[id(frame)][0]


def json_rows(frame, env):
    """The output as JSON objects."""
    return [
        {name: value_to_json(kind, value) for (name, kind), value in zip(frame.columns, values)}
        for values, _ in rows_of(frame, env)
    ]


def _scan(frame, env):
    now, start, end = env.now_ns, frame.start, frame.end
    low, high = None, now
    if start is not None:
        low = start.time_ns - 1
        if start.sliding:
            low = timeargs.window_start(now, now - start.time_ns)
    if end is not None:
        high = min(now, end.time_ns)
    return [
        (values, upid)
        for arrival, time_ns, values, upid in env.rows.table(frame.table, frame.columns)
        if arrival <= now and time_ns <= high and (low is None or time_ns > low)
    ]


def _table_function(frame, env):
    return [(values, None) for values in env.rows.function_rows(frame.name, frame.columns)]


def _map(frame, env):
    parent = frame.parents[0]
    position = parent.position()
    functions = [bound.compiled(position, env) for _, bound in frame.outputs]
    return [(tuple(function(values, upid) for function in functions), upid)
            for values, upid in rows_of(parent, env)]


def _filter(frame, env):
    parent = frame.parents[0]
    predicate = frame.predicate.compiled(parent.position(), env)
    return [(values, upid) for values, upid in rows_of(parent, env) if predicate(values, upid)]


def _picker(frame, names):
    position = frame.position()
    return [position[name] for name in names]


def _aggregate(frame, env):
    parent = frame.parents[0]
    group_at = _picker(parent, frame.groups)
    kinds = [parent.kinds[name] for name in frame.groups]
    time_at = parent.position().get("time_") if _has_event_time(parent) else None
    groups = defaultdict(list)
    for values, _ in rows_of(parent, env):
        key = tuple(identity(kind, values[at]) for kind, at in zip(kinds, group_at))
        groups[key].append(values)
    if not frame.groups and not groups:
        groups[()] = []
    inputs = [(aggregate.function, _picker(parent, names)) for _, aggregate, names in frame.outputs]
    out = []
    for members in groups.values():
        values = [members[0][at] for at in group_at]
        times = None
        if time_at is not None:
            times = [member[time_at] for member in members]
        for function, picked in inputs:
            values.append(function([tuple(m[at] for at in picked) for m in members], times))
        out.append((tuple(values), None))
    return out


def _join(frame, env):
    left, right = frame.parents
    left_at, right_at = _picker(left, frame.left_on), _picker(right, frame.right_on)
    kinds = [left.kinds[name] for name in frame.left_on]

    def keyed(parent, columns):
        index = defaultdict(list)
        for values, _ in rows_of(parent, env):
            index[tuple(identity(k, values[at]) for k, at in zip(kinds, columns))].append(values)
        return index

    ours, theirs = keyed(left, left_at), keyed(right, right_at)
    zero_left = tuple(ZERO[kind] for _, kind in left.columns)
    zero_right = tuple(ZERO[kind] for _, kind in right.columns)
    out = []
    for key, members in ours.items():
        others = theirs.get(key)
        if others is None and frame.how in ("left", "outer"):
            others = [zero_right]
        out += [(a + b, None) for a, b in product(members, others or [])]
        if len(out) > env.rows_max:
            raise TooManyRows
    if frame.how in ("right", "outer"):
        out += [(zero_left + values, None) for key, members in theirs.items() if key not in ours
                for values in members]
    return out


def _append(frame, env):
    return [(values, None) for parent in frame.parents for values, _ in rows_of(parent, env)]


def _has_event_time(frame):
    """A `time_` that is no time orders nothing."""
    return frame.kinds.get("time_") == "T"


def _head(frame, env):
    position, timed = frame.position(), _has_event_time(frame)
    kinds = [kind for _, kind in frame.columns]

    def packed(row):
        key = tuple(order_key(kind, value) for kind, value in zip(kinds, row[0]))
        return (key[position["time_"]], key) if timed else key

    ordered = sorted(rows_of(frame.parents[0], env), key=packed, reverse=timed)
    return [(values, None) for values, _ in ordered[:frame.limit]]


_EVALUATE = {
    frames.Scan: _scan,
    frames.TableFunction: _table_function,
    frames.Map: _map,
    frames.Filter: _filter,
    frames.Aggregate: _aggregate,
    frames.Join: _join,
    frames.Append: _append,
    frames.Head: _head,
}


def multiset(rows):
    """JSON rows as a counter of canonical texts' stand-ins."""
    return Counter(canonical(row) for row in rows)


def canonical(row):
    return tuple((name, _hashable(value)) for name, value in row.items())


def _hashable(value):
    """True is not 1; -0.0 and 0 are the same number."""
    return ("bool", value) if isinstance(value, bool) else value
