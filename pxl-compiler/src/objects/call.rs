//! Calls: of the script's own functions (inlined), of `px`'s, of the registry's, of methods.

use ruff_python_ast::ExprCall;
use ruff_text_size::Ranged;

use super::args::{Arg, CallArgs};
use super::eval::{At, Evaluator};
use super::{Object, UserFunction};
use crate::codes::Code;
use crate::diag::{Diag, Res, Span, Stop, fail};
use crate::ir::{NameAt, Sym, SymKind, SymRef};
use crate::registry;

impl<'a> Evaluator<'a> {
    pub(crate) fn call(&mut self, inner: &ExprCall, span: Span, at: At) -> Res<Object<'a>> {
        let callee = self.expression(&inner.func, at)?;
        let args = self.arguments(inner, span, at)?;
        match callee {
            Object::Function(function) => self.call_function(&function, args),
            Object::Px(function) => self.call_px(function, args),
            Object::Registry(name) => self.call_registry(name, args),
            Object::Type(found) => found.cast(args),
            Object::Method(frame, method) => self.call_method(frame, method, args),
            Object::GroupedAgg(frame, by) => self.aggregate(frame, Some(&by), args),
            Object::GroupedRolling(frame, by) => {
                let frame = self.rolling(frame, args)?;
                Ok(Object::Grouped(frame, by))
            }
            Object::RollingGroupby(frame) => self.groupby(frame, args),
            Object::OtelFunction(function) => {
                self.declares(&args)?;
                self.call_otel(function, args)
            }
            Object::Trace(function) => {
                self.declares(&args)?;
                self.call_trace(function, args)
            }
            Object::Poison => Err(Stop::Poisoned),
            Object::Expr(sym) if matches!(sym.kind, SymKind::Column { .. }) => {
                let message = format!("dataframe has no method '{sym}'");
                let span = sym.span;
                let name = sym.to_string();
                let hint = super::pandas::of_frame(&name).map_or_else(
                    || crate::hint::did_you_mean(&name, super::Method::names(), ""),
                    str::to_string,
                );
                Err(Diag::error(Code::MethodNotFound, span, message).hint(hint).into())
            }
            other => {
                let kind = other.type_name();
                fail(Code::NotCallable, span, format!("'{kind}' object is not callable"))
            }
        }
    }

    /// What exports and tracepoints are made of is copied into them.
    fn declares(&self, args: &CallArgs<'a>) -> Res<()> {
        let positional = args.positional.iter();
        let all = positional.chain(args.keywords.iter().map(|(_, arg)| arg));
        let bytes = all.map(Arg::text_bytes).sum();
        if self.budget.folded(bytes) { Ok(()) } else { Err(Stop::Poisoned) }
    }

    /// All arguments are evaluated, so that each reports its own errors.
    fn arguments(&mut self, inner: &ExprCall, span: Span, at: At) -> Res<CallArgs<'a>> {
        let mut args = CallArgs { positional: Vec::new(), keywords: Vec::new(), span };
        let mut stopped = None;
        let mut keep = |result: Res<Object<'a>>, this: &Self| match result {
            Ok(value) => value,
            Err(stop) => {
                this.findings.stop(stop);
                stopped = Some(Stop::Poisoned);
                Object::Poison
            }
        };
        for arg in &inner.arguments.args {
            let result = self.expression(arg, at);
            let value = keep(result, self);
            args.positional.push(Arg { value, span: Span::new(at.source, arg.range()) });
        }
        for keyword in &inner.arguments.keywords {
            let result = self.expression(&keyword.value, at);
            let value = keep(result, self);
            let arg = Arg { value, span: Span::new(at.source, keyword.value.range()) };
            let Some(name) = &keyword.arg else { return Err(Stop::Poisoned) };
            let span = Span::new(at.source, name.range());
            args.keywords.push((NameAt { name: name.as_str().to_string(), span }, arg));
        }
        stopped.map_or(Ok(args), Err)
    }

    /// Inlines a function: binds the parameters in a new scope and evaluates the body there.
    pub(crate) fn call_function(
        &mut self,
        function: &UserFunction<'a>,
        args: CallArgs<'a>,
    ) -> Res<Object<'a>> {
        let span = args.span;
        let name = function.def.name.as_str();
        let parameters = &function.def.parameters;
        let names: Vec<&str> =
            parameters.iter_non_variadic_params().map(|each| each.name().as_str()).collect();
        let slots = args.bind(name, &names, names.len())?;
        let scope = self.new_scope(function.scope);
        for ((name, slot), annotation) in names.iter().zip(slots).zip(&function.annotations) {
            let Some(arg) = slot else { continue };
            if let Some(annotation) = annotation {
                annotation.check(&arg.value, arg.span)?;
            }
            self.bind_name(scope, name, arg.value);
        }
        let result = self.enter_call(span).map(|()| {
            let result = self.block(&function.def.body, At { scope, source: function.source });
            self.leave_call();
            result
        });
        self.end_scope(scope);
        result
    }

    /// A function of the registry: a row expression, or a frame from a table function.
    fn call_registry(&mut self, name: &'static str, args: CallArgs<'a>) -> Res<Object<'a>> {
        match registry::kind_of(name) {
            Some(registry::FunctionKind::Scalar) => {
                if let Some(reason) = registry::refusal(name) {
                    let message = format!("px.{name} cannot run here: {reason}");
                    return fail(Code::NotYet, args.span, message);
                }
                if let Some((keyword, _)) = args.keywords.first() {
                    let message = format!("{name}() takes positional arguments only");
                    return fail(Code::ArgumentUnknown, keyword.span, message);
                }
                let syms: Res<Vec<SymRef>> = args
                    .positional
                    .iter()
                    .enumerate()
                    .map(|(at, arg)| arg.sym(name, &format!("{}", at + 1)))
                    .collect();
                Ok(Object::Expr(Sym::call(name, syms?, args.span)?))
            }
            Some(registry::FunctionKind::TableFunction) => self.table_function(name, args),
            Some(registry::FunctionKind::Aggregate) => {
                let message = format!("'{name}' is an aggregate and cannot be called");
                let hint = format!("use it inside agg: `df.agg(out=('column', px.{name}))`");
                Err(Diag::error(Code::NotCallable, args.span, message).hint(hint).into())
            }
            None => fail(Code::Internal, args.span, format!("Could not find function '{name}'.")),
        }
    }
}
