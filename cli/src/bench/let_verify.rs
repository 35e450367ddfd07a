//! `weir bench let --verify`: every refresh's answer against the exact reference.
//!
//! At each refresh every row is compared whose groups were touched or whose row changed, and the number of
//! rows; what neither touched nor changed was compared before and is as it was. So all of (a), (b) and (c) is
//! compared at every refresh, and what was compared is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use weir_cluster::view::ViewState;
use weir_sinks::delivery::Changes;
use weir_types::clock::tick_unix_ns;
use weir_types::schema::Relation;
use weir_types::{PackedRow, Value};

use super::LetArgs;
use super::generator::{Batcher, Generator, Names, SEC_NS};
use super::let_workload::{ORIGIN_MS, SEED, WINDOW_SECS, refresh_ms, slices, start};
use super::reference::{Group, Reference};

/// A quantile may be this far from the exact one.
const QUANTILE_ERROR_MAX: f64 = 0.01;

/// What was compared.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Compared {
    pub(crate) refreshes: u64,
    /// Rows of (a), (b) and (c) that were compared because they, or their groups, had changed.
    pub(crate) endpoint_rows: u64,
    pub(crate) edge_rows: u64,
    pub(crate) slowest_rows: u64,
    /// Quantiles among them.
    pub(crate) quantiles: u64,
}

impl Compared {
    /// True if that was every refresh of the run, and something in it.
    pub(crate) fn is_all(&self, args: &LetArgs) -> bool {
        let end_ms = ORIGIN_MS + args.seconds * 1000;
        let refreshes = end_ms / refresh_ms(args) - ORIGIN_MS / refresh_ms(args);
        self.refreshes == refreshes && self.endpoint_rows > 0 && self.edge_rows > 0
    }
}

/// A view rebuilt from its changes.
struct Seen {
    relation: Relation,
    rows: BTreeMap<PackedRow, i64>,
    /// Rows that came or went since the last comparison.
    changed: BTreeSet<PackedRow>,
}

impl Seen {
    fn apply(&mut self, rows: &[(PackedRow, i64)]) -> anyhow::Result<()> {
        for (row, diff) in rows {
            let count = self.rows.entry(row.clone()).or_insert(0);
            *count += diff;
            ensure!(*count == 0 || *count == 1, "a row occurs {count} times");
            if *count == 0 {
                self.rows.remove(row);
            }
            self.changed.insert(row.clone());
        }
        Ok(())
    }

    /// The rows that begin with a key.
    fn of(&self, key: &PackedRow) -> impl Iterator<Item = &PackedRow> {
        let key = key.clone();
        self.rows
            .range(key.clone()..)
            .map(|(row, _)| row)
            .take_while(move |r| r.0.starts_with(&key.0))
    }
}

pub(crate) fn verify(args: &LetArgs) -> anyhow::Result<Compared> {
    verify_through(args, |_, _| {})
}

/// `meanwhile` may change what the engine says at a refresh, before it is compared: how the comparison itself is
/// tested.
fn verify_through(
    args: &LetArgs,
    mut meanwhile: impl FnMut(u64, &mut Vec<Changes>),
) -> anyhow::Result<Compared> {
    let mut pipeline = start(args)?;
    let mut generator = Generator::new(SEED, args.rate);
    let mut batcher = Batcher::new(generator.names());
    let mut check = Check::new(pipeline.view(), generator.names());
    for second in 0..args.seconds {
        let events = generator.second(tick_unix_ns(ORIGIN_MS), second);
        for (tick_ms, slice) in slices(&events, ORIGIN_MS + second * 1000) {
            batcher.batches(slice).into_iter().for_each(|b| pipeline.admit("let_events", b));
            check.reference.add(second, slice);
            let Some(mut changes) = pipeline.close_tick(tick_ms)? else { continue };
            meanwhile(tick_ms - ORIGIN_MS, &mut changes);
            let window_ms = (tick_ms - ORIGIN_MS).saturating_sub(WINDOW_SECS * 1000);
            check.reference.expire(window_ms / 1000);
            check.refresh(changes).with_context(|| format!("at {} ms", tick_ms - ORIGIN_MS))?;
        }
    }
    pipeline.stop();
    Ok(check.compared)
}

