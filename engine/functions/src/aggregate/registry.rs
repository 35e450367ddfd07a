//! The aggregates' definitions.

use weir_types::DataType;

use super::AggKind;
use crate::scalar::ty;
use crate::semantic::{AMOUNTS, SUMMABLE, SemanticRule};

/// One exact signature.
#[derive(Clone, Copy, Debug)]
pub struct AggOverload {
    pub args: &'static [DataType],
    pub result: DataType,
    pub(crate) kind: AggKind,
}

/// One aggregate.
#[derive(Clone, Copy, Debug)]
pub struct AggDef {
    pub name: &'static str,
    pub overloads: &'static [AggOverload],
    pub arg_names: &'static [&'static str],
    /// One line.
    pub doc: &'static str,
    pub example: &'static str,
    pub semantic: SemanticRule,
}

impl AggDef {
    #[must_use]
    pub fn overload(&self, args: &[DataType]) -> Option<&'static AggOverload> {
        self.overloads.iter().find(|overload| overload.args == args)
    }
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        self.name.starts_with('_')
    }
}

macro_rules! aggregates {
    ($($($arg:ident)* => $result:ident, $kind:expr);* $(;)?) => {
        &[$(AggOverload { args: &[$(ty!($arg)),*], result: ty!($result), kind: $kind }),*]
    };
}

/// The aggregate of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static AggDef> {
    DEFS.iter().find(|def| def.name == name)
}

/// All aggregates, those used most first.
pub fn all() -> impl Iterator<Item = &'static AggDef> {
    DEFS.iter()
}

const DEFS: &[AggDef] = &[
    AggDef {
        name: "count",
        overloads: aggregates![
            I => I, AggKind::Count; F => I, AggKind::Count; S => I, AggKind::Count;
            B => I, AggKind::Count; T => I, AggKind::Count; U => I, AggKind::Count
        ],
        arg_names: &["value"],
        doc: "Number of rows",
        example: "df.groupby('service').agg(requests=('latency', px.count))",
        semantic: SemanticRule::None,
    },
    AggDef {
        name: "sum",
        overloads: aggregates![
            I => I, AggKind::SumInt; F => F, AggKind::SumFloat; B => I, AggKind::SumBool
        ],
        arg_names: &["value"],
        doc: "Sum; of BOOLEAN the number of trues. INT64 wraps, FLOAT64 is exact and rounded once",
        example: "df.groupby('service').agg(errors=('failed', px.sum))",
        semantic: SemanticRule::Keep(SUMMABLE),
    },
    AggDef {
        name: "mean",
        overloads: aggregates![
            I => F, AggKind::MeanInt; F => F, AggKind::MeanFloat;
            B => F, AggKind::MeanBool
        ],
        arg_names: &["value"],
        doc: "Arithmetic mean; of BOOLEAN the share of trues; NaN of no rows",
        example: "df.groupby('service').agg(error_rate=('failed', px.mean))",
        semantic: SemanticRule::Keep(AMOUNTS),
    },
    AggDef {
        name: "min",
        overloads: aggregates![
            I => I, AggKind::Min; F => F, AggKind::Min; T => T, AggKind::Min
        ],
        arg_names: &["value"],
        doc: "Smallest value; NaN is left out; the type's greatest value of no rows",
        example: "df.groupby('service').agg(first=('time_', px.min))",
        semantic: SemanticRule::Keep(AMOUNTS),
    },
    AggDef {
        name: "max",
        overloads: aggregates![
            I => I, AggKind::Max; F => F, AggKind::Max; T => T, AggKind::Max
        ],
        arg_names: &["value"],
        doc: "Greatest value; NaN is left out; the type's lowest value of no rows",
        example: "df.groupby('service').agg(slowest=('latency', px.max))",
        semantic: SemanticRule::Keep(AMOUNTS),
    },
    AggDef {
        name: "quantiles",
        overloads: aggregates![
            I => S, AggKind::QuantilesInt; F => S, AggKind::QuantilesFloat
        ],
        arg_names: &["value"],
        doc: "JSON text with p01, p10, p25, p50, p75, p90, p95, p99 as doubles, within 0.8 %",
        example: "df.groupby('service').agg(q=('latency', px.quantiles))",
        semantic: SemanticRule::Quantiles,
    },
    AggDef {
        name: "any",
        overloads: aggregates![
            I => I, AggKind::Any; F => F, AggKind::Any; S => S, AggKind::Any;
            B => B, AggKind::Any; T => T, AggKind::Any; U => U, AggKind::Any
        ],
        arg_names: &["value"],
        doc: "One of the values: the earliest row's, the smallest of several; the type's zero of \
              no rows",
        example: "df.groupby('pod').agg(node=('node', px.any))",
        semantic: SemanticRule::KeepAny,
    },
    AggDef {
        name: "sample",
        overloads: aggregates![S => S, AggKind::Any],
        arg_names: &["value"],
        doc: "One of the texts, as `any` chooses it: the same in every run",
        example: "df.groupby('service').agg(example=('req_path', px.sample))",
        semantic: SemanticRule::None,
    },
    AggDef {
        name: "pprof",
        overloads: aggregates![S I I => S, AggKind::Pprof],
        arg_names: &["stack_trace", "count", "profiler_period_ms"],
        doc: "Profile in pprof's protobuf form, not compressed, of folded stacks and their counts",
        example: "df.agg(p=('stack_trace', 'count', 'profiler_sampling_period_ms', px.pprof))",
        semantic: SemanticRule::None,
    },
    AggDef {
        name: "_build_request_path_clusters",
        overloads: aggregates![S => S, AggKind::RequestPaths],
        arg_names: &["request_path"],
        doc: "JSON text of clusters of like paths, for `_predict_request_path_cluster`",
        example: "df.agg(clusters=('req_path', px._build_request_path_clusters))",
        semantic: SemanticRule::None,
    },
    AggDef {
        name: "_kmeans_fit",
        overloads: aggregates![S I => S, AggKind::Kmeans],
        arg_names: &["embedding", "k"],
        doc: "JSON text of at most k (the greatest, up to 64) centres of embeddings, JSON arrays of \
              numbers, for `_kmeans_inference`",
        example: "df.agg(model=('embedding', 'k', px._kmeans_fit))",
        semantic: SemanticRule::None,
    },
];
