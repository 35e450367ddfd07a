"""LET in chdb (ClickHouse in a process): materialized views keep a pane a second with t-digest states, which a refresh
merges. Panes that have left the window are left to the engine's own clock: deleting them would cost it more."""

import os
import tempfile

import chdb
import pyarrow as pa
from chdb import session

from common import SEC_NS, WINDOW_S, arguments, measure, part

rate, refreshes = arguments()
folder = tempfile.mkdtemp(dir=os.environ.get("TMPDIR"))
db = session.Session(os.path.join(folder, "db"))


def ask(text, form="CSV"):
    return db.query(text, form)


ask("set max_threads = 1")
ask("create database d")
ask(
    "create table d.ev(time_ns UInt64, latency_ns UInt64, resp_size UInt32, service UInt16, remote UInt16, "
    "endpoint UInt16, status UInt16) engine = Null"
)
STATES = (
    "countState() n, countIfState(status >= 400) e, sumState(toUInt64(resp_size)) b, "
    "quantilesTDigestState(0.01, 0.1, 0.5, 0.9, 0.99)(latency_ns) q"
)
MERGED = "countMerge(n), countIfMerge(e), sumMerge(b), quantilesTDigestMerge(0.01, 0.1, 0.5, 0.9, 0.99)(q)"
for table, key in (("endpoints", "endpoint"), ("edges", "remote")):
    ask(
        f"create table d.{table}(sec UInt64, service UInt16, {key} UInt16, n AggregateFunction(count), "
        "e AggregateFunction(countIf, UInt8), b AggregateFunction(sum, UInt64), "
        "q AggregateFunction(quantilesTDigest(0.01, 0.1, 0.5, 0.9, 0.99), UInt64)) "
        f"engine = AggregatingMergeTree order by (sec, service, {key})"
    )
    ask(
        f"create materialized view d.mv_{table} to d.{table} as select intDiv(time_ns, {SEC_NS}) sec, service, "
        f"{key}, {STATES} from d.ev group by sec, service, {key}"
    )
ask(
    "create table d.slowest(sec UInt64, service UInt16, m SimpleAggregateFunction(max, UInt64)) "
    "engine = AggregatingMergeTree order by (sec, service)"
)
ask(
    f"create materialized view d.mv_slowest to d.slowest as select intDiv(time_ns, {SEC_NS}) sec, service, "
    "max(latency_ns) m from d.ev group by sec, service"
)
FILE = os.path.join(folder, "rows.arrow")


def insert(columns):
    table = pa.table(columns)
    with pa.OSFile(FILE, "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    ask(f"insert into d.ev select * from file('{FILE}', 'Arrow')")


def start(columns):
    for second in range(WINDOW_S):
        insert(part(columns, second * rate, (second + 1) * rate))


def refresh(columns, second):
    insert(columns)
    since = second - WINDOW_S
    ask(f"select service, endpoint, {MERGED} from d.endpoints where sec = {second} group by 1, 2")
    edges = ask(f"select service, remote, {MERGED} from d.edges where sec > {since} group by 1, 2")
    ask(f"select service, max(m) from d.slowest where sec > {since} group by 1")
    return sum(int(line.split(",")[2]) for line in str(edges).strip().splitlines())


measure("chdb", chdb.__version__, rate, refreshes, start, refresh)