/// A view, and what it has to be.
pub(super) struct Check {
    seen: BTreeMap<String, Seen>,
    pub(super) reference: Reference,
    names: Arc<Names>,
    pub(super) compared: Compared,
}

impl Check {
    /// Nothing has been seen of the view.
    pub(super) fn new(view: &ViewState, names: Arc<Names>) -> Check {
        let seen = view.outputs().into_iter().map(|output| {
            let (relation, rows, changed) =
                (output.info.relation.clone(), BTreeMap::new(), BTreeSet::new());
            (output.info.table.clone(), Seen { relation, rows, changed })
        });
        let (seen, reference) = (seen.collect(), Reference::default());
        Check { seen, reference, names, compared: Compared::default() }
    }

    /// Compares what changed, in the view or in what it has to be.
    pub(super) fn refresh(&mut self, changes: Vec<Changes>) -> anyhow::Result<()> {
        for Changes { output, rows } in changes {
            let view = self.seen.get_mut(&output.info.table).context("an unknown output")?;
            view.apply(&rows).context(output.info.table.clone())?;
        }
        self.endpoints().context("(a)")?;
        self.edges().context("(b)")?;
        self.slowest().context("(c)")?;
        self.compared.refreshes += 1;
        Ok(())
    }

    /// Compares the groups of `keys`; gives how many quantiles were among them. Rows that changed without
    /// their group are found by their keys.
    fn groups<'a>(
        seen: &mut Seen,
        keys: impl Iterator<Item = (Vec<Value>, Option<&'a mut Group>)>,
        count: usize,
    ) -> anyhow::Result<(u64, u64)> {
        ensure!(seen.rows.len() == count, "{} rows, not {count}", seen.rows.len());
        let (mut rows, mut quantiles) = (0, 0);
        let mut changed = std::mem::take(&mut seen.changed);
        for (key, group) in keys {
            let prefix = PackedRow::pack(&key);
            let mut found = seen.of(&prefix);
            let (row, other) = (found.next(), found.next());
            ensure!(other.is_none(), "two rows of {key:?}");
            match (row, group) {
                (None, None) => {}
                (Some(row), Some(group)) => {
                    let values = row.unpack(&seen.relation.types());
                    let values = values.context("a row does not fit its relation")?;
                    quantiles +=
                        compare(&values[key.len()..], group).with_context(|| format!("{key:?}"))?;
                }
                (Some(_), None) => bail!("a row of {key:?}, which has left"),
                (None, Some(_)) => bail!("no row of {key:?}"),
            }
            rows += 1;
            changed.remove_prefix(&prefix);
        }
        ensure!(changed.is_empty(), "{} rows changed without their group", changed.len());
        Ok((rows, quantiles))
    }

    fn endpoints(&mut self) -> anyhow::Result<()> {
        let Reference { endpoints, touched_endpoints, .. } = &mut self.reference;
        let names = &self.names;
        let count = endpoints.len();
        let mut groups: Vec<_> = Vec::new();
        for key in std::mem::take(touched_endpoints) {
            groups.push((key, endpoints.remove(&key)));
        }
        let keys = groups.iter_mut().map(|((service, endpoint, second), group)| {
            let start = tick_unix_ns(ORIGIN_MS) + *second as i64 * SEC_NS;
            let key = vec![
                Value::str(&names.services[*service]),
                Value::str(&names.endpoints[*endpoint]),
                Value::Time64Ns(start),
            ];
            (key, group.as_mut())
        });
        let seen = self.seen.get_mut("endpoints").context("no output `endpoints`")?;
        let (rows, quantiles) = Self::groups(seen, keys, count)?;
        self.compared.endpoint_rows += rows;
        self.compared.quantiles += quantiles;
        let kept = groups.into_iter().filter_map(|(key, group)| Some((key, group?)));
        endpoints.extend(kept);
        Ok(())
    }

