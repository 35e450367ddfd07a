//! Actors in `/metrics`, by their kind. Names of metrics are part of the contract.

use std::collections::BTreeMap;

use super::metrics::{Family, families, head, number, seconds};
use crate::service::ActorSummary;

pub(super) fn write_metrics(out: &mut String, actors: &BTreeMap<String, ActorSummary>) {
    const PER_KIND: [Family<ActorSummary>; 8] = [
        ("weir_actors", "gauge", "Actors of a kind.", |actor| actor.actors),
        ("weir_actor_handled_total", "counter", "Messages handled.", |actor| actor.handled),
        ("weir_actor_slow_handled_total", "counter", "Those that took long.", |actor| {
            actor.slow_handled
        }),
        ("weir_actor_restarts_total", "counter", "Times that it began anew.", |actor| {
            actor.restarts
        }),
        ("weir_actor_stalled", "gauge", "Those that handle one message for long.", |actor| {
            actor.stalled
        }),
        ("weir_actor_failed", "gauge", "Those that do not begin any more.", |actor| actor.failed),
        ("weir_actor_mailbox_messages", "gauge", "Messages that wait for them.", |actor| {
            actor.mailbox_len
        }),
        ("weir_actor_refused_total", "counter", "Messages that found a full mailbox.", |actor| {
            actor.refused_full
        }),
    ];
    let kinds = actors.iter().map(|(kind, summary)| (kind.as_str(), summary));
    families(out, "actor", &PER_KIND, kinds);
    type Of = fn(&ActorSummary) -> u64;
    let times: [(&str, &str, Of); 2] = [
        ("weir_actor_handler_seconds_max", "The longest handling of a message.", |actor| {
            actor.handler_ns_max
        }),
        ("weir_actor_slowest_cpu_seconds", "What that took of a processor.", |actor| {
            actor.slowest_cpu_ns
        }),
    ];
    for (metric, help, of) in times {
        head(out, metric, "gauge", help);
        for (kind, summary) in actors {
            number(out, metric, &[("actor", kind)], seconds(of(summary)));
        }
    }
}
