"""Rows of a directory: admission by arrival, future rows dropped, missing fields zero."""

import json
from pathlib import Path

from .metadata import Metadata
from .values import ZERO, time_from_text, value_from_json

FUTURE_NS = 10 * 10**9


def _time(value):
    return time_from_text(value) if isinstance(value, str) else int(value)


class Rows:
    """A rows directory, read once."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.metadata = Metadata(directory)
        self._tables = {}

    def table(self, name, columns):
        """[(arrival, time_, values, upid or None)] without the rows from the future."""
        key = (name, tuple(columns))
        if key not in self._tables:
            self._tables[key] = [
                row for row in map(lambda item: _row(item, columns), self._lines(name))
                if row[1] <= row[0] + FUTURE_NS
            ]
        return self._tables[key]

    def function_rows(self, name, columns):
        return [tuple(_field(item, column, kind) for column, kind in columns)
                for item in self._lines(name)]

    def _lines(self, name):
        path = self.directory / f"{name}.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]

    def last_arrival_second(self):
        """The default of --now: the last arrival of any table, rounded up to a second."""
        last = 0
        for path in self.directory.glob("*.jsonl"):
            if path.stem != "processes":
                for item in self._lines(path.stem):
                    if "time_" in item:
                        last = max(last, _time(item.get("_arrival_", item["time_"])))
        return -(-last // 10**9) * 10**9


def _field(item, name, kind):
    return value_from_json(kind, item[name]) if name in item else ZERO[kind]


def _row(item, columns):
    time_ns = _time(item["time_"])
    values = tuple(_field(item, name, kind) for name, kind in columns)
    names = [name for name, _ in columns]
    upid = values[names.index("upid")] if "upid" in names else None
    return (_time(item.get("_arrival_", time_ns)), time_ns, values, upid)
