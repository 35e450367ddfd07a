//! Functions called from outside, as a vis.json asks for: argument texts become values by the
//! parameters' annotations, results become outputs.

use std::rc::Rc;

use weir_types::{DataType, Value};

use super::args::{Arg, CallArgs};
use super::eval::{At, Evaluator};
use super::types::{Base, TypeObject};
use super::{Module, Object, UserFunction};
use crate::codes::Code;
use crate::diag::{Diag, Res, SourceId, Span, Stop, fail};
use crate::hint;
use crate::ir::NameAt;

/// One call.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExecCall {
    pub(crate) func: String,
    pub(crate) args: Vec<(String, String)>,
    /// Where the arguments stand, as far as they do.
    pub(crate) arg_spans: Vec<Span>,
    /// Name of the output table, or of the list of them.
    pub(crate) output: String,
    /// Widgets that show it, by position in the vis.json.
    pub(crate) widgets: Vec<usize>,
    /// Where the call stands.
    pub(crate) span: Option<Span>,
    /// Arguments that the function does not take are left out.
    pub(crate) lenient: bool,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn run_call(&mut self, number: usize, call: &ExecCall) {
        self.current_call = Some(number);
        if let Err(stop) = self.try_call(call) {
            self.findings.stop(stop);
        }
        self.current_call = None;
    }

    fn try_call(&mut self, call: &ExecCall) -> Res<()> {
        let span = call.span.unwrap_or(Span::NONE);
        if call.func.is_empty() {
            let message = "Must specify func_name for each function to execute";
            return fail(Code::ExecFunction, span, message);
        }
        if call.output.is_empty() {
            let message =
                format!("Output_table_prefix must be specified for function {}", call.func);
            return fail(Code::ExecFunction, span, message);
        }
        let function = self.exec_function(&call.func, span)?;
        let args = self.exec_arguments(&function, call, span)?;
        let result = self.call_function(&function, args)?;
        self.output(&call.func, &call.output, result, span)
    }

    fn exec_function(&self, name: &str, span: Span) -> Res<Rc<UserFunction<'a>>> {
        match self.module_variable(name) {
            Some(Object::Function(function)) => Ok(function.clone()),
            Some(Object::Poison) => Err(Stop::Poisoned),
            Some(other) => {
                let kind = other.type_name();
                let message =
                    format!("Function to execute, '{name}', is not a function but a {kind}");
                fail(Code::ExecFunction, span, message)
            }
            None => {
                let known = self.function_names();
                let all = format!("the script defines {}", known.join(", "));
                let hint = hint::did_you_mean(name, known, &all);
                let message = format!("Function to execute, '{name}', not found.");
                Err(Diag::error(Code::ExecFunction, span, message).hint(hint).into())
            }
        }
    }

    fn exec_arguments(
        &mut self,
        function: &UserFunction<'a>,
        call: &ExecCall,
        span: Span,
    ) -> Res<CallArgs<'a>> {
        let parameters: Vec<&str> = function
            .def
            .parameters
            .iter_non_variadic_params()
            .map(|each| each.name().as_str())
            .collect();
        let mut keywords = Vec::new();
        for (number, (name, text)) in call.args.iter().enumerate() {
            let span = call.arg_spans.get(number).copied().unwrap_or(span);
            let at = parameters.iter().position(|have| have == name);
            if at.is_none() && call.lenient {
                continue;
            }
            let Some(at) = at else {
                let message =
                    format!("Function '{}' does not have an argument called '{name}'", call.func);
                let all = format!("it takes {}", parameters.join(", "));
                let hint = hint::did_you_mean(name, parameters.iter().copied(), &all);
                return Err(Diag::error(Code::ExecArgument, span, message).hint(hint).into());
            };
            let Some(annotation) = function.annotations[at] else {
                let message = format!(
                    "Arg type annotation required. Function: '{}', arg: '{name}'",
                    call.func
                );
                let hint = format!("write `{name}: str`, or another type");
                return Err(Diag::error(Code::ExecArgument, span, message).hint(hint).into());
            };
            let value = self.exec_value(text, annotation, span)?;
            let name = NameAt { name: name.clone(), span };
            keywords.push((name, Arg { value, span }));
        }
        Ok(CallArgs { positional: Vec::new(), keywords, span })
    }

    fn exec_value(&mut self, text: &str, wanted: TypeObject, span: Span) -> Res<Object<'a>> {
        let failed = |kind: &str| -> Stop {
            let message = format!("Failed to parse arg with value '{text}' as {kind}.");
            Diag::error(Code::ExecArgument, span, message).into()
        };
        let value = match wanted.base {
            Base::Data(DataType::String) => Value::str(text),
            Base::Data(DataType::Int64) => {
                Value::Int64(text.trim().parse().map_err(|_| failed("int64"))?)
            }
            Base::Data(DataType::Float64) => {
                Value::Float64(text.trim().parse().map_err(|_| failed("float64"))?)
            }
            Base::Data(DataType::Boolean) => {
                Value::Boolean(boolean(text).ok_or_else(|| failed("bool"))?)
            }
            Base::Data(DataType::Time64Ns) => {
                Value::Time64Ns(text.trim().parse().map_err(|_| failed("time"))?)
            }
            Base::Data(DataType::Uint128) => {
                let message = "Passing arg of type UINT128 is currently unsupported.";
                return fail(Code::ExecArgument, span, message);
            }
            Base::List | Base::Frame => return self.exec_expression(text, span),
        };
        Ok(Object::literal(value, span))
    }

    /// A list and the like: one PxL expression with `px` in scope.
    fn exec_expression(&mut self, text: &str, span: Span) -> Res<Object<'a>> {
        let Some(expr) = crate::syntax::parse_expression(text) else {
            let message = format!("Failed to parse arg with value '{text}' as an expression.");
            return fail(Code::ExecArgument, span, message);
        };
        let scope = self.new_scope(super::eval::MODULE_SCOPE);
        self.bind_name(scope, "px", Object::Module(Module::Px));
        self.expression(&expr, At { scope, source: SourceId::Outside })
    }

    /// A frame is one output; a list or tuple of frames is several.
    fn output(&mut self, func: &str, name: &str, result: Object<'a>, span: Span) -> Res<()> {
        let wrong = |other: &Object<'a>| -> Stop {
            let kind = other.type_name();
            let message =
                format!("Function '{func}' returns '{kind}' but should return a DataFrame.");
            Diag::error(Code::ExecResult, span, message).hint("add `return df`").into()
        };
        match &result {
            Object::Frame(frame) => self.sink(name.to_string(), frame.op, self.current_call, span),
            Object::List(items) | Object::Tuple(items) => {
                for (at, item) in items.iter().enumerate() {
                    match item {
                        Object::Frame(frame) => {
                            self.sink(format!("{name}[{at}]"), frame.op, self.current_call, span)?;
                        }
                        Object::Poison => return Err(Stop::Poisoned),
                        other => return Err(wrong(other)),
                    }
                }
                Ok(())
            }
            Object::Poison => Err(Stop::Poisoned),
            other => Err(wrong(other)),
        }
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}
