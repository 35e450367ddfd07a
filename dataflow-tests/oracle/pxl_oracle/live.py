"""Follows `weir live --rows` and checks that the changes add up to the one-shot answer."""

import json
import subprocess
from collections import Counter

from .compare import comparable, differences, oracle
from .values import time_from_text

# The slowest refresh a plan chooses: a tick that far before a progress message, if it came without
# one, must have changed nothing.
_REFRESH_NS = 10**9


def check(weir, folder, rows, given, library, options):
    """Lines of the first few disagreements."""
    arguments = [part for name, value in given.items() for part in (f"--{name}", value)]
    process = subprocess.Popen(
        [weir.binary, "live", str(folder.path), "--rows", options.rows, "-o", "jsonl", "--tick",
         options.tick, *(["--", *arguments] if arguments else [])],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    lines, tables, settled, seen, frontier = [], {}, {}, 0, None
    for text in process.stdout:
        message = json.loads(text)
        if message["type"] == "schema":
            tables.setdefault(message["table"], Counter())
        elif message["type"] == "changes":
            _apply(tables[message["table"]], message["rows"])
        elif message["type"] == "error":
            lines.append(f"error message: {text.strip()[:600]}")
        elif message["type"] == "progress":
            before, seen, frontier = frontier, seen + 1, time_from_text(message["frontier"])
            lines += _negative(tables, frontier)
            quiet = frontier - _REFRESH_NS
            if before and before < quiet and seen % options.every == 2:
                lines += _compared(folder, rows, quiet, given, library, settled, options)
            settled = {name: Counter(table) for name, table in tables.items()}
            if seen % options.every == 1 or options.every == 1:
                lines += _compared(folder, rows, frontier, given, library, tables, options)
        if len(lines) > 40:
            process.kill()
            break
    process.wait()
    if frontier is not None and len(lines) <= 40:
        lines += _compared(folder, rows, frontier, given, library, tables, options)
    if not seen and not isinstance(oracle(folder, rows, 0, given, library), str):
        lines.append("no progress message")
    return lines


def _apply(table, changes):
    for diff, row in changes:
        key = comparable(row)
        table[key] += diff
        if table[key] == 0:
            del table[key]


def _negative(tables, frontier):
    return [f"negative count in {name} at {frontier}: {dict(row)}"[:600]
            for name, rows in tables.items() for row, count in rows.items() if count < 0]


def _compared(folder, rows, frontier, given, library, tables, options):
    expected = oracle(folder, rows, frontier, given, library, 60_000)
    found = differences(expected, dict(tables), options.show)
    return [f"frontier {frontier}:"] + found if found else []
