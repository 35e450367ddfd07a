"""Command line: `world` writes rows, `run` prints an answer, `compare` and `live` check weir."""

import argparse
import json
import sys
import time
from pathlib import Path

from . import compare, fuzz, live, world
from .evaluate import TooManyRows
from .folder import ScriptFolder, answer
from .rows import Rows


def main():
    parser = argparse.ArgumentParser(prog="pxl_oracle", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("world", help="write a seeded rows directory")
    make.add_argument("directory")
    make.add_argument("--seed", type=int, default=1)
    make.add_argument("--rows-per-table", type=int, default=300)
    make.add_argument("--span-s", type=int, default=720, help="seconds most rows lie in")
    make.add_argument("--no-metadata", action="store_true")
    for name in ("run", "compare", "live"):
        command = commands.add_parser(name)
        command.add_argument("scripts", nargs="+", help="script folders, files, or folders of them")
        command.add_argument("--rows", required=True)
        command.add_argument("--now", action="append", default=[], help="seconds before the end, or ns")
        command.add_argument("--views", help="source of the pxviews module")
        command.add_argument("--filled", action="store_true", help="also fill optional arguments")
        command.add_argument("--weir", default="weir")
        command.add_argument("--tick", default="1s")
        command.add_argument("--every", type=int, default=25, help="check every Nth progress")
        command.add_argument("--show", type=int, default=3)
    random = commands.add_parser("fuzz", help="random scripts, one-shot and live")
    random.add_argument("--rows", required=True)
    random.add_argument("--seeds", default="1-50")
    random.add_argument("--metadata", action="store_true", help="scripts look up pods")
    random.add_argument("--live", action="store_true")
    random.add_argument("--keep", default="/tmp", help="where scripts that differ are written")
    random.add_argument("--weir", default="weir")
    random.add_argument("--tick", default="1s")
    random.add_argument("--every", type=int, default=40)
    random.add_argument("--show", type=int, default=3)
    options = parser.parse_args()
    if options.command == "world":
        world.write(options.directory, options.seed, options.rows_per_table,
                    not options.no_metadata, options.span_s)
        return 0
    if options.command == "fuzz":
        return _fuzz(options)
    return _check(options)


def _fuzz(options):
    """Checks a range of seeds; a script that differs stays on disk."""
    first, _, last = options.seeds.partition("-")
    rows, weir, bad = Rows(options.rows), compare.Weir(options.weir), 0
    for seed in range(int(first), int(last or first) + 1):
        path = Path(options.keep) / f"pxl_fuzz_{seed}{'m' if options.metadata else ''}.pxl"
        path.write_text(fuzz.script(seed, options.metadata))
        folder, end, lines = ScriptFolder(path), rows.last_arrival_second(), []
        try:
            if options.live:
                lines = live.check(weir, folder, rows, {}, None, options)
            else:
                for now in (end - 120 * 10**9, end - 200_550_000_000, end):
                    expected = compare.oracle(folder, rows, now, {}, None, 20_000)
                    actual = weir.run(path, options.rows, now, {})
                    found = compare.differences(expected, actual, options.show)
                    if isinstance(expected, str) and not found:
                        print(f"seed {seed}: both refuse: {expected} / {actual[:200]}")
                    lines += [f"now {now}:"] + found if found else []
        except TooManyRows:
            pass
        if lines:
            bad += 1
            print(f"DIFF seed {seed}: {path}", *lines, sep="\n  ", flush=True)
        else:
            path.unlink()
    print(f"{bad} scripts differ")
    return 1 if bad else 0


def _script_folders(paths):
    for path in map(Path, paths):
        if path.is_file() or list(path.glob("*.pxl")):
            yield path
        else:
            yield from sorted({p.parent for p in path.rglob("*.pxl") if p.parent != path})


def _times(options, rows):
    end = rows.last_arrival_second()
    out = []
    for text in options.now or ["0", "61", "130.5"]:
        value = float(text)
        out.append(int(text) if value > 10**12 else end - int(value * 10**9))
    return out


def _arguments(folder, filled):
    wanted = folder.required()
    out = [{name: world.ARGUMENTS.get(name, "x") for name in wanted}]
    if filled and folder.vis.get("variables"):
        names = [v["name"] for v in folder.vis["variables"]]
        out.append({name: world.FILLED[name] for name in names if name in world.FILLED})
    return out


def _check(options):
    rows = Rows(options.rows)
    library = Path(options.views).read_text() if options.views else None
    weir = compare.Weir(options.weir)
    bad = good = 0
    for path in _script_folders(options.scripts):
        folder = ScriptFolder(path)
        for given in _arguments(folder, options.filled):
            if options.command == "live":
                lines = live.check(weir, folder, rows, given, library, options)
                results = [("live", lines)]
            else:
                results = [(now, _one(options, weir, folder, rows, now, given, library))
                           for now in _times(options, rows)]
            for now, lines in results:
                good, bad = good + (not lines), bad + bool(lines)
                if lines:
                    print(f"DIFF {path.parent.name}/{path.name} now={now} {given}")
                    print("\n".join("  " + line for line in lines), flush=True)
    if options.command != "run":
        print(f"{good} agree, {bad} differ")
    return 1 if bad else 0


def _one(options, weir, folder, rows, now, given, library):
    if options.command == "run":
        for name, (_, out) in answer(folder, rows, now, given, library).items():
            for row in out:
                print(json.dumps({"_tableName_": name, **row}, ensure_ascii=False))
        return []
    started = time.monotonic()
    expected = compare.oracle(folder, rows, now, given, library)
    middle = time.monotonic()
    actual = weir.run(folder.path, options.rows, now, given)
    if time.monotonic() - started > 20:
        print(f"slow {folder.path.name}: oracle {middle - started:.1f} s,"
              f" weir {time.monotonic() - middle:.1f} s", file=sys.stderr)
    return compare.differences(expected, actual, options.show)


sys.exit(main())
