"""LET in Polars: the window is a data frame, each refresh asks it anew. It has no sketch: quantiles are exact."""

import os

os.environ["POLARS_MAX_THREADS"] = "1"

import polars as pl  # noqa: E402

from common import WINDOW_S, arguments, measure  # noqa: E402

rate, refreshes = arguments()
LET = [
    pl.len().alias("n"),
    (pl.col("status") >= 400).sum().alias("errors"),
    pl.col("resp_size").cast(pl.UInt64).sum().alias("bytes"),
    *[pl.col("latency_ns").quantile(q, "lower").alias(f"p{q}") for q in (0.01, 0.1, 0.5, 0.9, 0.99)],
]
window = pl.DataFrame()


def start(columns):
    global window
    window = pl.DataFrame(columns)


def refresh(columns, second):
    global window
    window = pl.concat([window.tail((WINDOW_S - 1) * rate), pl.DataFrame(columns)])
    if second % 30 == 0:
        window = window.rechunk()
    window.tail(rate).lazy().group_by("service", "endpoint").agg(*LET).collect()
    edges = window.lazy().group_by("service", "remote").agg(*LET).collect()
    window.lazy().group_by("service").agg(pl.col("latency_ns").max()).collect()
    return edges["n"].sum()


measure("polars", pl.__version__, rate, refreshes, start, refresh)
