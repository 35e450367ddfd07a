"""The modules a script imports (`px`, `pxtrace`, `pxconfig`) and the compile-time values."""

import uuid
from dataclasses import dataclass

from . import frames, timeargs
from .aggregates import NAMES_OF_AGGREGATES
from .exprs import Call, Cast, ColumnRef, Literal, Metadata
from .functions import SCALARS
from .schema import TABLE_FUNCTIONS, TABLES
from .values import PxlError


@dataclass
class Module:
    name: str
    members: dict

    def get(self, name):
        if name not in self.members:
            raise PxlError(f"module '{self.name}' has no attribute '{name}'")
        return self.members[name]


@dataclass
class DataFrame:
    """A frame under the variable it was read from."""

    frame: object
    name: str = None


@dataclass
class Groups:
    frame: object
    by: list


@dataclass
class TypeObject:
    name: str
    kind: str
    castable: bool = True


@dataclass
class Builtin:
    name: str
    function: object
    aggregate: bool = False


@dataclass
class UserFunction:
    node: object
    scope: object

    def call(self, script, positional, named):
        return script.run_function(self, positional, named)


_CASTS = {"Time": "T", "Service": "S", "Pod": "S", "Node": "S", "Namespace": "S",
          "Container": "S", "UPID": "U", "Bytes": "I", "DurationNanos": "I", "Percent": "F"}
_UNITS_NS = {"days": 86400 * 10**9, "hours": 3600 * 10**9, "minutes": 60 * 10**9,
             "seconds": 10**9, "milliseconds": 10**6, "microseconds": 10**3}


def literal_of(value):
    if value is None:
        return None
    if isinstance(value, bool):
        return Literal("B", value)
    if isinstance(value, int):
        return Literal("I", value)
    if isinstance(value, float):
        return Literal("F", value)
    if isinstance(value, str):
        return Literal("S", value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return Literal("S", value)
    raise PxlError(f"can't parse a literal {value!r}")


def plain(value, kind):
    """The Python value of a literal of the type, or PxlError."""
    if isinstance(value, Literal) and value.kind == kind and not value.now_factor:
        return value.value
    raise PxlError(f"expected a literal {kind}, received {value!r}")


def make_modules(script):
    px = Module("px", {})
    for name in SCALARS:
        px.members[name] = Builtin(name, _scalar_call(name))
    for name in NAMES_OF_AGGREGATES:
        px.members[name] = Builtin(name, None, aggregate=True)
    for name in TABLE_FUNCTIONS:
        px.members[name] = Builtin(name, _table_function(name))
    for name, kind in _CASTS.items():
        px.members[name] = TypeObject(name, kind)
    for name, factor in _UNITS_NS.items():
        px.members[name] = Builtin(
            name, lambda _s, unit, factor=factor: Literal("I", plain(unit, "I") * factor)
        )
    for name, function in _PX.items():
        px.members[name] = Builtin(name, function)
    px.members["vis"] = Module("vis", {"vega": Builtin("vega", lambda _s, spec: Builtin(
        "vega", lambda _s, function: function))})
    trace = Module("pxtrace", {
        "kprobe": Builtin("kprobe", lambda _s: "kprobe"),
        "TraceProgram": Builtin("TraceProgram", lambda _s, program, **selectors: program),
        "UpsertTracepoint": Builtin("UpsertTracepoint", _upsert_tracepoint),
        "DeleteTracepoint": Builtin("DeleteTracepoint", lambda _s, name: None),
    })
    config = Module("pxconfig", {
        "set_agent_config": Builtin("set_agent_config", lambda _s, *a, **k: None)})
    return {"px": px, "pxtrace": trace, "pxconfig": config}


def _scalar_call(name):
    def build(_script, *args):
        for arg in args:
            if not isinstance(arg, (Literal, ColumnRef, Call, Cast, Metadata)):
                raise PxlError(f"{name}: expected an expression")
        return Call(name, tuple(args))

    return build


def _table_function(name):
    parameters, columns = TABLE_FUNCTIONS[name]

    def build(_script, *positional, **named):
        if len(positional) > len(parameters) or named.keys() - parameters.keys():
            raise PxlError(f"{name}: unexpected argument")
        return DataFrame(frames.TableFunction(name, columns))

    return build


def _upsert_tracepoint(script, name, table_name, probe_fn, target, ttl):
    table = plain(table_name, "S").decode()
    if table not in script.trace_tables:
        raise PxlError(f"no declared columns known for the traced table '{table}'")
    timeargs.duration(plain(ttl, "S").decode())
    script.tables[table] = script.trace_tables[table]


def _dataframe(script, table, select=None, start_time=None, end_time=None):
    name = plain(table, "S").decode()
    columns = script.tables.get(name) or TABLES.get(name)
    if columns is None:
        raise PxlError(f"table '{name}' not found")
    frame = frames.Scan(name, columns, _bound(script, start_time), _bound(script, end_time))
    if select:
        frame = frames.keep(frame, [plain(column, "S").decode() for column in select])
    return DataFrame(frame)


def _bound(script, value):
    if value is None:
        return None
    if not isinstance(value, Literal) or value.kind not in "IST":
        raise PxlError("a time bound must be a time, an integer or a string")
    if value.kind == "S":
        value = _parse_time(script, value)
    if value.now_factor not in (0, 1):
        raise PxlError("now_not_constant")
    return timeargs.Bound(value.value, value.now_factor == 1)


def _parse_time(script, value):
    if not isinstance(value, Literal) or value.kind not in "IST":
        raise PxlError("parse_time takes a time, an integer or a string")
    if value.kind != "S":
        return Literal("T", value.value, value.now_factor)
    text = value.value.decode()
    moment = timeargs.absolute(text)
    if moment is not None:
        return Literal("T", moment)
    return Literal("T", script.now_ns + timeargs.duration(text), 1)


def _display(prefix):
    def show(script, out, name=Literal("S", b"output"), cols=None):
        if not isinstance(out, DataFrame):
            raise PxlError("only dataframes can be displayed")
        if prefix or not script.execs_functions:
            script.outputs.append((prefix + plain(name, "S").decode(), out.frame))

    return show


def _equals_any(_script, value, comparisons):
    chain = None
    for item in comparisons:
        equal = Call("equal", (value, item))
        chain = equal if chain is None else Call("logicalOr", (chain, equal))
    if chain is None:
        raise PxlError("equals_any needs a value to compare with")
    return chain


def _script_reference(_script, label, script, args=None):
    if args is not None and not isinstance(args, dict):
        raise PxlError("args must be a dictionary")
    operands = [label, script]
    for key, value in (args or {}).items():
        operands += [Literal("S", key), value]
    return Call("_script_reference", tuple(operands))


def _upid_literal(_script, asid, pid, ts_ns):
    value = (plain(asid, "I") << 96) | (plain(pid, "I") << 64) | plain(ts_ns, "I")
    return Literal("U", value)


_PX = {
    "now": lambda script: Literal("I", script.now_ns, 1),
    "parse_duration": lambda _s, duration: Literal(
        "I", timeargs.duration(plain(duration, "S").decode())),
    "format_duration": lambda _s, duration: Literal(
        "S", timeargs.format_duration(plain(duration, "I")).encode()),
    "parse_time": _parse_time,
    "uint128": lambda _s, uuid_text: Literal("U", uuid.UUID(plain(uuid_text, "S").decode()).int),
    "make_upid": _upid_literal,
    "equals_any": _equals_any,
    "script_reference": _script_reference,
    "display": _display(""),
    "debug": _display("_"),
    "DataFrame": _dataframe,
}
