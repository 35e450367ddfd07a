//! Runs expressions over batches.
//!
//! Three things are done once for all functions, so that kernels need not care: calls on constants
//! are computed once, calls on one dictionary column are computed per value of the dictionary, and
//! literal arguments such as patterns are prepared when the expression is compiled.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, BooleanArray, DictionaryArray, RecordBatch};
use arrow_schema::DataType as ArrowType;
use weir_types::batch::{StrColumn, arrow_type, value_at};
use weir_types::metadata::reads as names;
use weir_types::{DataType, Expr, Value};

use crate::cuts::{self, Cut};
use crate::operand::{Call, Constants, Operand};
use crate::output;
use crate::scalar::{self, Overload, ScalarDef, put_for_codes};
use crate::{EvalCtx, FunctionError, work};

/// Deeper expressions are refused: evaluation recurses. A chain of 1,000 `or`s fits.
pub const EXPR_DEPTH_MAX: usize = 1024;

/// An expression with its overloads resolved. Cheap to clone.
#[derive(Clone)]
pub struct CompiledExpr {
    root: Arc<Node>,
    data_type: DataType,
}

enum Node {
    Column { idx: usize, data_type: DataType },
    Literal(Value),
    Now { factor: i64, offset_ns: i64 },
    Call(CallNode),
}

struct CallNode {
    overload: &'static Overload,
    args: Vec<Node>,
    prepared: Option<Constants>,
    /// How often each byte of a text is read, as it were.
    reads: u64,
    /// It asks for what is known of names.
    reads_names: bool,
}

impl std::fmt::Debug for CompiledExpr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CompiledExpr").field("data_type", &self.data_type).finish_non_exhaustive()
    }
}

impl CompiledExpr {
    pub fn new(expr: &Expr) -> Result<CompiledExpr, FunctionError> {
        let root = compile(expr, 0)?;
        Ok(CompiledExpr { root: Arc::new(root), data_type: expr.data_type() })
    }

    #[must_use]
    pub fn data_type(&self) -> DataType {
        self.data_type
    }

    /// One value per row of the batch. STRING results may be dictionary-encoded.
    pub fn eval(&self, ctx: &EvalCtx, batch: &RecordBatch) -> Result<ArrayRef, FunctionError> {
        Ok(match eval_node(&self.root, ctx, batch)? {
            Operand::Scalar(value) => output::broadcast(&value, batch.num_rows()),
            Operand::Array(array) => array,
        })
    }

    /// Which rows to keep.
    pub fn eval_filter(
        &self,
        ctx: &EvalCtx,
        batch: &RecordBatch,
    ) -> Result<BooleanArray, FunctionError> {
        if self.data_type != DataType::Boolean {
            return Err(FunctionError::NotBoolean { is: self.data_type });
        }
        Ok(self.eval(ctx, batch)?.as_boolean().clone())
    }
}

fn compile(expr: &Expr, depth: usize) -> Result<Node, FunctionError> {
    if depth > EXPR_DEPTH_MAX {
        return Err(FunctionError::TooDeep { depth_max: EXPR_DEPTH_MAX });
    }
    match expr {
        Expr::Column { idx, data_type } => Ok(Node::Column { idx: *idx, data_type: *data_type }),
        Expr::Literal(value) => Ok(Node::Literal(value.clone())),
        Expr::Now { factor, offset_ns } => Ok(Node::Now { factor: *factor, offset_ns: *offset_ns }),
        Expr::Call { func, args, data_type } => {
            let def = scalar::find(func)
                .ok_or_else(|| FunctionError::UnknownFunction { name: func.clone() })?;
            let types: Vec<DataType> = args.iter().map(Expr::data_type).collect();
            let overload = def
                .overload(&types)
                .ok_or_else(|| FunctionError::NoOverload { name: func.clone(), args: types })?;
            if overload.result != *data_type {
                return Err(FunctionError::ResultType {
                    name: func.clone(),
                    is: overload.result,
                    declared: *data_type,
                });
            }
            if let Some(reason) = def.refusal {
                return Err(FunctionError::Refused { name: func.clone(), reason });
            }
            let nodes =
                args.iter().map(|arg| compile(arg, depth + 1)).collect::<Result<Vec<_>, _>>()?;
            compile_call(def, overload, nodes)
        }
    }
}

