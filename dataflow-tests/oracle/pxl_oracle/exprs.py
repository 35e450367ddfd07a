"""Row expressions: what the front end builds, and what they become against one frame.

A `Literal`, `ColumnRef`, `Call`, `Cast` or `Metadata` names columns only; `bind` resolves it
against a frame's columns at the place of use, chooses overloads and yields a `Bound`.
"""

from dataclasses import dataclass, field

from . import registry
from .values import NAMES, PxlError

# key -> (canonical property, key columns in the order tried)
_POD_CHAIN = ["upid", "pod_id", "pod_name"]
METADATA_KEYS = {}
for _aliases, _keys in [
    (("container_id",), ["upid"]),
    (("container_name", "container"), ["upid"]),
    (("service_id",), ["upid", "service_name", "pod_id", "pod_name"]),
    (("service_name", "service"), ["upid", "service_id", "pod_id", "pod_name"]),
    (("pod_id",), ["upid", "pod_name"]),
    (("pod_name", "pod"), ["upid", "pod_id"]),
    (("deployment_id",), ["upid", "deployment_name", "pod_id", "pod_name", "replicaset_id",
                          "replicaset_name"]),
    (("deployment_name", "deployment"), ["upid", "deployment_id", "pod_id", "pod_name",
                                         "replicaset_id", "replicaset_name"]),
    (("replicaset_id", "replica_set_id"), ["upid", "pod_id", "pod_name", "replicaset_name"]),
    (("replicaset_name", "replica_set", "replicaset"), ["upid", "pod_id", "pod_name",
                                                        "replicaset_id"]),
    (("namespace",), _POD_CHAIN + ["service_name"]),
    (("node_name", "node"), ["upid", "pod_id"]),
    (("hostname", "host"), ["upid"]),
    (("cmdline", "cmd"), ["upid"]),
    (("asid",), ["upid"]),
    (("pid",), ["upid"]),
]:
    for _alias in _aliases:
        METADATA_KEYS[_alias] = (_aliases[0], _keys)


@dataclass(frozen=True)
class Literal:
    """A value known while compiling; `now_factor` is a of an affine a·now + b."""

    kind: str
    value: object
    now_factor: int = 0


@dataclass(frozen=True)
class ColumnRef:
    name: str
    frame_name: str = None  # set by the subscript form only


@dataclass(frozen=True)
class Call:
    name: str
    args: tuple


@dataclass(frozen=True)
class Cast:
    name: str
    kind: str
    of: object


@dataclass(frozen=True)
class Metadata:
    key: str
    frame_name: str = None


@dataclass(frozen=True)
class Bound:
    """An expression resolved against a frame: a column, a literal or an overload on operands."""

    kind: str
    column: str = None
    value: object = None
    overload: object = None
    args: tuple = field(default=())

    def columns(self):
        if self.column is not None:
            return {self.column}
        return set().union(*(arg.columns() for arg in self.args))

    def renamed(self, sources):
        """The same expression over a parent's columns, `sources` mapping name to parent name."""
        if self.column is not None:
            return Bound(self.kind, column=sources[self.column])
        return Bound(self.kind, None, self.value, self.overload,
                     tuple(arg.renamed(sources) for arg in self.args))

    def compiled(self, position, env):
        """A function of (values, upid)."""
        if self.column is not None:
            index = position[self.column]
            return lambda values, upid: values[index]
        if self.overload is None:
            value = self.value
            return lambda values, upid: value
        args = [arg.compiled(position, env) for arg in self.args]
        function = self.overload.function
        if self.overload.contextual:
            return lambda values, upid: function(env, upid, *(arg(values, upid) for arg in args))
        if len(args) == 1:
            only = args[0]
            return lambda values, upid: function(only(values, upid))
        return lambda values, upid: function(*(arg(values, upid) for arg in args))


def bind(expression, frame):
    """Resolves names, metadata keys and overloads against a frame."""
    if isinstance(expression, Literal):
        return Bound(expression.kind, value=expression.value)
    if isinstance(expression, ColumnRef):
        return _column(expression.name, frame)
    if isinstance(expression, Cast):
        inner = bind(expression.of, frame)
        if inner.kind != expression.kind:
            raise PxlError(f"cannot cast from '{NAMES[inner.kind]}' to '{expression.name}'")
        return inner
    if isinstance(expression, Metadata):
        return _metadata(expression.key, frame)
    if isinstance(expression, Call):
        return _call(expression.name, [bind(arg, frame) for arg in expression.args], frame)
    raise PxlError(f"not a row expression: {expression!r}")


def _column(name, frame):
    kind = frame.kinds.get(name)
    if kind is None:
        raise PxlError(f"column '{name}' not found in parent dataframe")
    return Bound(kind, column=name)


def _call(name, args, frame):
    overload = registry.resolve(name, "".join(arg.kind for arg in args))
    for index in overload.constants:
        if args[index].column is not None or args[index].overload is not None:
            raise PxlError(f"argument {index} of {name} must be a literal")
    if overload.node_only and frame.after_blocking:
        raise PxlError(f"UDF '{name}' must execute before blocking nodes")
    return Bound(overload.result, overload=overload, args=tuple(args))


def _metadata(key, frame):
    if key not in METADATA_KEYS:
        raise PxlError(f"'{key}' unavailable metadata key")
    name, keys = METADATA_KEYS[key]
    found = next((column for column in keys if column in frame.kinds), None)
    if found is None:
        raise PxlError(f"metadata key '{key}' needs one of the columns {keys}")
    columns = [_column(found, frame)]
    function = f"{found}_to_{name}"
    if name == "pod_name" and found == "upid" and {"local_addr", "time_"} <= frame.kinds.keys():
        function = "_upid_to_podname_local_addr_fallback"
        columns += [_column("local_addr", frame), _column("time_", frame)]
    return _call(function, columns, frame)