    fn edges(&mut self) -> anyhow::Result<()> {
        let Reference { edges, touched_edges, .. } = &mut self.reference;
        let names = &self.names;
        let count = edges.len();
        let mut groups: Vec<_> = Vec::new();
        for key in std::mem::take(touched_edges) {
            groups.push((key, edges.remove(&key)));
        }
        let keys = groups.iter_mut().map(|((service, remote), group)| {
            let name = |at: &usize| Value::str(&names.services[*at]);
            (vec![name(service), name(remote)], group.as_mut())
        });
        let seen = self.seen.get_mut("edges").context("no output `edges`")?;
        let (rows, quantiles) = Self::groups(seen, keys, count)?;
        self.compared.edge_rows += rows;
        self.compared.quantiles += quantiles;
        edges.extend(groups.into_iter().filter_map(|(key, group)| Some((key, group?))));
        Ok(())
    }

    fn slowest(&mut self) -> anyhow::Result<()> {
        let seen = self.seen.get_mut("slowest").context("no output `slowest`")?;
        seen.changed.clear();
        let expected = self.reference.slowest_ns();
        ensure!(seen.rows.len() == expected.len(), "{} rows", seen.rows.len());
        for (service, latency_ns) in expected {
            let name = Value::str(&self.names.services[service]);
            let row = PackedRow::pack(&[name, Value::Int64(latency_ns)]);
            ensure!(seen.rows.contains_key(&row), "lacks service {service} {latency_ns}");
            self.compared.slowest_rows += 1;
        }
        Ok(())
    }
}

trait RemovePrefix {
    /// Drops what begins with `prefix`.
    fn remove_prefix(&mut self, prefix: &PackedRow);
}

impl RemovePrefix for BTreeSet<PackedRow> {
    fn remove_prefix(&mut self, prefix: &PackedRow) {
        while let Some(row) =
            self.range::<PackedRow, _>(prefix..).next().filter(|r| r.0.starts_with(&prefix.0))
        {
            let row = row.clone();
            self.remove(&row);
        }
    }
}