fn compile_call(
    def: &'static ScalarDef,
    overload: &'static Overload,
    args: Vec<Node>,
) -> Result<Node, FunctionError> {
    let literals: Vec<Option<&Value>> = args
        .iter()
        .map(|arg| match arg {
            Node::Literal(value) => Some(value),
            _ => None,
        })
        .collect();
    if let Some(&argument) =
        def.const_args.iter().find(|&&idx| literals.get(idx).is_some_and(Option::is_none))
    {
        return Err(FunctionError::NotConstant { name: def.name.to_string(), argument });
    }
    if def.pure && literals.iter().all(Option::is_some) {
        let values: Vec<Value> = literals.into_iter().flatten().cloned().collect();
        if let Some(value) = evaluate_constant(def, overload, &values) {
            return Ok(Node::Literal(value));
        }
    }
    let literals: Vec<Option<&Value>> = args
        .iter()
        .map(|arg| match arg {
            Node::Literal(value) => Some(value),
            _ => None,
        })
        .collect();
    let prepared = def.prepare.map(|prepare| prepare(&literals));
    let (reads, reads_names) = (def.reads, !def.pure);
    Ok(Node::Call(CallNode { overload, args, prepared, reads, reads_names }))
}

/// The value of a call with literal arguments, if the function depends on nothing else.
#[must_use]
pub fn fold(name: &str, args: &[Value]) -> Option<Value> {
    let def = scalar::find(name).filter(|def| def.pure && def.refusal.is_none())?;
    let types: Vec<DataType> = args.iter().map(Value::data_type).collect();
    evaluate_constant(def, def.overload(&types)?, args)
}

/// The value of a pure function's overload for literal arguments.
fn evaluate_constant(def: &ScalarDef, overload: &Overload, args: &[Value]) -> Option<Value> {
    let literals: Vec<Option<&Value>> = args.iter().map(Some).collect();
    let prepared = def.prepare.map(|prepare| prepare(&literals));
    let operands: Vec<Operand> = args.iter().cloned().map(Operand::Scalar).collect();
    let ctx = EvalCtx::default();
    let call = Call { ctx: &ctx, args: &operands, rows: 1, prepared: prepared.as_ref() };
    value_at(&(overload.kernel)(&call), overload.result, 0)
}

fn eval_node(node: &Node, ctx: &EvalCtx, batch: &RecordBatch) -> Result<Operand, FunctionError> {
    match node {
        Node::Column { idx, data_type } => column(batch, *idx, *data_type),
        Node::Literal(value) => Ok(Operand::Scalar(value.clone())),
        Node::Now { factor, offset_ns } => Ok(Operand::Scalar(Value::Int64(
            ctx.now_unix_ns.wrapping_mul(*factor).wrapping_add(*offset_ns),
        ))),
        Node::Call(CallNode { overload, args, prepared, reads, reads_names }) => {
            let args =
                args.iter().map(|arg| eval_node(arg, ctx, batch)).collect::<Result<Vec<_>, _>>()?;
            let call =
                Call { ctx, args: &args, rows: batch.num_rows(), prepared: prepared.as_ref() };
            Ok(match reads_names {
                true => run_asking(overload, &call, *reads),
                false => run(overload, &call, *reads),
            })
        }
    }
}

fn column(batch: &RecordBatch, idx: usize, data_type: DataType) -> Result<Operand, FunctionError> {
    let columns = batch.num_columns();
    let array = batch.columns().get(idx).ok_or(FunctionError::ColumnMissing { idx, columns })?;
    let fits = match data_type {
        DataType::String => StrColumn::of(array).is_some(),
        // A zone does not change what the number means.
        DataType::Time64Ns => matches!(array.data_type(), ArrowType::Timestamp(unit, _)
            if *unit == arrow_schema::TimeUnit::Nanosecond),
        other => *array.data_type() == arrow_type(other),
    };
    if fits {
        Ok(Operand::Array(array.clone()))
    } else {
        Err(FunctionError::ColumnType { idx, declared: data_type })
    }
}

