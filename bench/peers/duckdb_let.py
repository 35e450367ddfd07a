"""LET in DuckDB: the window is a table, each refresh asks it anew, with its sketch for quantiles."""

import duckdb
import pyarrow as pa

from common import SEC_NS, WINDOW_S, arguments, measure

rate, refreshes = arguments()
db = duckdb.connect()
db.execute("set threads = 1")
db.execute(
    "create table ev(time_ns ubigint, latency_ns ubigint, resp_size uinteger, service usmallint, "
    "remote usmallint, endpoint usmallint, status usmallint)"
)
LET = (
    "count(*), count(*) filter (status >= 400), sum(resp_size), "
    "approx_quantile(latency_ns, [0.01, 0.1, 0.5, 0.9, 0.99])"
)


def insert(columns):
    db.register("rows", pa.table(columns))
    db.execute("insert into ev select * from rows")
    db.unregister("rows")


def refresh(columns, second):
    insert(columns)
    db.execute(f"delete from ev where time_ns < {(second + 1 - WINDOW_S) * SEC_NS}")
    newest = second * SEC_NS
    db.execute(f"select service, endpoint, {LET} from ev where time_ns >= {newest} group by all").fetchall()
    edges = db.execute(f"select service, remote, {LET} from ev group by all").fetchall()
    db.execute("select service, max(latency_ns) from ev group by all").fetchall()
    return sum(edge[2] for edge in edges)


measure("duckdb", duckdb.__version__, rate, refreshes, insert, refresh)
