"""Random PxL scripts that type-check: sources, maps, filters, heads, aggregates, joins, unions.

Each statement is tried on the symbolic evaluator as it is written, so that the generator always
knows the columns and their types.
"""

import ast
import random
import re

from .frontend import Script
from .modules import DataFrame
from .values import PxlError

TABLES = ["http_events", "process_stats", "conn_stats", "network_stats", "kafka_events.beta",
          "pgsql_events", "stack_traces.beta", "dns_events"]
WINDOWS = ["-5m", "-30s", "-2m", "-10m", "-90s", "-1h", "-7d", "-5s", "-1500ms"]
STRINGS = ["", "x", "a;b", "10.1.0.11", "/items", "GET", "shop/cart", '{"a":5.0,"b":[1]}', "main"]


class Writer:
    """Writes one script; `text` is what has been accepted."""

    def __init__(self, seed, metadata):
        self.random = random.Random(seed)
        self.metadata = metadata
        self.lines = ["import px"]
        self.script = Script("import px\n", 1767226200 * 10**9)
        self.count = 0

    @property
    def text(self):
        return "\n".join(self.lines) + "\n"

    def accept(self, line):
        """Runs a line; whether it was valid."""
        try:
            body = ast.parse(line).body
            self.script._run_body(body, self.script.module_scope, top=True)
        except PxlError:
            return False
        self.lines.append(line)
        return True

    def frames(self):
        return [name for name, value in self.script.module_scope.names.items()
                if isinstance(value, DataFrame)]

    def columns(self, frame, kinds="BIFSTU"):
        columns = self.script.module_scope.names[frame].frame.columns
        return [(name, kind) for name, kind in columns if kind in kinds]

    def fresh(self, prefix):
        self.count += 1
        return f"{prefix}{self.count}"

    def pick(self, *options):
        return self.random.choice(options)

    # Expressions

    def expression(self, frame, kind, depth=0):
        columns = self.columns(frame, kind)
        roll = self.random.random()
        if columns and (roll < 0.45 or depth > 2):
            return f"{frame}['{self.random.choice(columns)[0]}']"
        if depth > 2 or roll < 0.55:
            return self.literal(kind)
        if not _TEMPLATES[kind]:
            return self.literal(kind)
        template = self.pick(*_TEMPLATES[kind])
        return _PLACE.sub(lambda place: self.expression(frame, place[1], depth + 1), template)

    def literal(self, kind):
        return {
            "B": lambda: self.pick("True", "False"),
            "I": lambda: str(self.pick(0, 1, 2, 7, 400, 1000000, -5)),
            "F": lambda: self.pick("0.5", "1.0", "-2.25", "0.1", "1e300"),
            "S": lambda: repr(self.random.choice(STRINGS)),
            "T": lambda: self.pick("px.parse_time('2026-01-01 00:05:00 +0000')",
                                   "px.int64_to_time(0)"),
            "U": lambda: "px.uint128('00000001-0000-0064-0000-00000000044c')",
        }[kind]()

    # Statements

    def source(self):
        name = self.fresh("d")
        if self.random.random() < 0.1:
            self.accept(f"{name} = px.{self.pick('GetAgentStatus', 'GetTracepointStatus')}()")
            return
        window = f", start_time='{self.random.choice(WINDOWS)}'" if self.pick(1, 1, 1, 0) else ""
        if self.random.random() < 0.06:
            window = ", start_time='2026-01-01 00:06:00 +0000'"
        elif self.random.random() < 0.08:
            window = ", start_time=px.now() - px.minutes(3), end_time=px.now()"
        self.accept(f"{name} = px.DataFrame('{self.random.choice(TABLES)}'{window})")
        if self.random.random() < 0.7:
            self.accept(f"{name}.few = px.bin(px.time_to_int64({name}.time_), 20000000000)")
        if self.metadata and self.random.random() < 0.5:
            key = self.pick("pod", "service", "namespace", "node", "container", "cmdline", "pid")
            self.accept(f"{name}.{key}_ = {name}.ctx['{key}']")
        if self.metadata and self.random.random() < 0.3:
            self.accept(f"{name}.host = px._exec_hostname()")
        return name

    def assign(self, frame):
        kind = self.pick(*"BIFSTIFSI")
        column = self.fresh("c")
        if self.random.random() < 0.12:
            column, kind = self.random.choice(self.columns(frame))
        if kind == "U":
            return
        if self.random.random() < 0.02 and self.columns(frame, "T"):
            time = self.random.choice(self.columns(frame, "T"))[0]
            self.accept(f"{frame}['{column}'] = px.now() - px.time_to_int64({frame}['{time}'])")
            return
        self.accept(f"{frame}['{column}'] = {self.expression(frame, kind)}")

    def filter(self, frame):
        condition = self.expression(frame, "B")
        if self.random.random() < 0.6 and self.columns(frame, "I"):
            condition = f"{frame}['{self.random.choice(self.columns(frame, 'I'))[0]}'] > 1"
        self.accept(f"{frame} = {frame}[{condition}]")

    def head(self, frame):
        self.accept(f"{frame} = {frame}.head({self.pick(0, 1, 3, 10, 25)})")
        if self.random.random() < 0.4:
            self.filter(frame)

    def keep(self, frame):
        names = [name for name, _ in self.columns(frame)]
        chosen = self.random.sample(names, self.random.randrange(1, len(names) + 1))
        self.accept(f"{frame} = {frame}[{chosen!r}]")

    def aggregate(self, frame):
        keys = [name for name, kind in self.columns(frame) if name.startswith(("few", "c", "k"))
                or name.endswith("_") and name != "time_"
                or name in ("trace_role", "req_method", "protocol", "pod_id", "resp_status")]
        groups = self.random.sample(keys, min(len(keys), self.random.randrange(0, 4)))
        outputs = []
        for _ in range(self.random.randrange(0 if groups else 1, 5)):
            column, kind = self.random.choice(self.columns(frame))
            function = self.pick(*{"I": ["sum", "mean", "min", "max", "quantiles", "any", "count"],
                                   "F": ["sum", "mean", "min", "max", "quantiles", "any"],
                                   "B": ["sum", "mean", "count", "any"],
                                   "T": ["min", "max", "any", "count"],
                                   "S": ["any", "count", "any"], "U": ["any"]}[kind])
            name = "time_" if self.random.random() < 0.1 and kind == "T" else self.fresh("a")
            if not any(output.startswith(name + "=") for output in outputs):
                outputs.append(f"{name}=('{column}', px.{function})")
        grouped = f".groupby({groups!r})" if groups or self.pick(0, 1) else ""
        self.accept(f"{frame} = {frame}{grouped}.agg({', '.join(outputs)})")

    def merge(self, left, right):
        pairs = [(a, b) for a, kind in self.columns(left) for b, other in self.columns(right)
                 if kind == other and not a.startswith(("time_", "upid", "a"))]
        same = [(a, b) for a, b in pairs if a == b]
        keys = self.random.sample(same or pairs, min(len(same or pairs), self.pick(0, 1, 1, 2)))
        if len({a for a, _ in keys}) < len(keys) or len({b for _, b in keys}) < len(keys):
            keys = keys[:1]
        name = self.fresh("m")
        if not keys:
            self.head(left)
            self.head(right)
        how = self.pick("inner", "left", "right", "outer")
        suffixes = self.pick("", ", suffixes=['', '_r']", ", suffixes=['_l', '']")
        self.accept(f"{name} = {left}.merge({right}, how='{how}', left_on={[a for a, _ in keys]!r},"
                    f" right_on={[b for _, b in keys]!r}{suffixes})")

    def append(self, frame):
        other, name = self.fresh("o"), self.fresh("u")
        self.accept(f"{other} = {frame}")
        self.filter(other)
        if self.accept(f"{name} = {frame}.append({self.pick(other, f'[{other}, {other}]')})"):
            return
        self.lines.pop()

    def step(self):
        frames = self.frames()
        if not frames or (len(frames) < 3 and self.random.random() < 0.15):
            self.source()
            return
        frame = self.random.choice(frames)
        action = self.pick("assign", "assign", "assign", "filter", "filter", "aggregate",
                           "aggregate", "head", "keep", "merge", "append")
        if action == "merge":
            self.merge(frame, self.random.choice(frames))
        else:
            getattr(self, action)(frame)

    def finish(self):
        for frame in self.frames()[-3:]:
            self.accept(f"px.display({frame}, '{frame}')")