/// The kernel's result, if there may be so much work.
fn computed(overload: &Overload, call: &Call<'_>, reads: u64) -> Option<ArrayRef> {
    if work::is_wasted() {
        return None;
    }
    let bytes: u64 = call.args.iter().map(|arg| read_bytes(arg, call.rows)).sum();
    let fits = work::spend_read(bytes.saturating_mul(reads) + call.rows as u64 * ROW_BYTES);
    if !fits {
        cuts::note(Cut::RowWork, call.rows);
        // What it would have asked for is not known.
        names::note_always();
        return None;
    }
    Some((overload.kernel)(call))
}

/// A call for a row costs as much as reading so many bytes, whatever its arguments are.
const ROW_BYTES: u64 = 16;

/// Bytes of the texts that a kernel looks at in an argument.
fn read_bytes(arg: &Operand, rows: usize) -> u64 {
    match arg {
        Operand::Scalar(Value::String(text)) => text.len() as u64 * rows as u64,
        Operand::Scalar(_) => 0,
        Operand::Array(array) => match StrColumn::of(array) {
            None => 0,
            Some(StrColumn::Plain(texts)) => {
                let offsets = texts.value_offsets();
                let bytes = offsets.last().unwrap_or(&0) - offsets.first().unwrap_or(&0);
                u64::try_from(bytes).unwrap_or(0)
            }
            Some(StrColumn::Dictionary { keys, values }) => {
                let lengths = |key: &i32| values.value_length(*key as usize) as u64;
                keys.values().iter().map(lengths).sum()
            }
        },
    }
}

/// The same of a function that asks for names: what it asks for is put down for the rows that it is asked for.
fn run_asking(overload: &Overload, call: &Call<'_>, reads: u64) -> Operand {
    let (result, asked) = names::during(|| run(overload, call, reads));
    let Some(asked) = asked else { return result };
    match shared_dictionary(call) {
        // It ran once for all rows.
        None if call.args.iter().all(|arg| matches!(arg, Operand::Scalar(_))) => {
            names::put(asked.into_iter().map(|(_, key)| (names::ALL_ROWS, key)));
        }
        None => names::put(asked),
        Some(dictionary) => put_for_codes(asked, dictionary.keys().values()),
    }
    result
}

/// The one dictionary that all columns among the arguments are: a kernel runs over its values.
fn shared_dictionary<'a>(call: &'a Call<'_>) -> Option<&'a DictionaryArray<Int32Type>> {
    let mut arrays = call.args.iter().filter_map(|arg| match arg {
        Operand::Array(array) => Some(array),
        Operand::Scalar(_) => None,
    });
    let array = arrays.next()?;
    // The same column twice, as in links that show what they pass on, is still one dictionary.
    let is_one = arrays.all(|other| Arc::ptr_eq(other, array));
    let dictionary = array.as_dictionary_opt::<Int32Type>().filter(|_| is_one)?;
    (dictionary.values().len() <= call.rows).then_some(dictionary)
}

fn run(overload: &Overload, call: &Call<'_>, reads: u64) -> Operand {
    // What is not computed is as cheap as can be.
    let nothing = || Operand::Scalar(overload.result.zero());
    if call.args.iter().all(|arg| matches!(arg, Operand::Scalar(_))) {
        let once = Call { rows: 1, ..*call };
        let Some(result) = computed(overload, &once, reads) else { return nothing() };
        let value = value_at(&result, overload.result, 0)
            .expect("kernels give the type that their overload says");
        return Operand::Scalar(value);
    }
    if let Some(dictionary) = shared_dictionary(call) {
        let values = |arg: &Operand| match arg {
            Operand::Array(_) => Operand::Array(dictionary.values().clone()),
            Operand::Scalar(_) => arg.clone(),
        };
        let args: Vec<Operand> = call.args.iter().map(values).collect();
        let per_value = Call { args: &args, rows: dictionary.values().len(), ..*call };
        let results = computed(overload, &per_value, reads);
        return results.map_or_else(nothing, |results| {
            Operand::Array(output::spread(&results, dictionary.keys()))
        });
    }
    computed(overload, call, reads).map_or_else(nothing, Operand::Array)
}
