//! What can be lost, and what a count of it counts. The one list that code, metrics and
//! documentation share: a reason that is not here is a bug, but is counted all the same.

use serde::{Deserialize, Serialize};

/// What a count counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    Rows,
    Bytes,
    Events,
}

impl Unit {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Unit::Rows => "rows",
            Unit::Bytes => "bytes",
            Unit::Events => "events",
        }
    }
}

/// One reason.
#[derive(Clone, Copy, Debug)]
pub struct ReasonDef {
    pub name: &'static str,
    pub unit: Unit,
    pub desc: &'static str,
}

const fn of(name: &'static str, unit: Unit, desc: &'static str) -> ReasonDef {
    ReasonDef { name, unit, desc }
}

/// For pairs that found no place of their own.
pub const OTHER: &str = "other";

/// Every reason, by the part that notices it.
pub const REASONS: &[ReasonDef] = &[
    // The kernel's programs.
    of("ring_full", Unit::Events, "Calls whose record found the ring full."),
    of("unseen_bytes", Unit::Bytes, "Bytes moved by no call that was looked at, as by io_uring."),
    of("io_uring_bytes", Unit::Bytes, "Bytes moved by operations of io_uring that cannot be read."),
    of("compat32_bytes", Unit::Bytes, "Bytes moved by programs of 32 bits, which are not traced."),
    of(
        "tls_unmatched_bytes",
        Unit::Bytes,
        "Bytes said over TLS on sockets that could not be told.",
    ),
    of(
        "connections_failed",
        Unit::Events,
        "Calls on sockets that found no place in the kernel's table.",
    ),
    of("bad_registers", Unit::Events, "Calls whose arguments could not be read."),
    of("skipped_messages", Unit::Events, "Messages beyond the 32nd of one call."),
    of("process_ring_full", Unit::Events, "Process starts and ends that found their ring full."),
    of("malformed_records", Unit::Events, "Records that could not be decoded."),
    // Connections and parsers.
    of("unpaired", Unit::Events, "Exchanges of which one half was lost."),
    of("gap", Unit::Events, "Exchanges lost in a hole of their connection's bytes."),
    of("truncated", Unit::Events, "Exchanges cut short by a hole of their connection's bytes."),
    of(
        "given_up",
        Unit::Events,
        "Requests forgotten for room, or because their connection stopped being understood.",
    ),
    of("parser_panic", Unit::Events, "Connections given up because their parser panicked."),
    of("connections_full", Unit::Events, "Connections dropped for room while they were open."),
    of("bytes_full", Unit::Events, "Times that a connection's bytes were dropped for room."),
    of("stream_full", Unit::Bytes, "Bytes that found no room in their connection's stream."),
    of("keys_full", Unit::Events, "Connections that the statistics had no room for."),
    of("batches_full", Unit::Rows, "Rows dropped because too many batches waited."),
    // Sources.
    of("source_down", Unit::Events, "Seconds in which the source was down after a failure."),
    of("passes_failed", Unit::Events, "Times that /proc could not be listed."),
    of("passes_cut", Unit::Events, "Times that /proc held more processes than one pass takes."),
    of(
        "namespaces_full",
        Unit::Rows,
        "Rows of network namespaces beyond those that one pass takes.",
    ),
    of(
        "operators_full",
        Unit::Rows,
        "Operators that a sample of the running dataflows had no room for.",
    ),
    of("metadata_grace_full", Unit::Rows, "Rows that went on without names: too many waited."),
    // Names: they concern the answers that ask for some.
    of(
        "observations_full",
        Unit::Events,
        "Processes and connections not told of: too many waited.",
    ),
    of("names_full", Unit::Events, "Processes, connections and addresses that found no room."),
    of("names_too_large", Unit::Events, "Entities that were too large to be told."),
    of(
        "names_forgotten",
        Unit::Events,
        "Processes, connections and addresses forgotten for newer ones while rows of them are kept.",
    ),
    // Admission.
    of("future", Unit::Rows, "Rows more than 10 s ahead of their arrival."),
    of("no_time", Unit::Rows, "Rows without an event time."),
    of("admission_full", Unit::Rows, "Rows dropped because too much waited for its tick."),
    of("node_restart", Unit::Rows, "Rows that went with a panic of the node's thread."),
    of("queue_full", Unit::Rows, "Rows that running queries did not get: too much waited."),
    // Functions: of the pseudo-table `functions`.
    of("cut_text", Unit::Rows, "Texts cut at 1 MiB, the longest that a function makes."),
    of("cut_column", Unit::Rows, "Texts left empty: those of their row had 16 MiB already."),
    of("cut_statement", Unit::Rows, "SQL statements too long or too complex to be normalized."),
    of("cut_regex_rules", Unit::Rows, "Rows for which rules beyond the 256th were not tried."),
    of("cut_regex_work", Unit::Rows, "Texts that a pattern takes too long on, looked at in part."),
    of("cut_row_work", Unit::Rows, "Results left empty: the functions of their row took too long."),
    of("cut_values", Unit::Rows, "Values left out of profiles, models and clusters: too many."),
    // The windows of aggregates.
    of("overflow", Unit::Rows, "Rows counted as `__overflow__`: there are too many groups."),
    // Anything.
    of(OTHER, Unit::Events, "Losses beyond the number of reasons that are kept apart."),
];

/// What is known of a reason.
#[must_use]
pub fn reason(name: &str) -> Option<&'static ReasonDef> {
    REASONS.iter().find(|reason| reason.name == name)
}