_PLACE = re.compile(r"\{([BIFSTU])\}")
_TEMPLATES = {
    "B": ["({I}) > ({I})", "({F}) <= ({F})", "({S}) == ({S})", "({S}) != ({S})",
          "({B}) and ({B})", "({B}) or ({B})", "not ({B})", "px.contains({S}, {S})",
          "({I}) == ({F})", "({F}) != ({F})", "({T}) >= ({T})",
          "px.regex_match('.*a.*', {S})", "px.select({B}, {B}, {B})", "({U}) == ({U})",
          "({I}) and ({I})", "({I}) == ({B})"],
    "I": ["({I}) + ({I})", "({I}) - ({I})", "({I}) * ({I})", "({I}) % ({I})", "-({I})", "~({I})",
          "px.bin({I}, {I})", "px.bin({I}, 10)", "px.floor({F})", "px.ceil({F})",
          "px.length({S})", "px.find({S}, {S})", "px.select({B}, {I}, {I})", "({T}) - ({T})",
          "px.atoi({S}, 3)", "px.abs({I})", "px.time_to_int64({T})", "px.pluck_int64({S}, 'a')",
          "px.bin({F}, 3)"],
    "F": ["({I}) / ({I})", "({F}) / ({F})", "({F}) + ({I})", "({I}) - ({F})", "({F}) * ({F})",
          "-({F})", "px.abs({F})", "px.select({B}, {F}, {F})", "px.pluck_float64({S}, 'a')",
          "px.sqrt({I})", "px.pluck_float64({S}, 'p50')"],
    "S": ["({S}) + ({S})", "px.substring({S}, 1, 4)", "px.toupper({S})", "px.trim({S})",
          "px.itoa({I})", "px.select({B}, {S}, {S})", "px.pluck({S}, 'a')",
          "px.pluck_array({S}, 0)", "px.split({S}, ';')", "px.replace('[a-c]+', {S}, '<>')",
          "px.redact_pii_best_effort({S})", "px.strip_prefix('/', {S})",
          "px.script_reference({S}, 'px/pod', {'a': {S}})", "px.pluck({S}, 'topics')"],
    "T": ["({T}) + ({I})", "({T}) - ({I})", "px.bin({T}, px.seconds(10))",
          "px.select({B}, {T}, {T})", "px.bin({T}, {I})"],
    "U": [],
}


def script(seed, metadata=False):
    """The text of the seed's script."""
    for attempt in range(20):
        writer = Writer(f"{seed}-{attempt}", metadata)
        for _ in range(writer.random.randrange(3, writer.random.choice([14, 14, 30]))):
            writer.step()
        writer.finish()
        if any(line.startswith("px.display") for line in writer.lines):
            return writer.text
    raise RuntimeError("no script")
