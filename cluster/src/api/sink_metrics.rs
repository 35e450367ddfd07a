//! Sinks in `/metrics`: what each has written and lost, in which state it is and how far behind its views. Names of
//! metrics are part of the contract.

use weir_types::clock::tick_unix_ns;

use super::metrics::{Family, families, head, line, number};
use crate::service::{SinkRow, SinkState};

pub(super) fn write_metrics(out: &mut String, sinks: &[SinkRow]) {
    const PER_SINK: [Family<SinkRow>; 15] = [
        ("weir_sink_rows_sent_total", "counter", "Row changes written.", |sink| sink.rows_sent),
        ("weir_sink_rows_lost_total", "counter", "Accepted, and not there.", |sink| sink.rows_lost),
        ("weir_sink_rows_dropped_total", "counter", "Lost: no room in the buffer.", |sink| {
            sink.rows_dropped
        }),
        (
            "weir_sink_rows_refused_total",
            "counter",
            "Lost: refused for good, one by one.",
            |sink| sink.rows_refused,
        ),
        (
            "weir_sink_rows_damaged_total",
            "counter",
            "Lost: missing in the buffer's files.",
            |sink| sink.rows_damaged,
        ),
        (
            "weir_sink_rejected_total",
            "counter",
            "Lost: parts of what was sent (points, spans, ends of series) that were not kept.",
            |sink| sink.rejected,
        ),
        (
            "weir_sink_ends_with_loss_total",
            "counter",
            "Times that the sink ended while something waited in memory, since it first ran.",
            |sink| sink.ends_with_loss,
        ),
        ("weir_sink_parts_damaged_total", "counter", "Unreadable parts of the buffer.", |sink| {
            sink.parts_damaged
        }),
        (
            "weir_sink_cleaned_total",
            "counter",
            "Texts that were cleaned for the receiver.",
            |sink| sink.cleaned,
        ),
        ("weir_sink_halves_cut_total", "counter", "Halves of lines that were cut off.", |sink| {
            sink.halves_cut
        }),
        ("weir_sink_buffer_bytes", "gauge", "Accepted, not safe yet.", |sink| sink.buffer_bytes),
        ("weir_sink_resets_total", "counter", "Times that all was written anew.", |sink| {
            sink.resets
        }),
        ("weir_sink_replaced_total", "counter", "Times that others took its file.", |sink| {
            sink.replaced
        }),
        ("weir_sink_errors_total", "counter", "Attempts that failed.", |sink| sink.errors),
        ("weir_sink_running", "gauge", "1 while it takes what comes.", |sink| {
            u64::from(sink.state == SinkState::Running)
        }),
    ];
    families(out, "sink", &PER_SINK, sinks.iter().map(|sink| (sink.name.as_str(), sink)));
    push_times(out, sinks);
    let metric = "weir_sink_state";
    head(out, metric, "gauge", "1 for the state that it is in.");
    for sink in sinks {
        for state in SinkState::ALL {
            let labels = [("sink", sink.name.as_str()), ("state", state.name())];
            line(out, metric, &labels, u64::from(sink.state == state));
        }
    }
}

/// How far it is; nothing of one that is nowhere yet.
fn push_times(out: &mut String, sinks: &[SinkRow]) {
    let tick_s = |tick_ms: u64| tick_unix_ns(tick_ms) as f64 / 1e9;
    let lag_s = |sink: &SinkRow| Some(sink.lag_ms()? as f64 / 1e3);
    type Of<'a> = &'a dyn Fn(&SinkRow) -> Option<f64>;
    let times: [(&str, &str, Of<'_>); 3] = [
        (
            "weir_sink_acked_timestamp_seconds",
            "Up to when all is safe at the other end.",
            &|sink| sink.acked_ms.map(tick_s),
        ),
        ("weir_sink_frontier_timestamp_seconds", "Up to when its views are.", &|sink| {
            sink.frontier_ms.map(tick_s)
        }),
        ("weir_sink_lag_seconds", "How far what is safe is behind its views.", &lag_s),
    ];
    for (metric, help, of) in times {
        head(out, metric, "gauge", help);
        for (sink, value) in sinks.iter().filter_map(|sink| Some((sink, of(sink)?))) {
            number(out, metric, &[("sink", &sink.name)], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Catches a lag that is told of a sink that has none yet, and a state that is not told or told twice.
    #[test]
    fn states_and_lags() {
        let started = SinkRow { name: "new".to_string(), ..SinkRow::default() };
        let behind = SinkRow {
            name: "a\"b".to_string(),
            state: SinkState::Full,
            acked_ms: Some(1_767_225_600_000),
            frontier_ms: Some(1_767_225_602_500),
            ..SinkRow::default()
        };
        let mut text = String::new();
        write_metrics(&mut text, &[started, behind]);
        for wanted in [
            "weir_sink_lag_seconds{sink=\"a\\\"b\"} 2.5\n",
            "weir_sink_acked_timestamp_seconds{sink=\"a\\\"b\"} 1767225600\n",
            "weir_sink_frontier_timestamp_seconds{sink=\"a\\\"b\"} 1767225602.5\n",
            "weir_sink_state{sink=\"a\\\"b\",state=\"full\"} 1\n",
            "weir_sink_state{sink=\"a\\\"b\",state=\"running\"} 0\n",
            "weir_sink_state{sink=\"new\",state=\"retrying\"} 1\n",
        ] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
        assert!(!text.contains("weir_sink_lag_seconds{sink=\"new\""), "{text}");
        assert_eq!(text.matches("} 1\n").count(), 2, "{text}");
    }
}
