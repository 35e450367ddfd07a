//! Probes of functions in user space: `@pxtrace.probe('symbol')` over a function that returns a list
//! of dictionaries, column → what is recorded.

use std::rc::Rc;

use serde::{Deserialize, Serialize};
use weir_types::{Column, DataType, Relation, SemanticType};

use super::TraceValue;
use crate::codes::Code;
use crate::diag::{Diag, Res, Stop};
use crate::objects::args::{Arg, CallArgs};
use crate::objects::eval::Evaluator;
use crate::objects::{Object, UserFunction};

/// A function to be traced, and the columns of its table besides `time_` and `upid`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionProbe {
    pub symbol: String,
    pub outputs: Vec<(String, ProbeOutput)>,
}

/// What a probe records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeOutput {
    /// An expression over the arguments, such as `req.id`.
    Argument(String),
    /// An expression over the result, such as `$0`.
    Result(String),
    /// How long the call took.
    Latency,
}

impl ProbeOutput {
    /// Arguments and results get their true types from the traced program's debug information, which
    /// the compiler does not have: until the table is declared by who traces, they are integers.
    fn column(&self, name: &str) -> Column {
        let semantic = match self {
            ProbeOutput::Latency => SemanticType::DurationNs,
            ProbeOutput::Argument(_) | ProbeOutput::Result(_) => SemanticType::None,
        };
        Column::new(name, DataType::Int64, semantic)
    }
}

impl FunctionProbe {
    pub(super) fn relation(&self) -> Relation {
        let mut columns = vec![
            Column::new("time_", DataType::Time64Ns, SemanticType::None),
            Column::new("upid", DataType::Uint128, SemanticType::Upid),
        ];
        columns.extend(self.outputs.iter().map(|(name, output)| output.column(name)));
        Relation::new(columns)
    }
}

impl<'a> Evaluator<'a> {
    /// What a decorated function says that is recorded.
    pub(super) fn function_probe(
        &mut self,
        function: &Rc<UserFunction<'a>>,
        arg: &Arg<'a>,
    ) -> Res<FunctionProbe> {
        let wrong = |message: String| -> Stop {
            let hint = "write `return [{'column': pxtrace.ArgExpr('name')}]`";
            Diag::error(Code::Tracepoint, arg.span, message).hint(hint).into()
        };
        let name = function.def.name.as_str();
        let Some(symbol) = &function.probe else {
            let message = format!("function '{name}' is not a probe");
            let hint = "decorate it with `@pxtrace.probe('symbol')`";
            return Err(Diag::error(Code::Tracepoint, arg.span, message).hint(hint).into());
        };
        let call = CallArgs { positional: Vec::new(), keywords: Vec::new(), span: arg.span };
        let result = self.call_function(function, call)?;
        let dicts: Vec<Object<'a>> = match &result {
            Object::List(items) | Object::Tuple(items) => items.to_vec(),
            Object::Dict(_) => vec![result.clone()],
            Object::Poison => return Err(Stop::Poisoned),
            other => {
                let kind = other.type_name();
                return Err(wrong(format!("probe '{name}' must return a list, not {kind}")));
            }
        };
        let mut outputs: Vec<(String, ProbeOutput)> = Vec::new();
        for dict in &dicts {
            let Object::Dict(pairs) = dict else {
                let kind = dict.type_name();
                return Err(wrong(format!("probe '{name}' must return dictionaries, not {kind}")));
            };
            for (key, value) in pairs.iter() {
                let column = Arg { value: key.clone(), span: arg.span }.text(name, "column")?;
                let output = match value {
                    Object::TraceValue(value) => match &**value {
                        TraceValue::Output(output) => Some(output.clone()),
                        _ => None,
                    },
                    Object::Poison => return Err(Stop::Poisoned),
                    _ => None,
                };
                let Some(output) = output else {
                    let kind = value.type_name();
                    let message = format!(
                        "column '{column}' of probe '{name}' must be a pxtrace.ArgExpr, \
                         pxtrace.RetExpr or pxtrace.FunctionLatency, not {kind}"
                    );
                    return Err(wrong(message));
                };
                let taken = ["time_", "upid"].contains(&column.as_str())
                    || outputs.iter().any(|(have, _)| *have == column);
                if taken {
                    let message = format!("probe '{name}' has the column '{column}' twice");
                    return Err(wrong(message));
                }
                outputs.push((column, output));
            }
        }
        if outputs.is_empty() {
            return Err(wrong(format!("probe '{name}' records nothing")));
        }
        Ok(FunctionProbe { symbol: symbol.clone(), outputs })
    }
}
