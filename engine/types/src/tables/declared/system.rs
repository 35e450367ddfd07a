//! All other tables: connections, processes, machines, and what sources say of themselves.

use super::{cell, column, declare};
use crate::tables::HistoryBudget::{Fixed, Share};
use crate::tables::typed::Cells;
use crate::tables::{Table, TableDef};

pub(super) const SYSTEM: [TableDef; 14] = [
    ConnStats::DEF,
    ProcessStats::DEF,
    NetworkStats::DEF,
    JvmStats::DEF,
    StackTracesBeta::DEF,
    ProcExitEvents::DEF,
    StirlingError::DEF,
    DataLoss::DEF,
    ProbeStatus::DEF,
    TcpStatsEvents::DEF,
    LetEvents::DEF,
    WeirQueries::DEF,
    WeirOperators::DEF,
    WeirFeeds::DEF,
];

declare! {
    table ConnStats "conn_stats" "Connection and byte counts per process and peer, cumulative; one row per changed key every 10 s.";
    history Share;
    row ConnStatsRow<'a> {
        time_: Time None "When the counts were read, Unix ns.",
        upid: Uint128 Upid "The traced process.",
        remote_addr: Label IpAddress "IP address of the peer; `-` when unknown, `unix_socket:<path>` for Unix peers.",
        remote_port: Int Port "Port of the peer; 0 when the traced side is the server.",
        trace_role: Int None "The traced side: 1 client, 2 server, 4 unknown.",
        addr_family: Int None "0 unspecified, 1 IPv4, 2 IPv6, 3 Unix, 4 other.",
        protocol: Int None "Protocol number, see protocol_name.",
        ssl: Bool None "The connection is encrypted.",
        conn_open: Int None "Connections opened, cumulative.",
        conn_close: Int None "Connections closed, cumulative.",
        conn_active: Int None "Connections open now.",
        bytes_sent: Int Bytes "Bytes sent, cumulative.",
        bytes_recv: Int Bytes "Bytes received, cumulative.",
    }
}

declare! {
    table ProcessStats "process_stats" "CPU, memory and IO of each live process, every second.";
    history Share;
    row ProcessStatsRow {
        time_: Time None "When the counters were read, Unix ns.",
        upid: Uint128 Upid "The traced process.",
        major_faults: Int None "Page faults that needed IO, cumulative.",
        minor_faults: Int None "Page faults without IO, cumulative.",
        cpu_utime_ns: Int DurationNs "User CPU time, ns, cumulative.",
        cpu_ktime_ns: Int DurationNs "Kernel CPU time, ns, cumulative.",
        num_threads: Int None "Threads now.",
        vsize_bytes: Int Bytes "Virtual memory, bytes.",
        rss_bytes: Int Bytes "Resident memory, bytes.",
        rchar_bytes: Int Bytes "Bytes read by calls, cumulative.",
        wchar_bytes: Int Bytes "Bytes written by calls, cumulative.",
        read_bytes: Int Bytes "Bytes read from storage, cumulative.",
        write_bytes: Int Bytes "Bytes written to storage, cumulative.",
    }
}

declare! {
    table NetworkStats "network_stats" "Network counters of each pod, every second; cumulative.";
    history Share;
    row NetworkStatsRow<'a> {
        time_: Time None "When the counters were read, Unix ns.",
        pod_id: Label None "The pod's id.",
        rx_bytes: Int Bytes "Received bytes, cumulative.",
        rx_packets: Int None "Received packets, cumulative.",
        rx_errors: Int None "Received errors, cumulative.",
        rx_drops: Int None "Received drops, cumulative.",
        tx_bytes: Int Bytes "Sent bytes, cumulative.",
        tx_packets: Int None "Sent packets, cumulative.",
        tx_errors: Int None "Sent errors, cumulative.",
        tx_drops: Int None "Sent drops, cumulative.",
    }
}

declare! {
    table JvmStats "jvm_stats" "Heap and garbage collection of each JVM, every second.";
    history Share;
    row JvmStatsRow {
        time_: Time None "When the counters were read, Unix ns.",
        upid: Uint128 Upid "The traced process.",
        young_gc_time: Int DurationNs "Young collections, ns, cumulative.",
        full_gc_time: Int DurationNs "Full collections, ns, cumulative.",
        used_heap_size: Int None "Heap in use, bytes.",
        total_heap_size: Int None "Heap committed, bytes.",
        max_heap_size: Int None "Heap limit, bytes.",
    }
}

declare! {
    table StackTracesBeta "stack_traces.beta" "CPU profile samples by stack.";
    history Share;
    row StackTracesBetaRow<'a> {
        time_: Time None "When the interval ended, Unix ns.",
        upid: Uint128 Upid "The traced process.",
        stack_trace_id: Int None "Per-agent id of the text.",
        stack_trace: Text None "Root to leaf, `;` between frames; kernel frames begin with `[k] `.",
        count: Int None "Samples in the interval.",
    }
}

declare! {
    table ProcExitEvents "proc_exit_events" "Abnormal process exits.";
    history Fixed { bytes: 10 << 20, percent_max: 10 };
    row ProcExitEventsRow<'a> {
        time_: Time None "When the process ended, Unix ns.",
        upid: Uint128 Upid "The traced process.",
        exit_code: Int None "Exit code.",
        signal: Int None "Signal that ended it, 0 if none.",
        comm: Label None "Command name.",
    }
}

