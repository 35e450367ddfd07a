//! Statements: the module body and, inlined per call, function bodies. A statement that fails is
//! reported and the next one goes on; what it would have bound becomes poison.

use std::collections::HashMap;
use std::rc::Rc;

use ruff_python_ast::{Stmt, StmtFunctionDef};
use ruff_text_size::Ranged;
use weir_types::{Relation, Value};

use super::args::{Arg, CallArgs};
use super::named::{NamedBody, NamedState};
use super::trace::{AgentConfig, Tracepoint};
use super::types::{BUILTIN_TYPES, annotation_type};
use super::{Decorator, Module, Object, ScopeId, UserFunction};
use crate::budget::Budget;
use crate::codes::Code;
use crate::diag::{Diag, Findings, Res, SourceId, Span, Stop, fail};
use crate::export::OtelEndpoint;
use crate::hint;
use crate::ir::Graph;
use crate::limits::{CALL_DEPTH_MAX, EVAL_DEPTH_MAX, EVAL_STEPS_MAX, VALUE_BYTES_MAX};

#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    vars: HashMap<String, Object<'a>>,
    parent: Option<ScopeId>,
}

/// Work of one step of the evaluation, in units of the budget.
const STEP_WORK: usize = 20;

/// What the caller of the compiler decides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// `run --now`: positions that need a constant take this for `px.now()`.
    pub(crate) now_unix_ns: Option<i64>,
    /// Tables that are declared outside the registry.
    pub(crate) tables: Vec<(String, Relation)>,
    /// Functions are called from outside: `px.display` has no effect.
    pub(crate) exec_mode: bool,
    /// Where exports go that name no endpoint.
    pub(crate) otel_endpoint: Option<OtelEndpoint>,
    /// `px.plugin.start_time` and `.end_time`.
    pub(crate) plugin_times: Option<(i64, i64)>,
}

pub(crate) struct Evaluator<'a> {
    pub(crate) findings: &'a Findings,
    pub(crate) budget: &'a Budget,
    pub(crate) settings: Settings,
    pub(crate) graph: Graph,
    /// The text that string literals are decoded from, per source.
    script_text: &'a str,
    views: Option<(&'a str, &'a [Stmt])>,
    views_scope: Option<ScopeId>,
    pub(crate) named: &'a [NamedBody<'a>],
    pub(crate) named_state: NamedState,
    pub(super) scopes: Vec<Scope<'a>>,
    /// Scopes before this one stay: a function that was defined in one may read it.
    scopes_kept: ScopeId,
    /// Attributes that the script assigned to modules, functions and the like (`px.Pod = str`).
    attributes: HashMap<(Owner, String), (Object<'a>, Object<'a>)>,
    depth: usize,
    calls: usize,
    steps: usize,
    /// A budget is used up: reported once, nothing is evaluated any more.
    exhausted: bool,
    /// The vis call being evaluated.
    pub(crate) current_call: Option<usize>,
    pub(crate) tracepoints: Vec<Tracepoint>,
    pub(crate) tracepoints_deleted: Vec<String>,
    pub(crate) agent_configs: Vec<AgentConfig>,
}

/// What an attribute was assigned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Named(&'static str),
    /// The address of a shared object; the object is kept with the attribute.
    Shared(usize),
}

fn owner_of(object: &Object<'_>) -> Option<Owner> {
    let shared = |at: *const ()| Some(Owner::Shared(at.addr()));
    match object {
        Object::Module(module) => Some(Owner::Named(module.name())),
        Object::Type(found) => Some(Owner::Named(found.name)),
        Object::Registry(name) => Some(Owner::Named(name)),
        Object::Px(function) => Some(Owner::Named(function.name())),
        Object::Function(function) => shared(Rc::as_ptr(function).cast()),
        Object::List(items) | Object::Tuple(items) => shared(Rc::as_ptr(items).cast()),
        Object::Dict(items) => shared(Rc::as_ptr(items).cast()),
        Object::TraceValue(found) => shared(Rc::as_ptr(found).cast()),
        Object::Otel(found) => shared(Rc::as_ptr(found).cast()),
        _ => None,
    }
}

/// The script's own variables.
pub(crate) const MODULE_SCOPE: ScopeId = 0;

/// Where a body is evaluated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) scope: ScopeId,
    pub(crate) source: SourceId,
}

