//! A sample as rows of the tables that queries read.

use weir_types::RecordBatch;
use weir_types::figures::OperatorPlace;
use weir_types::tables::{
    Table, TableBuilder, WeirFeeds, WeirFeedsRow, WeirOperators, WeirOperatorsRow, WeirQueries,
    WeirQueriesRow,
};

use super::Sample;

fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn ns(ms: u64) -> i64 {
    int(ms.saturating_mul(1_000_000))
}

/// As `weir_operators` and `explain --live` name it.
pub(crate) fn place_text(place: OperatorPlace) -> String {
    match place {
        OperatorPlace::Op(op) => format!("op{op}"),
        OperatorPlace::Exchange(exchange) => format!("exchange{exchange}"),
        OperatorPlace::Output(output) => format!("output{output}"),
        OperatorPlace::Elsewhere => "elsewhere".to_string(),
    }
}

impl Sample {
    /// The tables that samples fill.
    pub const TABLES: [&'static str; 3] =
        [WeirQueries::DEF.name, WeirOperators::DEF.name, WeirFeeds::DEF.name];

    /// Counts are since the sample before; the first one has no time that they could be over, and is no row.
    #[must_use]
    pub fn rows(&self) -> Vec<(&'static str, RecordBatch)> {
        let mut batches = Vec::new();
        if self.last_ns > 0 {
            let [queries, operators, feeds] = Sample::TABLES;
            for (table, batch) in [
                (queries, self.query_rows()),
                (operators, self.operator_rows()),
                (feeds, self.feed_rows()),
            ] {
                if batch.num_rows() > 0 {
                    batches.push((table, batch));
                }
            }
        }
        batches
    }

    fn query_rows(&self) -> RecordBatch {
        let mut rows = TableBuilder::<WeirQueries>::new();
        for query in &self.queries {
            let total = self.last_total(query.query);
            rows.push(&WeirQueriesRow {
                time_: self.at_unix_ns,
                query: int(query.query),
                name: query.name.as_bytes(),
                refresh: ns(query.refresh_ms),
                lateness: int(query.lateness_ns),
                readers: int(query.readers as u64),
                rows_in: int(total.recent.rows_in),
                rows_out: int(total.recent.rows_out),
                held_bytes: int(total.held_bytes),
                busy: int(total.recent.busy_ns),
                interval: int(self.last_ns),
            });
        }
        rows.finish()
    }

    fn operator_rows(&self) -> RecordBatch {
        let mut rows = TableBuilder::<WeirOperators>::new();
        for operator in &self.operators {
            let counts = operator.last;
            rows.push(&WeirOperatorsRow {
                time_: self.at_unix_ns,
                node: operator.node.as_deref().unwrap_or_default().as_bytes(),
                part: operator.part().as_bytes(),
                query: int(operator.query),
                operator: place_text(operator.figures.place).as_bytes(),
                kind: operator.figures.kind.as_bytes(),
                rows_in: int(counts.rows_in),
                rows_out: int(counts.rows_out),
                held_bytes: int(operator.figures.held_bytes),
                busy: int(counts.busy_ns),
                interval: int(self.last_ns),
            });
        }
        rows.finish()
    }

    fn feed_rows(&self) -> RecordBatch {
        let mut rows = TableBuilder::<WeirFeeds>::new();
        for feed in &self.feeds {
            let total = self.last_total(feed.info.feed);
            rows.push(&WeirFeedsRow {
                time_: self.at_unix_ns,
                feed: int(feed.info.feed),
                table_name: feed.info.tables.join(",").as_bytes(),
                refresh: ns(feed.info.refresh_ms),
                lateness: int(feed.lateness_ns),
                readers: int(feed.info.readers.len() as u64),
                rows_in: int(total.recent.rows_in),
                rows_out: int(total.recent.rows_out),
                held_bytes: int(total.held_bytes),
                busy: int(total.recent.busy_ns),
                interval: int(self.last_ns),
            });
        }
        rows.finish()
    }
}