/// What follows the key: count, errors, bytes exactly, and quantiles within the bound.
fn compare(values: &[Value], group: &mut Group) -> anyhow::Result<u64> {
    let [Value::Int64(count), Value::Int64(errors), Value::Int64(bytes), Value::String(text)] =
        values
    else {
        bail!("unexpected columns");
    };
    let expected = (group.count, group.errors, group.bytes);
    ensure!(
        (*count, *errors, *bytes) == expected,
        "{count}, {errors}, {bytes} are not {expected:?}"
    );
    let parsed: serde_json::Value = serde_json::from_slice(text)?;
    let quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];
    for (name, quantile) in quantiles {
        let exact = group.latencies_ns.quantile(quantile) as f64;
        let have = parsed[name].as_f64().context("no quantile")?;
        let error = (have - exact).abs() / exact;
        ensure!(error <= QUANTILE_ERROR_MAX, "{name} is {have}, exactly {exact}");
    }
    Ok(quantiles.len() as u64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const REFRESH_MS: u64 = 500;

    fn args(seconds: u64) -> LetArgs {
        LetArgs {
            rate: 200,
            workers: 1,
            seconds,
            refresh: Duration::from_millis(REFRESH_MS),
            paced: false,
            verify: true,
            against: None,
            pairs: 1,
        }
    }

    /// What one row is made into, instead of what the engine said.
    type Wrong = fn(&mut Vec<Value>);

    /// Replaces the first row that comes in a table at a refresh, and what is said of it later.
    fn with_wrong(table: &str, at_ms: u64, wrong: Wrong) -> anyhow::Result<Compared> {
        let mut replaced: Option<(PackedRow, PackedRow)> = None;
        verify_through(&args(3), |now_ms, changes| {
            let outputs = changes.iter_mut().filter(|output| output.table() == table);
            for output in outputs.filter(|_| now_ms >= at_ms) {
                let types = output.output.info.relation.types();
                for (row, diff) in &mut output.rows {
                    if replaced.is_none() && *diff > 0 {
                        let mut values = row.unpack(&types).unwrap();
                        wrong(&mut values);
                        replaced = Some((row.clone(), PackedRow::pack(&values)));
                    }
                    if let Some((right, made)) = &replaced
                        && row == right
                    {
                        *row = made.clone();
                    }
                }
            }
        })
    }

    fn one_more(column: usize) -> impl Fn(&mut Vec<Value>) {
        move |values| {
            let Value::Int64(value) = &mut values[column] else { panic!("{values:?}") };
            *value += 1;
        }
    }

    /// One row of hundreds that is off by one in one column, of any of the three results and at any refresh, fails
    /// the comparison, which says where. Would catch a comparison that looks at some rows, or at none.
    #[test]
    fn one_wrong_row_is_found() {
        let cases: [(&str, &str, Wrong); 7] = [
            ("endpoints", "(a)", |values| one_more(3)(values)),
            ("endpoints", "(a)", |values| one_more(5)(values)),
            ("edges", "(b)", |values| one_more(2)(values)),
            ("edges", "(b)", |values| one_more(3)(values)),
            ("slowest", "(c)", |values| one_more(1)(values)),
            // Under another name: a row is missing, and one is there that should not be.
            ("edges", "(b)", |values| values[1] = Value::str("nobody")),
            // A quantile that is off by a fiftieth.
            ("endpoints", "(a)", |values| {
                let Value::String(text) = &values[6] else { panic!("{values:?}") };
                let mut json: serde_json::Value = serde_json::from_slice(text).unwrap();
                json["p50"] = (json["p50"].as_f64().unwrap() * 1.02).into();
                values[6] = Value::str(&json.to_string());
            }),
        ];
        for (table, part, wrong) in cases {
            for at_ms in [REFRESH_MS, 2_000, 3_000] {
                let error = with_wrong(table, at_ms, wrong).expect_err("a wrong row was passed");
                let text = format!("{error:#}");
                assert!(text.contains(part) && text.starts_with("at "), "{text}");
                let found_ms: u64 = text[3..].split(' ').next().unwrap().parse().unwrap();
                assert!(found_ms >= at_ms, "{text}");
            }
        }
    }

    /// A row that goes without its group having changed, one that comes twice, and one that stays when it should
    /// have gone are found as well.
    #[test]
    fn rows_that_come_and_go_wrongly_are_found() {
        let lost = |_: u64, changes: &mut Vec<Changes>| {
            changes.iter_mut().for_each(|output| {
                let first = output.rows.iter().position(|(_, diff)| *diff > 0);
                first.map(|at| output.rows.remove(at));
            });
        };
        let twice = |_: u64, changes: &mut Vec<Changes>| {
            changes.iter_mut().for_each(|output| output.rows.extend(output.rows.clone()));
        };
        let stays = |_: u64, changes: &mut Vec<Changes>| {
            changes.iter_mut().for_each(|output| output.rows.retain(|(_, diff)| *diff > 0));
        };
        assert!(verify_through(&args(2), lost).is_err());
        assert!(verify_through(&args(2), twice).is_err());
        assert!(verify_through(&args(2), stays).is_err());
    }

    /// What the engine says itself passes, and what was compared is told: every refresh, and rows of all three
    /// results at it. Fewer refreshes than the run has are not all of it.
    #[test]
    fn what_was_compared_is_told() {
        let mut said = 0;
        let compared = verify_through(&args(3), |_, _| said += 1).unwrap();
        assert_eq!((compared.refreshes, said), (6, 6));
        assert!(compared.is_all(&args(3)), "{compared:?}");
        assert!(!compared.is_all(&args(4)), "{compared:?}");
        assert!(compared.endpoint_rows > 100 && compared.edge_rows > 100, "{compared:?}");
        assert!(compared.slowest_rows >= 6 && compared.quantiles > 600, "{compared:?}");
        let json = serde_json::to_value(&compared).unwrap();
        for told in ["refreshes", "endpoint_rows", "edge_rows", "slowest_rows", "quantiles"] {
            assert!(json[told].as_u64().is_some_and(|count| count > 0), "{told} in {json}");
        }
    }
}
