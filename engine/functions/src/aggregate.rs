//! Aggregates: which accumulator stands for a call, how a row is added to it and how the result is
//! read. Merging and taking away is `weir_types::acc`.
//!
//! Results of no value: count and sum 0, mean NaN, min and max the type's greatest and lowest
//! value, any the type's zero, quantiles "". NaN makes sums and means NaN; min, max and quantiles
//! leave it out.

mod bound;
mod column;
mod finish;
mod pprof;
mod registry;

use weir_types::acc::{self, Acc, FloatSum, Sketch};
use weir_types::plan::AggCall;
use weir_types::{DataType, RecordBatch, SemanticType, Value};

use crate::FunctionError;

pub use bound::BoundAgg;
pub use column::AccColumn;
pub use registry::{AggDef, AggOverload, all, find};

/// The result type of the aggregate for exactly these argument types.
#[must_use]
pub fn resolve(name: &str, args: &[DataType]) -> Option<DataType> {
    find(name)?.overload(args).map(|overload| overload.result)
}

/// The result's tag.
#[must_use]
pub fn semantic(name: &str, args: &[SemanticType], _arg_types: &[DataType]) -> SemanticType {
    find(name).map_or(SemanticType::None, |def| def.semantic.apply(args))
}

/// What rows come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Rows are only added; they go with their whole pane.
    AppendOnly,
    /// Single rows are taken back, too.
    Retractable,
}

/// What is computed, per argument type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AggKind {
    Count,
    SumInt,
    SumFloat,
    /// The number of trues.
    SumBool,
    MeanInt,
    MeanFloat,
    MeanBool,
    QuantilesInt,
    QuantilesFloat,
    Min,
    Max,
    Any,
    Pprof,
    RequestPaths,
    Kmeans,
}

/// An aggregate call, ready to run.
#[derive(Clone, Debug)]
pub struct AggFn {
    kind: AggKind,
    /// Whole argument tuples are kept.
    bag: bool,
    args: Vec<usize>,
    arg_types: Vec<DataType>,
    time: Option<usize>,
}

impl AggFn {
    pub fn new(call: &AggCall, input: Input) -> Result<AggFn, FunctionError> {
        let def = find(&call.func)
            .ok_or_else(|| FunctionError::UnknownFunction { name: call.func.clone() })?;
        let overload =
            def.overload(&call.arg_types).filter(|_| call.args.len() == call.arg_types.len());
        let overload = overload.ok_or_else(|| FunctionError::NoOverload {
            name: call.func.clone(),
            args: call.arg_types.clone(),
        })?;
        if overload.result != call.data_type {
            return Err(FunctionError::ResultType {
                name: call.func.clone(),
                is: overload.result,
                declared: call.data_type,
            });
        }
        let kind = overload.kind;
        let bag = match kind {
            AggKind::Min | AggKind::Max | AggKind::Any => input == Input::Retractable,
            AggKind::Pprof | AggKind::RequestPaths | AggKind::Kmeans => true,
            _ => false,
        };
        Ok(AggFn {
            kind,
            bag,
            args: call.args.clone(),
            arg_types: call.arg_types.clone(),
            // Only `any` asks when a row was: without times a bag has fewer entries.
            time: call.time.filter(|_| kind == AggKind::Any),
        })
    }

    /// The accumulator of no rows.
    #[must_use]
    pub fn zero(&self) -> Acc {
        if self.bag {
            return Acc::Bag(acc::Bag::default());
        }
        match self.kind {
            AggKind::Count | AggKind::SumBool => Acc::Count(0),
            AggKind::SumInt => Acc::SumInt(0),
            AggKind::SumFloat => Acc::SumFloat(FloatSum::default()),
            AggKind::MeanInt | AggKind::MeanBool => Acc::MeanInt { sum: 0, count: 0 },
            AggKind::MeanFloat => Acc::MeanFloat { sum: FloatSum::default(), count: 0 },
            AggKind::QuantilesInt | AggKind::QuantilesFloat => Acc::Quantiles(Sketch::default()),
            AggKind::Min => Acc::Min(None),
            AggKind::Max => Acc::Max(None),
            AggKind::Any => Acc::Any(None),
            AggKind::Pprof | AggKind::RequestPaths | AggKind::Kmeans => {
                Acc::Bag(acc::Bag::default())
            }
        }
    }

    /// Looks up the argument columns of a batch once, for adding its rows.
    #[must_use]
    pub fn bind<'a>(&'a self, batch: &'a RecordBatch) -> BoundAgg<'a> {
        BoundAgg::new(self, batch)
    }

    /// Accumulators of many groups side by side.
    #[must_use]
    pub fn column(&self) -> AccColumn {
        AccColumn::new(self)
    }

    /// The result.
    #[must_use]
    pub fn finish(&self, acc: &Acc) -> Value {
        finish::value(self, acc)
    }

    /// True if accumulators can be subtracted from each other.
    #[must_use]
    pub fn is_group(&self) -> bool {
        self.zero().is_group()
    }

    /// The type of the only argument of `min`, `max`, `any`.
    fn value_type(&self) -> DataType {
        self.arg_types.first().copied().unwrap_or(DataType::Int64)
    }
}
