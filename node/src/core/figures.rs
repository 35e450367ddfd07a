//! What the operators on this node have done, as the node's status tells it: under the names that the cluster
//! part has for feeds, and bounded.

use weir_proto::message::FIGURES_OPERATORS_MAX;
use weir_types::figures::QueryFigures;

use super::NodeCore;

impl NodeCore {
    /// Of the feeds that run here, and how many operators are left out.
    pub(super) fn figures(&self) -> (Vec<QueryFigures>, u64) {
        let running = self.engine.figures().into_iter().filter_map(|figures| {
            let query = self.queries.get(&figures.query)?.name;
            Some(QueryFigures { query, ..figures })
        });
        bounded(running, FIGURES_OPERATORS_MAX)
    }
}

/// Whole feeds, as long as all of their operators fit.
fn bounded(
    all: impl Iterator<Item = QueryFigures>,
    operators_max: usize,
) -> (Vec<QueryFigures>, u64) {
    let (mut told, mut count, mut left_out) = (Vec::new(), 0, 0);
    for figures in all {
        let operators = figures.operators.len();
        if count + operators > operators_max {
            left_out += operators as u64;
            continue;
        }
        count += operators;
        told.push(figures);
    }
    (told, left_out)
}

#[cfg(test)]
mod tests {
    use weir_types::figures::OperatorFigures;

    use super::*;

    /// A status never grows beyond its bound, and says what is missing: catches figures that are cut without a
    /// count, and a feed of which half is told.
    #[test]
    fn what_does_not_fit_is_counted() {
        let feed = |query, operators| QueryFigures {
            query,
            operators: vec![OperatorFigures::default(); operators],
            ..QueryFigures::default()
        };
        let (told, left_out) = bounded([feed(1, 3), feed(2, 5), feed(3, 1)].into_iter(), 6);
        let told: Vec<_> = told.iter().map(|figures| figures.query).collect();
        assert_eq!((told, left_out), (vec![1, 3], 5));
    }
}
