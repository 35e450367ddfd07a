"""Script folders and vis.json: which functions run, with which arguments, as which tables."""

import json
from pathlib import Path

from .evaluate import Environment, json_rows
from .frontend import Script
from .schema import TRACEPOINT_TABLES
from .values import PxlError

_PLACEHOLDERS = {"PX_POD": "ns/name", "PX_SERVICE": "ns/name", "PX_NAMESPACE": "name",
                 "PX_NODE": "name", "PX_INT64": "0", "PX_FLOAT64": "0", "PX_BOOLEAN": "false"}


class ScriptFolder:
    """A `.pxl` file or a folder with one and perhaps a vis.json."""

    def __init__(self, path):
        path = Path(path)
        self.path = path
        source = path if path.is_file() else next(iter(sorted(path.glob("*.pxl"))))
        self.text = source.read_text()
        self.vis = {}
        for name in ("vis.json", "viz.json"):
            if path.is_dir() and (path / name).exists():
                self.vis = json.loads((path / name).read_text())
                break

    def required(self):
        """Variables without a default: name -> type."""
        return {v["name"]: v["type"] for v in self.vis.get("variables", [])
                if "defaultValue" not in v}

    def variables(self, given):
        values = {v["name"]: v.get("defaultValue", _PLACEHOLDERS.get(v["type"], "x"))
                  for v in self.vis.get("variables", [])}
        return {**values, **given}

    def calls(self, given):
        """(output prefix, function, argument texts) in order."""
        values = self.variables(given)
        calls = [(g["outputName"], g["func"]) for g in self.vis.get("globalFuncs", [])]
        for index, widget in enumerate(self.vis.get("widgets", [])):
            if "func" in widget:
                calls.append((widget.get("name") or f"widget_{index}", widget["func"]))
        out = []
        for prefix, function in calls:
            arguments = {arg["name"]: values[arg["variable"]] if "variable" in arg
                         else arg.get("value", "") for arg in function.get("args", [])}
            out.append((prefix, function["name"], arguments))
        return out

    def frames(self, now_ns, given, library):
        """[(table, frame)] at one now; raises PxlError."""
        calls = self.calls(given)
        script = Script(self.text, now_ns, library, TRACEPOINT_TABLES)
        outputs = list(script.outputs) if not calls else [
            item for item in script.outputs if item[0].startswith("_")]
        script.execs_functions = bool(calls)
        script.outputs = outputs
        for prefix, function, arguments in calls:
            result = script.call_function(function, arguments)
            if isinstance(result, list):
                outputs += [(f"{prefix}[{i}]", frame) for i, frame in enumerate(result)]
            else:
                outputs.append((prefix, result))
        if not outputs:
            raise PxlError("query does not output a result")
        named, used = [], set()
        for name, frame in outputs:
            unique, suffix = name, 0
            while unique in used:
                suffix += 1
                unique = f"{name}_{suffix}"
            used.add(unique)
            named.append((unique, frame))
        return named


def answer(folder, rows, now_ns, given=None, library=None, rows_max=5_000_000):
    """table -> (frame, JSON rows) of one run."""
    env = Environment(rows, now_ns, rows_max)
    return {name: (frame, json_rows(frame, env))
            for name, frame in folder.frames(now_ns, given or {}, library)}