declare! {
    table StirlingError "stirling_error" "What a source reported: status of sources and capture errors.";
    history Fixed { bytes: 1 << 20, percent_max: 1 };
    row StirlingErrorRow<'a> {
        time_: Time None "When it was reported, Unix ns.",
        upid: Uint128 Upid "The traced process.",
        source_connector: Label None "The source.",
        status: Int None "Status code, 0 is OK.",
        error: Text None "Error text.",
        context: Text None "Details, JSON.",
    }
}

declare! {
    table DataLoss "data_loss" "What was lost on the way to the other tables, as far as we know.";
    history Fixed { bytes: 1 << 20, percent_max: 1 };
    row DataLossRow<'a> {
        time_: Time None "When it was noticed, Unix ns.",
        upid: Uint128 Upid "The agent.",
        table_name: Label None "The table; * for every one.",
        reason: Label None "Why it was lost.",
        unit: Label None "What is counted: rows, bytes or events.",
        since: Time None "It happened after this, Unix ns.",
        count: Int None "How much was lost.",
    }
}

declare! {
    table ProbeStatus "probe_status" "Status of tracepoints.";
    history Fixed { bytes: 1 << 20, percent_max: 1 };
    row ProbeStatusRow<'a> {
        time_: Time None "When it was reported, Unix ns.",
        upid: Uint128 Upid "The traced process.",
        source_connector: Label None "The source.",
        tracepoint: Text None "The tracepoint.",
        status: Int None "Status code, 0 is OK.",
        error: Text None "Error text.",
        info: Text None "Details, JSON.",
    }
}

declare! {
    table TcpStatsEvents "tcp_stats_events" "TCP counters of connections.";
    history Share;
    row TcpStatsEventsRow<'a> {
        time_: Time None "When the counters were read, Unix ns.",
        upid: Uint128 Upid "The traced process.",
        local_addr: Label IpAddress "Local IP address.",
        local_port: Int Port "Local port.",
        remote_addr: Label IpAddress "Peer IP address.",
        remote_port: Int Port "Peer port.",
        tx: Int Bytes "Bytes sent.",
        rx: Int Bytes "Bytes received.",
        retransmits: Int None "Segments sent again.",
    }
}

declare! {
    table LetEvents "let_events" "The generated latency/error/throughput workload of `weir bench let`.";
    history Share;
    row LetEventsRow<'a> {
        time_: Time None "When the response was sent, Unix ns.",
        latency: Int DurationNs "Response time, ns.",
        req_size: Int Bytes "Request size, bytes.",
        resp_size: Int Bytes "Response size, bytes.",
        pod: Label None "Responding pod.",
        service: Label None "Responding service.",
        remote: Label None "Requesting service.",
        endpoint: Label None "Request path template.",
        status: Int None "Response status code.",
    }
}

declare! {
    table WeirQueries "weir_queries" "What each installed query does, every second; counts are since the row before.";
    history Fixed { bytes: 4 << 20, percent_max: 2 };
    row WeirQueriesRow<'a> {
        time_: Time None "When it was looked at, Unix ns.",
        query: Int None "Number of the query.",
        name: Label ScriptReference "The script.",
        refresh: Int DurationNs "How often it refreshes, ns.",
        lateness: Int DurationNs "How late its last refresh was done, or the next one is, ns.",
        readers: Int None "Who reads it now.",
        rows_in: Int None "Changes that its operators took from feeds.",
        rows_out: Int None "Changed rows of its outputs.",
        held_bytes: Int Bytes "Bytes that its own operators keep, and that wait for them.",
        busy: Int DurationNs "Time spent in its own operators, ns; that of feeds is in weir_feeds.",
        interval: Int DurationNs "Time since the row before, ns.",
    }
}

declare! {
    table WeirOperators "weir_operators" "What each operator of the running dataflows does, every second; counts are since the row before.";
    history Fixed { bytes: 16 << 20, percent_max: 5 };
    row WeirOperatorsRow<'a> {
        time_: Time None "When it was looked at, Unix ns.",
        node: Label None "The node that it runs on; empty in the cluster part.",
        part: Label None "What it belongs to: query, feed, or node (a feed's part on a node).",
        query: Int None "Number of the query or feed.",
        operator: Label None "Its place there: op, exchange or output, with a number.",
        kind: Label None "What it does.",
        rows_in: Int None "Rows, or changes, that it took.",
        rows_out: Int None "Rows, or changes, that it gave.",
        held_bytes: Int Bytes "Bytes that it keeps, and that wait for it.",
        busy: Int DurationNs "Time spent in it, ns.",
        interval: Int DurationNs "Time since the row before, ns.",
    }
}

declare! {
    table WeirFeeds "weir_feeds" "What queries share, every second: scans on nodes and the windows that receive them; counts are since the row before.";
    history Fixed { bytes: 4 << 20, percent_max: 2 };
    row WeirFeedsRow<'a> {
        time_: Time None "When it was looked at, Unix ns.",
        feed: Int None "Number of the feed.",
        table_name: Label None "The tables that it scans.",
        refresh: Int DurationNs "How often it refreshes, ns.",
        lateness: Int DurationNs "How late its last refresh was done, or the next one is, ns.",
        readers: Int None "Queries that read it now.",
        rows_in: Int None "Rows that nodes scanned for it.",
        rows_out: Int None "Changes that its windows told to each reader.",
        held_bytes: Int Bytes "Bytes that its operators keep, and that wait for them, on nodes and in the cluster part.",
        busy: Int DurationNs "Time spent in its operators, ns, on nodes and in the cluster part.",
        interval: Int DurationNs "Time since the row before, ns.",
    }
}
