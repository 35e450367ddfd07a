"""Runs `weir` and this evaluator on the same script, rows and time, and shows what differs."""

import json
import re
import subprocess
from collections import Counter, defaultdict

from .evaluate import canonical
from .folder import answer
from .frames import TableFunction
from .schema import REGISTRY_FUNCTIONS
from .values import PxlError


_DOUBLE = re.compile(r"-?\d{15,}\.\d+|-?\d+\.\d+(?:[eE][-+]?\d+)?")


class Weir:
    """The program under test."""

    def __init__(self, binary):
        self.binary = binary

    def run(self, script, rows, now_ns, given):
        """(table -> Counter of rows) or the error text."""
        arguments = [part for name, value in given.items() for part in (f"--{name}", value)]
        done = subprocess.run(
            [self.binary, "run", str(script), "--rows", str(rows), "--now", str(now_ns), "-o",
             "jsonl", *(["--", *arguments] if arguments else [])],
            capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0:
            return f"exit {done.returncode}: {done.stderr.strip()[:1500]}"
        completeness = json.loads(done.stderr.strip().splitlines()[-1])
        tables = {name: Counter() for name in completeness["tables"]}
        for line in done.stdout.split("\n"):
            if line:
                row = json.loads(line)
                tables[row.pop("_tableName_")][comparable(row)] += 1
        return tables


def comparable(row):
    """Hashable; numbers inside quantile texts compare as numbers, not by their digits."""
    return canonical({name: _loose(value) for name, value in row.items()})


def _loose(value):
    if isinstance(value, str) and value.startswith('{"error":'):
        return '{"error":'  # the reason is free text
    if isinstance(value, str) and value[:1] in ("{", "["):
        return _DOUBLE.sub(lambda match: repr(float(match[0])), value)
    return value


def oracle(folder, rows, now_ns, given, library, rows_max=5_000_000):
    """(table -> Counter) or the error text; registry tables are left out (None)."""
    try:
        tables = answer(folder, rows, now_ns, given, library, rows_max)
    except PxlError as error:
        return f"error: {error}"
    return {name: None if _registry(frame) else Counter(comparable(row) for row in json_rows)
            for name, (frame, json_rows) in tables.items()}


def _registry(frame):
    if isinstance(frame, TableFunction) and frame.name in REGISTRY_FUNCTIONS:
        return True
    return any(_registry(parent) for parent in frame.parents)


def differences(expected, actual, shown=3):
    """Lines that say how two answers differ; empty when they agree."""
    if isinstance(expected, str) or isinstance(actual, str):
        if isinstance(expected, str) and isinstance(actual, str):
            return []
        return [f"oracle: {_summary(expected)}", f"weir:   {_summary(actual)}"]
    lines = []
    if list(expected) != list(actual) and set(expected) != set(actual):
        lines.append(f"tables: oracle {sorted(expected)}, weir {sorted(actual)}")
    for name in expected.keys() & actual.keys():
        if expected[name] is not None:
            lines += _table_differences(name, expected[name], actual[name], shown)
    return lines


def _summary(answer_or_error):
    if isinstance(answer_or_error, str):
        return answer_or_error
    return {name: rows.total() if rows is not None else "registry"
            for name, rows in answer_or_error.items()}


def _table_differences(name, expected, actual, shown):
    missing, extra = expected - actual, actual - expected
    if not missing and not extra:
        order = _column_order(expected), _column_order(actual)
        return [f"{name}: columns {order[0]} but {order[1]}"] if order[0] != order[1] else []
    lines = [f"{name}: {missing.total()} rows only in the oracle, {extra.total()} only in weir,"
             f" of {expected.total()}"]
    columns = defaultdict(int)
    for ours, theirs in _pairs(missing, extra):
        wrong = [c for c in ours if ours.get(c) != theirs.get(c)]
        for column in wrong:
            columns[column] += 1
        if shown > 0:
            shown -= 1
            lines.append(f"  same {json.dumps(_without(ours, wrong), default=str)[:600]}")
            lines += [f"    {c}: oracle {ours.get(c)!r} weir {theirs.get(c)!r}" for c in wrong]
    if columns:
        lines.append(f"  wrong columns: {dict(columns)}")
    for label, rows in (("oracle", missing), ("weir", extra)):
        if not columns:
            lines += [f"  only {label}: {dict(row)}"[:900] for row in list(rows)[:shown]]
    return lines


def _column_order(rows):
    return [name for name, _ in next(iter(rows), ())]


def _without(row, names):
    return {name: value for name, value in row.items() if name not in names}


def _pairs(missing, extra):
    """Each missing row with the extra row most like it."""
    left = [dict(row) for row in extra.elements()][:400]
    for row in list(missing.elements())[:200]:
        ours = dict(row)
        if not left:
            return
        best = max(left, key=lambda other: sum(ours.get(k) == v for k, v in other.items()))
        left.remove(best)
        yield ours, best
