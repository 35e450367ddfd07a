//! What a script's names can stand for while it is evaluated symbolically: frames are positions in
//! the operator graph, row expressions are trees over column names, everything else is known.

pub(crate) mod agg;
pub(crate) mod args;
mod assign;
pub(crate) mod call;
pub(crate) mod eval;
pub(crate) mod exec;
pub(crate) mod expr;
pub(crate) mod fold;
pub(crate) mod frame;
pub(crate) mod merge;
pub(crate) mod named;
pub(crate) mod otel;
pub(crate) mod pandas;
pub(crate) mod px;
pub(crate) mod rolling;
pub(crate) mod script_reference;
pub(crate) mod source;
pub(crate) mod strptime;
pub(crate) mod time;
pub(crate) mod trace;
pub(crate) mod types;

use std::rc::Rc;

use ruff_python_ast::StmtFunctionDef;
use weir_types::{DataType, Value};

use crate::codes::Code;
use crate::diag::{Res, SourceId, Span, fail};
use crate::ir::{IrId, NameAt, SymKind, SymRef};
use crate::limits::OBJECT_DEPTH_MAX;
use types::TypeObject;

/// Position of a scope in the evaluator's arena: an arena, so that functions can refer to the scope
/// they were defined in without reference cycles.
pub(crate) type ScopeId = usize;

/// A frame: the operator whose rows it holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) op: IrId,
}

#[derive(Clone, Debug)]
pub(crate) struct UserFunction<'a> {
    pub(crate) def: &'a StmtFunctionDef,
    pub(crate) source: SourceId,
    pub(crate) scope: ScopeId,
    /// Types of the annotated parameters, evaluated where the function is defined.
    pub(crate) annotations: Vec<Option<TypeObject>>,
    /// The traced symbol, if it is decorated as a probe.
    pub(crate) probe: Option<String>,
}

/// What may stand behind an `@`, besides functions of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decorator {
    /// `px.vis.vega(spec)`: has no effect on rows.
    Vega,
    /// `pxtrace.probe(symbol)`
    Probe(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Module {
    Px,
    PxVis,
    PxPlugin,
    PxOtel,
    PxOtelMetric,
    PxOtelTrace,
    PxTrace,
    PxConfig,
    PxViews,
}

impl Module {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Module::Px => "px",
            Module::PxVis => "px.vis",
            Module::PxPlugin => "px.plugin",
            Module::PxOtel => "px.otel",
            Module::PxOtelMetric => "px.otel.metric",
            Module::PxOtelTrace => "px.otel.trace",
            Module::PxTrace => "pxtrace",
            Module::PxConfig => "pxconfig",
            Module::PxViews => "pxviews",
        }
    }

    pub(crate) fn find(name: &str) -> Option<Module> {
        [Module::Px, Module::PxTrace, Module::PxConfig, Module::PxViews]
            .into_iter()
            .find(|module| module.name() == name)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Merge,
    Agg,
    Map,
    Drop,
    Head,
    Filter,
    Groupby,
    Append,
    Rolling,
    Stream,
}