impl<'a> Evaluator<'a> {
    pub(crate) fn new(
        findings: &'a Findings,
        budget: &'a Budget,
        settings: Settings,
        script_text: &'a str,
        views: Option<(&'a str, &'a [Stmt])>,
        named: &'a [NamedBody<'a>],
    ) -> Evaluator<'a> {
        Evaluator {
            findings,
            budget,
            settings,
            graph: Graph::default(),
            script_text,
            views,
            views_scope: None,
            named,
            named_state: NamedState::default(),
            scopes: vec![Scope::default()],
            scopes_kept: 1,
            attributes: HashMap::new(),
            depth: 0,
            calls: 0,
            steps: 0,
            exhausted: false,
            current_call: None,
            tracepoints: Vec::new(),
            tracepoints_deleted: Vec::new(),
            agent_configs: Vec::new(),
        }
    }

    pub(crate) fn text_of(&self, source: SourceId) -> &'a str {
        match source {
            SourceId::Script => self.script_text,
            SourceId::Views => self.views.map_or("", |(text, _)| text),
            SourceId::Named(idx) => self.named.get(usize::from(idx)).map_or("", |view| view.text),
            SourceId::Vis | SourceId::Outside => "",
        }
    }

    pub(crate) fn run_module(&mut self, body: &'a [Stmt]) {
        self.block(body, At { scope: MODULE_SCOPE, source: SourceId::Script });
    }

    /// Counts one more level; every level is left by [`Evaluator::leave`].
    pub(crate) fn enter(&mut self, span: Span) -> Res<()> {
        self.steps += 1;
        if self.exhausted || self.findings.is_full() {
            self.exhausted = true;
            return Err(Stop::Poisoned);
        }
        if !self.budget.spend(STEP_WORK) {
            self.exhausted = true;
            self.budget.report(span, self.findings);
            return Err(Stop::Poisoned);
        }
        if self.steps > EVAL_STEPS_MAX {
            self.exhausted = true;
            let message = format!("the script takes more than {EVAL_STEPS_MAX} evaluation steps");
            let hint = "functions are inlined at each call: calls of calls multiply";
            return Err(Diag::error(Code::TooComplex, span, message).hint(hint).into());
        }
        if self.depth >= EVAL_DEPTH_MAX {
            self.exhausted = true;
            let message = format!(
                "calls and expressions within calls are nested deeper than {EVAL_DEPTH_MAX}"
            );
            let hint = "assign parts of it to variables first";
            return Err(Diag::error(Code::TooDeep, span, message).hint(hint).into());
        }
        self.depth += 1;
        Ok(())
    }

    /// Enters a call of one of the script's functions; left by [`Evaluator::leave_call`].
    pub(crate) fn enter_call(&mut self, span: Span) -> Res<()> {
        self.enter(span)?;
        if self.calls >= CALL_DEPTH_MAX {
            self.leave();
            self.exhausted = true;
            let message = format!("calls are nested deeper than {CALL_DEPTH_MAX}");
            let hint = "functions cannot call themselves: there is no condition to end it";
            return Err(Diag::error(Code::RecursionLimit, span, message).hint(hint).into());
        }
        self.calls += 1;
        Ok(())
    }

    pub(crate) fn leave_call(&mut self) {
        self.calls -= 1;
        self.leave();
    }

    /// A bound is reached: nothing is evaluated any more.
    pub(crate) fn stop_all(&mut self) {
        self.exhausted = true;
    }

    pub(crate) fn leave(&mut self) {
        self.depth -= 1;
    }

    pub(crate) fn new_scope(&mut self, parent: ScopeId) -> ScopeId {
        self.scopes.push(Scope { vars: HashMap::new(), parent: Some(parent) });
        self.scopes.len() - 1
    }

    /// Forgets the scope of a call that has ended, unless a function was defined in it.
    pub(crate) fn end_scope(&mut self, scope: ScopeId) {
        if scope + 1 == self.scopes.len() && scope >= self.scopes_kept {
            self.scopes.pop();
        }
    }

    pub(crate) fn bind_name(&mut self, scope: ScopeId, name: &str, value: Object<'a>) {
        self.scopes[scope].vars.insert(name.to_string(), value);
    }

    /// Looks a name up through the scopes, then among the names every script has.
    pub(crate) fn lookup(&self, scope: ScopeId, name: &str, span: Span) -> Res<Object<'a>> {
        let mut at = Some(scope);
        while let Some(scope) = at {
            if let Some(found) = self.scopes[scope].vars.get(name) {
                return Ok(found.clone());
            }
            self.budget.spend(1);
            at = self.scopes[scope].parent;
        }
        if let Some(found) = BUILTIN_TYPES.iter().find(|builtin| builtin.name == name) {
            return Ok(Object::Type(*found));
        }
        let mut known: Vec<&str> = BUILTIN_TYPES.iter().map(|builtin| builtin.name).collect();
        let mut at = Some(scope);
        while let Some(scope) = at {
            known.extend(self.scopes[scope].vars.keys().map(String::as_str));
            at = self.scopes[scope].parent;
        }
        let hint = if Module::find(name).is_some() {
            format!("add `import {name}` at the top")
        } else if let Some(habit) = super::pandas::of_python(name) {
            habit.to_string()
        } else {
            hint::did_you_mean(name, known, "assign it before it is used")
        };
        let message = format!("name '{name}' is not defined");
        Err(Diag::error(Code::NameNotDefined, span, message)
            .label("not found in this scope")
            .hint(hint)
            .into())
    }

    /// A function of the script's module scope, for calls from outside.
    pub(crate) fn module_variable(&self, name: &str) -> Option<&Object<'a>> {
        self.scopes[MODULE_SCOPE].vars.get(name)
    }

    /// Names of the functions that the script defines, sorted.
    pub(crate) fn function_names(&self) -> Vec<&str> {
        let vars = self.scopes[MODULE_SCOPE].vars.iter();
        let mut names: Vec<&str> = vars
            .filter(|(_, value)| matches!(value, Object::Function(_)))
            .map(|(name, _)| name.as_str())
            .collect();
        names.sort_unstable();
        names
    }

    /// Variables of the module and what they hold, sorted by name: for `explain`.
    pub(crate) fn variables(&self) -> Vec<(String, Object<'a>)> {
        let vars = self.scopes[MODULE_SCOPE].vars.iter();
        let mut all: Vec<_> = vars.map(|(name, value)| (name.clone(), value.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Evaluates statements; the value of the first `return`.
    pub(crate) fn block(&mut self, body: &'a [Stmt], at: At) -> Object<'a> {
        for statement in body {
            if self.exhausted {
                return Object::Poison;
            }
            if let Some(returned) = self.statement(statement, at) {
                return returned;
            }
        }
        Object::None
    }

    fn statement(&mut self, statement: &'a Stmt, at: At) -> Option<Object<'a>> {
        let result = match statement {
            Stmt::Expr(inner) => self.expression(&inner.value, at).map(|_| ()),
            Stmt::Assign(assign) => self.assign(assign, at),
            Stmt::FunctionDef(def) => self.define(def, at),
            Stmt::Import(_) | Stmt::ImportFrom(_) => self.import(statement, at),
            Stmt::Return(inner) => {
                let Some(value) = &inner.value else { return Some(Object::None) };
                let value = self.expression(value, at).unwrap_or_else(|stop| {
                    self.findings.stop(stop);
                    Object::Poison
                });
                return Some(value);
            }
            // `restrict` has refused everything else.
            _ => Ok(()),
        };
        if let Err(stop) = result {
            self.findings.stop(stop);
        }
        None
    }

    fn define(&mut self, def: &'a StmtFunctionDef, at: At) -> Res<()> {
        self.scopes_kept = self.scopes_kept.max(self.scopes.len());
        let mut annotations = Vec::new();
        for parameter in def.parameters.iter_non_variadic_params() {
            let annotation = match &parameter.parameter.annotation {
                None => None,
                Some(annotation) => {
                    let span = Span::new(at.source, annotation.range());
                    match self.expression(annotation, at) {
                        Ok(value) => annotation_type(&value, span)
                            .map_err(|stop| self.findings.stop(stop))
                            .ok(),
                        Err(stop) => {
                            self.findings.stop(stop);
                            None
                        }
                    }
                }
            };
            annotations.push(annotation);
        }
        let function =
            UserFunction { def, source: at.source, scope: at.scope, annotations, probe: None };
        let mut value = Object::Function(Rc::new(function.clone()));
        for decorator in &def.decorator_list {
            let span = Span::new(at.source, decorator.range());
            let decorated = match self.expression(&decorator.expression, at) {
                Ok(decorator) => self.decorated(&decorator, &function, span),
                Err(stop) => Err(stop),
            };
            value = decorated.unwrap_or_else(|stop| {
                self.findings.stop(stop);
                Object::Poison
            });
        }
        self.bind_name(at.scope, def.name.as_str(), value);
        Ok(())
    }

    /// What a function is bound to under a decorator.
    fn decorated(
        &mut self,
        decorator: &Object<'a>,
        function: &UserFunction<'a>,
        span: Span,
    ) -> Res<Object<'a>> {
        let probe = match decorator {
            Object::Decorator(decorator) => match &**decorator {
                Decorator::Vega => None,
                Decorator::Probe(symbol) => Some(symbol.clone()),
            },
            Object::Function(decorator) => {
                let value = Object::Function(Rc::new(function.clone()));
                let positional = vec![Arg { value, span }];
                let args = CallArgs { positional, keywords: Vec::new(), span };
                return self.call_function(&decorator.clone(), args);
            }
            Object::Poison => return Err(Stop::Poisoned),
            other => {
                let kind = other.type_name();
                return fail(Code::FunctionForm, span, format!("'{kind}' is not a decorator"));
            }
        };
        Ok(Object::Function(Rc::new(UserFunction { probe, ..function.clone() })))
    }

    /// An attribute that the script assigned.
    pub(crate) fn assigned_attribute(&self, object: &Object<'a>, name: &str) -> Option<Object<'a>> {
        let owner = owner_of(object)?;
        self.attributes.get(&(owner, name.to_string())).map(|(_, value)| value.clone())
    }

    fn import(&mut self, statement: &'a Stmt, at: At) -> Res<()> {
        match statement {
            Stmt::Import(import) => {
                for alias in &import.names {
                    let span = Span::new(at.source, alias.name.range());
                    let module = self.module(alias.name.as_str(), span)?;
                    let name = alias.asname.as_ref().unwrap_or(&alias.name);
                    self.bind_name(at.scope, name.as_str(), Object::Module(module));
                }
            }
            Stmt::ImportFrom(import) => {
                let from = import.module.as_ref().map_or("", |name| name.as_str());
                let module = self.module(from, Span::new(at.source, import.range()))?;
                for alias in &import.names {
                    let span = Span::new(at.source, alias.name.range());
                    let name = alias.name.as_str();
                    let Ok(value) = self.module_attribute(module, name, span) else {
                        let message = format!("cannot import name '{name}' from '{from}'");
                        let hint = hint::did_you_mean(name, self.attribute_names(module), "");
                        return Err(Diag::error(Code::ImportNotFound, span, message)
                            .hint(hint)
                            .into());
                    };
                    let bound = alias.asname.as_ref().unwrap_or(&alias.name);
                    self.bind_name(at.scope, bound.as_str(), value);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn module(&mut self, name: &str, span: Span) -> Res<Module> {
        let Some(module) = Module::find(name) else {
            let message = format!("ModuleNotFoundError: No module named '{name}'");
            let known = ["px", "pxtrace", "pxconfig", "pxviews"];
            let others = "there are px, pxtrace, pxconfig, pxviews";
            let hint = super::pandas::of_python(name)
                .map_or_else(|| hint::did_you_mean(name, known, others), str::to_string);
            return Err(Diag::error(Code::ModuleNotFound, span, message).hint(hint).into());
        };
        if module == Module::PxViews && self.views_scope.is_none() {
            self.load_views(span)?;
        }
        Ok(module)
    }

    /// Evaluates the bundled views' text once, in a scope of its own.
    fn load_views(&mut self, span: Span) -> Res<()> {
        let Some((_, body)) = self.views else {
            let message = "not yet: the module 'pxviews' is not available".to_string();
            return fail(Code::NotYet, span, message);
        };
        self.scopes.push(Scope::default());
        let scope = self.scopes.len() - 1;
        self.views_scope = Some(scope);
        self.block(body, At { scope, source: SourceId::Views });
        Ok(())
    }

    pub(crate) fn view(&self, name: &str) -> Option<Object<'a>> {
        self.scopes[self.views_scope?].vars.get(name).cloned()
    }

    pub(crate) fn view_names(&self) -> Vec<&str> {
        let Some(scope) = self.views_scope else { return Vec::new() };
        let mut names: Vec<&str> = self.scopes[scope].vars.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Keeps what a module, a function or the like is given as an attribute; false for other objects.
    pub(super) fn keep_attribute(
        &mut self,
        of: &Object<'a>,
        name: &str,
        value: impl FnOnce(&mut Self) -> Res<Object<'a>>,
    ) -> Res<bool> {
        let Some(owner) = owner_of(of) else { return Ok(false) };
        let value = value(self)?;
        self.attributes.insert((owner, name.to_string()), (of.clone(), value));
        Ok(true)
    }

    /// A literal value at a place, as an object.
    pub(crate) fn constant(&self, value: Value, span: Span) -> Object<'a> {
        Object::literal(value, span)
    }

    /// A text that stands in the script.
    pub(crate) fn text(&self, bytes: Vec<u8>, span: Span) -> Res<Object<'a>> {
        value_fits(bytes.len(), span)?;
        self.budget.folded(bytes.len());
        Ok(Object::literal(Value::String(bytes), span))
    }
}

/// Refuses constants that are too long to be handed on.
pub(crate) fn value_fits(bytes: usize, span: Span) -> Res<()> {
    if bytes <= VALUE_BYTES_MAX {
        return Ok(());
    }
    let message = format!("a constant text of {bytes} bytes; the limit is {VALUE_BYTES_MAX}");
    let hint = "a text that is joined with itself doubles each time";
    Err(Diag::error(Code::ValueTooLarge, span, message).hint(hint).into())
}
