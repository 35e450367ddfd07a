//! Alerts among the server's own numbers. Names of metrics are part of the contract.

use super::metrics::{Family, families, head, line, single};
use crate::service::{AlertFigures, ReceiverRow};

pub(super) fn write_metrics(out: &mut String, figures: &Option<AlertFigures>) {
    let Some(figures) = figures else { return };
    head(out, "weir_alerts", "gauge", "Alerts now, by state.");
    for (state, count) in [("pending", figures.pending), ("firing", figures.firing)] {
        line(out, "weir_alerts", &[("state", state)], count);
    }
    head(out, "weir_alert_rules", "gauge", "Alert rules, by state.");
    for state in ["running", "waiting", "error", "failed"] {
        let count = figures.rules.get(state).copied().unwrap_or(0);
        line(out, "weir_alert_rules", &[("state", state)], count);
    }
    let counts: [(&str, &str, &str, u64); 9] = [
        (
            "weir_alert_steps_total",
            "counter",
            "Frontiers at which rules were judged.",
            figures.steps,
        ),
        (
            "weir_alert_rows_repaired_total",
            "counter",
            "Rows of rules with NUL, broken UTF-8 or texts too long.",
            figures.repaired,
        ),
        (
            "weir_alert_rows_merged_total",
            "counter",
            "Of these, rows that had another's labels then.",
            figures.merged,
        ),
        (
            "weir_alert_rows_negative_total",
            "counter",
            "Rows that went without having been there.",
            figures.negative,
        ),
        (
            "weir_alert_refused_total",
            "counter",
            "Label sets without an alert, because too many were there.",
            figures.refused,
        ),
        (
            "weir_alert_state_errors_total",
            "counter",
            "Times that states could not be kept or read.",
            figures.state_errors,
        ),
        (
            "weir_alert_notices_abandoned_total",
            "counter",
            "Notices that waited for a receiver that is there no more.",
            figures.abandoned,
        ),
        (
            "weir_alert_history_dropped_total",
            "counter",
            "Events of the last day that the history had no room for.",
            figures.history_dropped,
        ),
        ("weir_alert_state_bytes", "gauge", "What was kept last.", figures.state_bytes),
    ];
    for (metric, kind, help, value) in counts {
        single(out, metric, kind, help, value);
    }
    write_receivers(out, &figures.receivers);
}

fn write_receivers(out: &mut String, receivers: &[ReceiverRow]) {
    const PER_RECEIVER: [Family<ReceiverRow>; 6] = [
        ("weir_alert_notices_sent_total", "counter", "Notices that arrived.", |row| row.sent),
        ("weir_alert_notices_lost_total", "counter", "Notices that never will.", |row| row.lost),
        (
            "weir_alert_notices_refused_total",
            "counter",
            "Of these, notices that were refused for good.",
            |row| row.refused,
        ),
        ("weir_alert_notices_waiting", "gauge", "Notices that wait.", |row| row.waiting as u64),
        ("weir_alert_receiver_errors_total", "counter", "Attempts that failed.", |row| row.errors),
        ("weir_alert_receiver_running", "gauge", "1 while it takes what comes.", |row| {
            u64::from(row.state == "running")
        }),
    ];
    let rows = receivers.iter().map(|row| (row.name.as_str(), row));
    families(out, "receiver", &PER_RECEIVER, rows);
}