impl Method {
    const ALL: [(&'static str, Method); 10] = [
        ("merge", Method::Merge),
        ("agg", Method::Agg),
        ("map", Method::Map),
        ("drop", Method::Drop),
        ("head", Method::Head),
        ("filter", Method::Filter),
        ("groupby", Method::Groupby),
        ("append", Method::Append),
        ("rolling", Method::Rolling),
        ("stream", Method::Stream),
    ];
    pub(crate) fn find(name: &str) -> Option<Method> {
        Method::ALL.iter().find(|(have, _)| *have == name).map(|(_, method)| *method)
    }
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        Method::ALL.iter().map(|(name, _)| *name)
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Object<'a> {
    None,
    Expr(SymRef),
    Frame(Frame),
    /// `df.rolling(...)`: only `.agg` and `.groupby` may follow.
    Rolling(Frame),
    /// `df.groupby(...)`: only `.agg` and `.rolling` may follow.
    Grouped(Frame, Rc<[NameAt]>),
    /// `df.groupby(...).agg`, not called yet; with no groups that of `df.rolling(...)`.
    GroupedAgg(Frame, Rc<[NameAt]>),
    /// `df.groupby(...).rolling`, not called yet.
    GroupedRolling(Frame, Rc<[NameAt]>),
    /// `df.rolling(...).groupby`, not called yet.
    RollingGroupby(Frame),
    /// `df.ctx`
    Ctx,
    List(Rc<Items<Object<'a>>>),
    Tuple(Rc<Items<Object<'a>>>),
    Dict(Rc<Items<(Object<'a>, Object<'a>)>>),
    Type(TypeObject),
    Function(Rc<UserFunction<'a>>),
    /// A compile-time function of `px`.
    Px(px::PxFunction),
    /// A function of the registry: scalar, aggregate or table function.
    Registry(&'static str),
    Method(Frame, Method),
    Module(Module),
    Otel(Rc<otel::OtelObject>),
    OtelFunction(otel::OtelFunction),
    Decorator(Rc<Decorator>),
    Trace(trace::TraceFunction),
    TraceValue(Rc<trace::TraceValue>),
    /// Something failed here and was reported; what uses it stays silent.
    Poison,
}

/// The elements of a list, a tuple or a dictionary.
#[derive(Debug)]
pub(crate) struct Items<T> {
    items: Box<[T]>,
    /// How many lists stand within each other here.
    depth: usize,
}

impl<T> Items<T> {
    /// `depth`: that of the deepest element.
    pub(crate) fn new(items: Vec<T>, depth: usize, span: Span) -> Res<Rc<Items<T>>> {
        if depth >= OBJECT_DEPTH_MAX {
            let message =
                format!("lists and the like are nested more than {OBJECT_DEPTH_MAX} levels deep");
            return fail(Code::TooDeep, span, message);
        }
        Ok(Rc::new(Items { items: items.into(), depth: depth + 1 }))
    }
}

impl<T> std::ops::Deref for Items<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<'a> Object<'a> {
    /// How many lists stand within each other in it.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Object::List(items) | Object::Tuple(items) => items.depth,
            Object::Dict(items) => items.depth,
            _ => 0,
        }
    }

    pub(crate) fn literal(value: Value, span: Span) -> Object<'a> {
        Object::Expr(crate::ir::Sym::literal(value, span))
    }

    /// The type's name as messages use it.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Object::None => "None",
            Object::Expr(sym) => match &sym.kind {
                SymKind::Literal(value) => literal_name(value.data_type()),
                SymKind::Column { .. } => "Column",
                SymKind::Metadata { .. } => "Metadata",
                SymKind::Now(_) | SymKind::Call { .. } | SymKind::Poison => "Expression",
            },
            Object::Frame(_) => "DataFrame",
            Object::Grouped(..) => "GroupBy",
            Object::Rolling(_) => "Rolling",
            Object::Ctx => "ctx",
            Object::List(_) => "List",
            Object::Tuple(_) => "Tuple",
            Object::Dict(_) => "Dict",
            Object::Type(_) => "Type",
            Object::Function(_)
            | Object::Px(_)
            | Object::Registry(_)
            | Object::Method(..)
            | Object::GroupedAgg(..)
            | Object::GroupedRolling(..)
            | Object::RollingGroupby(_)
            | Object::OtelFunction(_)
            | Object::Trace(_) => "Func",
            Object::Module(_) => "Module",
            Object::Otel(_) => "OTel",
            Object::Decorator(_) => "Decorator",
            Object::TraceValue(_) => "Trace",
            Object::Poison => "error",
        }
    }
}

fn literal_name(data_type: DataType) -> &'static str {
    match data_type {
        DataType::Boolean => "Bool",
        DataType::Int64 => "Int",
        DataType::Float64 => "Float",
        DataType::String => "String",
        DataType::Time64Ns => "Time",
        DataType::Uint128 => "UInt128",
    }
}
