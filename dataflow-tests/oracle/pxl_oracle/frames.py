"""Dataframes as immutable trees of operators with typed, ordered columns.

The rules of columns, names and suffixes live here; the rows they stand for are `evaluate`'s.
"""

from . import exprs
from .aggregates import resolve_aggregate
from .exprs import Bound
from .values import NAMES, PxlError


class Frame:
    """`columns` is a list of (name, type); a subclass says how its rows come about."""

    parents = ()

    def __init__(self, columns, after_blocking):
        self.columns = list(columns)
        self.kinds = dict(self.columns)
        self.after_blocking = after_blocking
        if len(self.kinds) != len(self.columns):
            raise PxlError("duplicate column name")

    @property
    def names(self):
        return [name for name, _ in self.columns]

    def position(self):
        return {name: index for index, (name, _) in enumerate(self.columns)}

    def require(self, names):
        for name in names:
            if name not in self.kinds:
                raise PxlError(f"column '{name}' not found in parent dataframe")


class Scan(Frame):
    """A table's rows; `start` and `end` are None or a `timeargs.Bound`."""

    def __init__(self, table, columns, start, end):
        super().__init__(columns, False)
        self.table, self.start, self.end = table, start, end


class TableFunction(Frame):
    def __init__(self, name, columns):
        super().__init__(columns, False)
        self.name = name


class Map(Frame):
    """Each output column computed from one parent row."""

    def __init__(self, parent, outputs):
        super().__init__([(name, bound.kind) for name, bound in outputs], parent.after_blocking)
        self.parents, self.outputs = (parent,), outputs

    def sources(self):
        """Output name to parent column, for the columns that are only passed or renamed."""
        return {name: bound.column for name, bound in self.outputs if bound.column is not None}


class Filter(Frame):
    def __init__(self, parent, predicate):
        super().__init__(parent.columns, parent.after_blocking)
        self.parents, self.predicate = (parent,), predicate


class Aggregate(Frame):
    """Group columns, then (output, aggregate, input columns)."""

    def __init__(self, parent, groups, outputs):
        columns = [(name, parent.kinds[name]) for name in groups]
        columns += [(name, aggregate.result) for name, aggregate, _ in outputs]
        super().__init__(columns, True)
        self.parents, self.groups, self.outputs = (parent,), groups, outputs


class Join(Frame):
    def __init__(self, left, right, how, left_on, right_on, columns):
        super().__init__(columns, True)
        self.parents, self.how = (left, right), how
        self.left_on, self.right_on = left_on, right_on


class Append(Frame):
    def __init__(self, parents):
        super().__init__(parents[0].columns, True)
        self.parents = tuple(parents)


class Head(Frame):
    def __init__(self, parent, limit):
        super().__init__(parent.columns, True)
        self.parents, self.limit = (parent,), limit


def assign(parent, name, expression):
    bound = exprs.bind(expression, parent)
    outputs = [(other, Bound(kind, column=other)) for other, kind in parent.columns if other != name]
    return Map(parent, outputs + [(name, bound)])


def keep(parent, names):
    parent.require(names)
    if len(set(names)) != len(names):
        raise PxlError("cannot specify the same column name more than once")
    return Map(parent, [(name, Bound(parent.kinds[name], column=name)) for name in names])


def drop(parent, names):
    parent.require(names)
    return keep(parent, [name for name in parent.names if name not in names])


def filter_rows(parent, expression):
    bound = exprs.bind(expression, parent)
    if bound.kind != "B":
        raise PxlError("a filter must be BOOLEAN")
    return _below_head(parent, bound) or Filter(parent, bound)


def _below_head(frame, predicate):
    """The frame with the filter moved below a head it reaches unmodified, or None."""
    if isinstance(frame, Head):
        parent = frame.parents[0]
        return Head(_below_head(parent, predicate) or Filter(parent, predicate), frame.limit)
    if isinstance(frame, Filter):
        moved = _below_head(frame.parents[0], predicate)
        return moved and Filter(moved, frame.predicate)
    if isinstance(frame, Aggregate) and frame.groups and predicate.columns() <= set(frame.groups):
        moved = _below_head(frame.parents[0], predicate)
        return moved and Aggregate(moved, frame.groups, frame.outputs)
    if isinstance(frame, Map):
        sources = frame.sources()
        if predicate.columns() <= sources.keys():
            moved = _below_head(frame.parents[0], predicate.renamed(sources))
            return moved and Map(moved, frame.outputs)
    return None


def aggregate(parent, groups, outputs):
    parent.require(groups)
    if not groups and not outputs:
        raise PxlError("an aggregate needs a group or an output")
    resolved = []
    for name, function, columns in outputs:
        parent.require(columns)
        kinds = "".join(parent.kinds[column] for column in columns)
        resolved.append((name, resolve_aggregate(function, kinds), columns))
    return Aggregate(parent, groups, resolved)


def merge(left, right, how, left_on, right_on, suffixes):
    if how not in ("inner", "left", "right", "outer"):
        raise PxlError(f"'{how}' join type not supported")
    if len(left_on) != len(right_on):
        raise PxlError("'left_on' and 'right_on' must contain the same number of elements")
    left.require(left_on)
    right.require(right_on)
    for ours, theirs in zip(left_on, right_on):
        if left.kinds[ours] != right.kinds[theirs]:
            raise PxlError("join columns must have the same data type")
    columns = []
    for frame, other, suffix in ((left, right, suffixes[0]), (right, left, suffixes[1])):
        columns += [
            (name + suffix if name in other.kinds else name, kind) for name, kind in frame.columns
        ]
    return Join(left, right, how, left_on, right_on, columns)


def append(first, others):
    parents = [first]
    for other in others:
        if other.kinds != first.kinds:
            raise PxlError("table schema disagreement between parent ops")
        parents.append(other if other.columns == first.columns else keep(other, first.names))
    return Append(parents)


def head(parent, limit):
    if limit < 0:
        raise PxlError("head needs a count of at least 0")
    return Head(parent, limit)


def describe(frame, depth=0):
    """The operator tree as text, for reports."""
    detail = {
        Scan: lambda f: f.table,
        Map: lambda f: ", ".join(f.names),
        Aggregate: lambda f: f"by {f.groups} -> {[(n, a.name, c) for n, a, c in f.outputs]}",
        Head: lambda f: f.limit,
        Join: lambda f: (f.how, f.left_on, f.right_on),
    }.get(type(frame), lambda f: "")(frame)
    lines = [f"{'  ' * depth}{type(frame).__name__} {detail}"]
    return "\n".join(lines + [describe(parent, depth + 1) for parent in frame.parents])


def type_names(frame):
    return {name: NAMES[kind] for name, kind in frame.columns}
