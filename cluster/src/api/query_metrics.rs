//! Queries in `/metrics`, by the name of their script: queries of one name, with other arguments or another refresh, are
//! told together, and names beyond a bound as one. Each alone is in `weir_queries`. Names of metrics are part of the
//! contract.

use std::collections::BTreeMap;

use super::metrics::{head, line, number, seconds};
use crate::service::figures::Sample;

/// Names that have series of their own: those that hold the most.
const NAMES_MAX: usize = 200;
const OTHERS: &str = "__others__";
/// Whoever asks names a script as it likes. What is longer is cut, and told with what begins so.
const NAME_BYTES_MAX: usize = 128;

/// Queries of one name.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Named {
    queries: u64,
    readers: u64,
    lateness_ns: u64,
    rows_in_per_s: f64,
    rows_out_per_s: f64,
    busy_ns_per_s: f64,
    held_bytes: u64,
}

impl Named {
    fn add(&mut self, other: &Named) {
        self.queries += other.queries;
        self.readers += other.readers;
        self.lateness_ns = self.lateness_ns.max(other.lateness_ns);
        self.rows_in_per_s += other.rows_in_per_s;
        self.rows_out_per_s += other.rows_out_per_s;
        self.busy_ns_per_s += other.busy_ns_per_s;
        self.held_bytes += other.held_bytes;
    }
}

fn by_name(sample: &Sample) -> BTreeMap<&str, Named> {
    let mut all: BTreeMap<&str, Named> = BTreeMap::new();
    for query in &sample.queries {
        let total = sample.total(query.query);
        let name = &query.name[..query.name.floor_char_boundary(NAME_BYTES_MAX)];
        all.entry(name).or_default().add(&Named {
            queries: 1,
            readers: query.readers as u64,
            lateness_ns: query.lateness_ns,
            rows_in_per_s: sample.per_s(total.recent.rows_in),
            rows_out_per_s: sample.per_s(total.recent.rows_out),
            busy_ns_per_s: sample.per_s(total.recent.busy_ns),
            held_bytes: total.held_bytes,
        });
    }
    bounded(all, NAMES_MAX)
}

/// What holds the least is told together.
fn bounded(mut all: BTreeMap<&str, Named>, names_max: usize) -> BTreeMap<&str, Named> {
    if all.len() <= names_max {
        return all;
    }
    let mut sizes: Vec<(u64, &str)> =
        all.iter().map(|(name, named)| (named.held_bytes, *name)).collect();
    sizes.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));
    let mut others = Named::default();
    for (_, name) in sizes.drain(names_max - 1..) {
        if let Some(named) = all.remove(name) {
            others.add(&named);
        }
    }
    all.entry(OTHERS).or_default().add(&others);
    all
}

pub(super) fn write_metrics(out: &mut String, sample: &Sample) {
    let all = by_name(sample);
    type Count<'a> = &'a dyn Fn(&Named) -> u64;
    let counts: [(&str, &str, Count<'_>); 3] = [
        ("weir_query_running", "Queries that run under this name.", &|named| named.queries),
        ("weir_query_readers", "Who reads them.", &|named| named.readers),
        ("weir_query_held_bytes", "What their operators keep.", &|named| named.held_bytes),
    ];
    for (metric, help, of) in counts {
        head(out, metric, "gauge", help);
        all.iter().for_each(|(name, named)| line(out, metric, &[("query", name)], of(named)));
    }
    type Value<'a> = &'a dyn Fn(&Named) -> f64;
    let values: [(&str, &str, Value<'_>); 4] = [
        ("weir_query_lateness_seconds", "How late the latest of them is.", &|named| {
            seconds(named.lateness_ns)
        }),
        ("weir_query_rows_in_per_second", "Rows, or changes, that they took.", &|named| {
            named.rows_in_per_s
        }),
        ("weir_query_rows_out_per_second", "Changes that they told.", &|named| {
            named.rows_out_per_s
        }),
        ("weir_query_cpu_seconds_per_second", "Time spent in their operators: cores.", &|named| {
            named.busy_ns_per_s / 1e9
        }),
    ];
    for (metric, help, of) in values {
        head(out, metric, "gauge", help);
        all.iter().for_each(|(name, named)| number(out, metric, &[("query", name)], of(named)));
    }
}

#[cfg(test)]
mod tests {
    use weir_types::figures::RefreshFigures;

    use super::*;
    use crate::service::figures::QueryNow;

    /// However many names there are, so many have series, and the sums are those of all. Catches a name that is told
    /// twice, and what is left out.
    #[test]
    fn names_are_bounded() {
        let names: Vec<String> = (0..50).map(|n| format!("q{n}")).collect();
        let named =
            |n: u64| Named { queries: 1, held_bytes: n, lateness_ns: n, ..Named::default() };
        let mut all: BTreeMap<&str, Named> =
            names.iter().zip(0..).map(|(name, n)| (name.as_str(), named(n))).collect();
        // Somebody may call a script so.
        all.insert(OTHERS, named(1_000));
        assert_eq!(bounded(all.clone(), 51).len(), 51);
        let few = bounded(all, 10);
        assert_eq!(few.len(), 9);
        assert_eq!(few.values().map(|named| named.queries).sum::<u64>(), 51);
        assert_eq!(few.values().map(|named| named.held_bytes).sum::<u64>(), 49 * 25 + 1_000);
        assert_eq!(few["q49"].held_bytes, 49);
        assert_eq!(few[OTHERS].lateness_ns, 1_000);
    }

    /// However long the names of scripts are, what is scraped is short. Catches a reader who makes a scrape of
    /// gigabytes.
    #[test]
    fn names_are_cut() {
        let query = |end: &str| QueryNow {
            query: 1,
            name: "é".repeat(1 << 18) + end,
            refresh_ms: 1_000,
            refreshes: RefreshFigures::default(),
            lateness_ns: 0,
            readers: 1,
        };
        let queries = vec![query("a"), query("b")];
        let mut text = String::new();
        let mut sample = Sample::default();
        sample.queries = queries;
        write_metrics(&mut text, &sample);
        let name = "é".repeat(NAME_BYTES_MAX / 2);
        assert!(text.contains(&format!("weir_query_running{{query=\"{name}\"}} 2\n")), "{text}");
        assert!(text.len() < 8_192, "{}", text.len());
    }
}
