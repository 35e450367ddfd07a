//! `px.otel`: what rows of a frame become when they are exported. Arguments are checked here, types
//! of columns in `passes::exports_typed`, when the frame's columns are known.

use std::rc::Rc;

use weir_types::{DataType, Value};

use super::args::{Arg, CallArgs};
use super::eval::Evaluator;
use super::frame::frame_of;
use super::{Module, Object};
use crate::codes::Code;
use crate::diag::{Diag, Res, Span, Stop, fail};
use crate::export::{ExportSpec, OtelAttribute, OtelData, OtelEndpoint, OtelValue, SpanKind};
use crate::ir::{ExportIr, IrKind, NameAt, Need, SymKind};
use crate::limits::{DECLARATIONS_MAX, EXPORT_ITEMS_MAX};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OtelFunction {
    Data,
    Endpoint,
    Gauge,
    Summary,
    Span,
}

const FUNCTIONS: [(Module, &str, OtelFunction); 5] = [
    (Module::PxOtel, "Data", OtelFunction::Data),
    (Module::PxOtel, "Endpoint", OtelFunction::Endpoint),
    (Module::PxOtelMetric, "Gauge", OtelFunction::Gauge),
    (Module::PxOtelMetric, "Summary", OtelFunction::Summary),
    (Module::PxOtelTrace, "Span", OtelFunction::Span),
];

/// What the functions give.
#[derive(Clone, Debug)]
pub(crate) enum OtelObject {
    /// The specification without an endpoint: that of the request.
    Data {
        resource: Vec<OtelAttribute>,
        data: Vec<OtelData>,
        endpoint: Option<OtelEndpoint>,
        needs: Vec<Need>,
    },
    Endpoint(OtelEndpoint),
    Metric(OtelData, Vec<Need>),
}

/// Names of a module of `px.otel`.
pub(crate) fn names(module: Module) -> Vec<&'static str> {
    let functions = FUNCTIONS.iter().filter(|(have, ..)| *have == module).map(|(_, name, _)| *name);
    let others: &[&str] = match module {
        Module::PxOtel => &["metric", "trace"],
        Module::PxOtelTrace => &SpanKind::ALL.map(|(name, _)| name),
        _ => &[],
    };
    functions.chain(others.iter().copied()).collect()
}

pub(crate) fn attribute<'a>(module: Module, name: &str, span: Span) -> Option<Object<'a>> {
    let kinds = SpanKind::ALL.iter().zip(0_i64..);
    let kind = kinds.filter(|_| module == Module::PxOtelTrace).find(|((have, _), _)| *have == name);
    match (module, name, kind) {
        (_, _, Some((_, number))) => Some(Object::literal(Value::Int64(number), span)),
        (Module::PxOtel, "metric", _) => Some(Object::Module(Module::PxOtelMetric)),
        (Module::PxOtel, "trace", _) => Some(Object::Module(Module::PxOtelTrace)),
        _ => FUNCTIONS
            .iter()
            .find(|(have, called, _)| *have == module && *called == name)
            .map(|(_, _, function)| Object::OtelFunction(*function)),
    }
}

const ANY: &[DataType] = &[DataType::String, DataType::Int64, DataType::Float64, DataType::Boolean];
const TEXT: &[DataType] = &[DataType::String];
const TIME: &[DataType] = &[DataType::Time64Ns];
const INT: &[DataType] = &[DataType::Int64];
const FLOAT: &[DataType] = &[DataType::Float64];
const NUMBER: &[DataType] = &[DataType::Int64, DataType::Float64];

impl<'a> Evaluator<'a> {
    /// `px.export(out, spec)`
    pub(crate) fn export(&mut self, args: CallArgs<'a>) -> Res<Object<'a>> {
        let span = args.span;
        let [Some(out), Some(spec)] = slots(args, "export", ["out", "spec"], 2)? else {
            return Err(Stop::Poisoned);
        };
        let frame = frame_of(&out, "export", "out")?;
        let OtelObject::Data { resource, data, endpoint, needs } = otel_of(&spec, "px.otel.Data")?
        else {
            return wrong(&spec, "export(): 'spec' must be a px.otel.Data");
        };
        let Some(endpoint) = endpoint.clone().or_else(|| self.settings.otel_endpoint.clone())
        else {
            let message = "no default config found for endpoint";
            let hint = "give px.otel.Data an `endpoint=px.otel.Endpoint(url=...)`";
            return Err(Diag::error(Code::NoRequestConfig, spec.span, message).hint(hint).into());
        };
        let mut columns: Vec<NameAt> = Vec::new();
        for need in needs {
            if !columns.iter().any(|have| have.name == need.column.name) {
                columns.push(need.column.clone());
            }
        }
        if columns.is_empty() {
            return wrong(&spec, "export(): the specification names no column");
        }
        declarations_fit(self.graph.exports.len(), "exports", span)?;
        let op = self.graph.add(IrKind::Select(columns), vec![frame.op], span)?;
        // About what a copy takes.
        self.budget.folded(64 * needs.len() + 256 * data.len());
        let spec = ExportSpec { endpoint, resource: resource.clone(), data: data.clone() };
        self.graph.exports.push(ExportIr { op, spec, needs: needs.clone(), span });
        Ok(Object::None)
    }

    pub(crate) fn call_otel(
        &mut self,
        function: OtelFunction,
        args: CallArgs<'a>,
    ) -> Res<Object<'a>> {
        let made = match function {
            OtelFunction::Data => data(args)?,
            OtelFunction::Endpoint => endpoint(args)?,
            OtelFunction::Gauge => gauge(args)?,
            OtelFunction::Summary => summary(args)?,
            OtelFunction::Span => trace_span(args)?,
        };
        Ok(Object::Otel(Rc::new(made)))
    }
}

/// Refuses another of what a script declares.
pub(crate) fn declarations_fit(have: usize, what: &str, span: Span) -> Res<()> {
    if have < DECLARATIONS_MAX {
        return Ok(());
    }
    fail(Code::TooComplex, span, format!("the script declares more than {DECLARATIONS_MAX} {what}"))
}

/// `px.otel.Data(resource, data, endpoint=None)`
fn data(args: CallArgs<'_>) -> Res<OtelObject> {
    const FUNC: &str = "px.otel.Data";
    let [Some(resource_arg), Some(list), endpoint] =
        slots(args, FUNC, ["resource", "data", "endpoint"], 2)?
    else {
        return Err(Stop::Poisoned);
    };
    let mut needs = Vec::new();
    let resource = attributes(Some(&resource_arg), FUNC, TEXT, &mut needs)?;
    if !resource.iter().any(|attribute| attribute.name == "service.name") {
        let message = "'service.name' must be specified in resource";
        let hint = "`resource={'service.name': df.service}`";
        return Err(Diag::error(Code::Otel, resource_arg.span, message).hint(hint).into());
    }
    let items = match &list.value {
        Object::List(items) | Object::Tuple(items) if !items.is_empty() => items.clone(),
        Object::Poison => return Err(Stop::Poisoned),
        _ => return wrong(&list, "px.otel.Data(): 'data' must be a list of metrics and spans"),
    };
    if items.len() > EXPORT_ITEMS_MAX {
        let message = format!("px.otel.Data(): more than {EXPORT_ITEMS_MAX} metrics and spans");
        return fail(Code::TooComplex, list.span, message);
    }
    let mut all = Vec::new();
    for item in items.iter() {
        let item = Arg { value: item.clone(), span: list.span };
        let OtelObject::Metric(metric, more) = otel_of(&item, "px.otel.metric or px.otel.trace")?
        else {
            return wrong(&item, "px.otel.Data(): 'data' must be a list of metrics and spans");
        };
        all.push(metric.clone());
        needs.extend(more.iter().cloned());
    }
    let endpoint = match &endpoint {
        None => None,
        Some(arg) => match otel_of(arg, "px.otel.Endpoint")? {
            OtelObject::Endpoint(endpoint) => Some(endpoint.clone()),
            _ => return wrong(arg, "px.otel.Data(): 'endpoint' must be a px.otel.Endpoint"),
        },
    };
    Ok(OtelObject::Data { resource, data: all, endpoint, needs })
}

/// `px.otel.Endpoint(url, headers={}, insecure=False, timeout=5)`
fn endpoint(args: CallArgs<'_>) -> Res<OtelObject> {
    const FUNC: &str = "px.otel.Endpoint";
    let [Some(url_arg), headers_arg, insecure, timeout] =
        slots(args, FUNC, ["url", "headers", "insecure", "timeout"], 1)?
    else {
        return Err(Stop::Poisoned);
    };
    let mut headers = Vec::new();
    for (key, value) in pairs(headers_arg.as_ref(), FUNC, "headers")? {
        headers.push((key.text(FUNC, "headers")?, value.text(FUNC, "headers")?));
    }
    let insecure = match &insecure {
        None => false,
        Some(arg) => {
            matches!(arg.literal(FUNC, "insecure", DataType::Boolean)?, Value::Boolean(true))
        }
    };
    let timeout_s = timeout.as_ref().map_or(Ok(5), |arg| arg.int(FUNC, "timeout"))?;
    if let Some(arg) = timeout.filter(|_| timeout_s <= 0) {
        return wrong(&arg, "px.otel.Endpoint(): 'timeout' must be a positive number of seconds");
    }
    let url = url_arg.text(FUNC, "url")?;
    if url.is_empty() {
        return wrong(&url_arg, "px.otel.Endpoint(): 'url' must not be empty");
    }
    Ok(OtelObject::Endpoint(OtelEndpoint { url, headers, insecure, timeout_s }))
}

/// `px.otel.metric.Gauge(name, value, description='', attributes={}, unit=None)`
fn gauge(args: CallArgs<'_>) -> Res<OtelObject> {
    const FUNC: &str = "px.otel.metric.Gauge";
    let mut needs = vec![time_of(args.span, FUNC)];
    let names = ["name", "value", "description", "attributes", "unit"];
    let [Some(name), Some(value), description, attributes_arg, unit] = slots(args, FUNC, names, 2)?
    else {
        return Err(Stop::Poisoned);
    };
    let metric = OtelData::Gauge {
        name: metric_name(&name, FUNC)?,
        description: optional_text(description.as_ref(), FUNC, "description")?,
        unit: unit.map(|arg| arg.text(FUNC, "unit")).transpose()?,
        value: column(&value, FUNC, "value", NUMBER, &mut needs)?,
        attributes: attributes(attributes_arg.as_ref(), FUNC, ANY, &mut needs)?,
    };
    Ok(OtelObject::Metric(metric, needs))
}

/// `px.otel.metric.Summary(name, count, sum, quantile_values, description, attributes, unit)`
fn summary(args: CallArgs<'_>) -> Res<OtelObject> {
    const FUNC: &str = "px.otel.metric.Summary";
    let mut needs = vec![time_of(args.span, FUNC)];
    let names = ["name", "count", "sum", "quantile_values", "description", "attributes", "unit"];
    let [Some(name), Some(count), Some(sum), Some(values), description, attributes_arg, unit] =
        slots(args, FUNC, names, 4)?
    else {
        return Err(Stop::Poisoned);
    };
    let name = metric_name(&name, FUNC)?;
    let count = column(&count, FUNC, "count", INT, &mut needs)?;
    let sum = column(&sum, FUNC, "sum", FLOAT, &mut needs)?;
    let mut quantiles = Vec::new();
    for (key, value) in pairs(Some(&values), FUNC, "quantile_values")? {
        let quantile = match key.literal(FUNC, "quantile_values", DataType::Float64)? {
            Value::Float64(quantile) if (0.0..=1.0).contains(&quantile) => quantile,
            _ => return wrong(&key, "px.otel.metric.Summary(): quantiles are between 0.0 and 1.0"),
        };
        let column = column(&value, FUNC, "quantile_values", FLOAT, &mut needs)?;
        quantiles.push((quantile, column));
    }
    if quantiles.is_empty() {
        return wrong(&values, "px.otel.metric.Summary(): 'quantile_values' must not be empty");
    }
    let metric = OtelData::Summary {
        name,
        description: optional_text(description.as_ref(), FUNC, "description")?,
        unit: unit.map(|arg| arg.text(FUNC, "unit")).transpose()?,
        count,
        sum,
        quantiles,
        attributes: attributes(attributes_arg.as_ref(), FUNC, ANY, &mut needs)?,
    };
    Ok(OtelObject::Metric(metric, needs))
}

/// `px.otel.trace.Span(name, start_time, end_time, trace_id, span_id, parent_span_id, attributes,
/// kind)`
fn trace_span(args: CallArgs<'_>) -> Res<OtelObject> {
    const FUNC: &str = "px.otel.trace.Span";
    let names = [
        "name",
        "start_time",
        "end_time",
        "trace_id",
        "span_id",
        "parent_span_id",
        "attributes",
        "kind",
    ];
    let [Some(name), Some(start), Some(end), trace_id, span_id, parent, attributes_arg, kind] =
        slots(args, FUNC, names, 3)?
    else {
        return Err(Stop::Poisoned);
    };
    let mut needs = Vec::new();
    let id = |arg: &Option<Arg<'_>>, what: &str, needs: &mut Vec<Need>| {
        arg.as_ref().map(|arg| column(arg, FUNC, what, TEXT, needs)).transpose()
    };
    let number = kind.as_ref().map_or(Ok(2), |arg| arg.int(FUNC, "kind"))?;
    let found = usize::try_from(number).ok().and_then(|number| SpanKind::ALL.get(number));
    let Some((_, kind)) = found else {
        let at = kind.as_ref().map_or(Span::NONE, |arg| arg.span);
        let hint = "use a constant: `px.otel.trace.SPAN_KIND_CLIENT`";
        let message = format!("{FUNC}(): {number} is not a kind of span");
        return Err(Diag::error(Code::Otel, at, message).hint(hint).into());
    };
    let span = OtelData::Span {
        name: value_of(&name, FUNC, "name", TEXT, &mut needs)?,
        start_time: column(&start, FUNC, "start_time", TIME, &mut needs)?,
        end_time: column(&end, FUNC, "end_time", TIME, &mut needs)?,
        trace_id: id(&trace_id, "trace_id", &mut needs)?,
        span_id: id(&span_id, "span_id", &mut needs)?,
        parent_span_id: id(&parent, "parent_span_id", &mut needs)?,
        kind: *kind,
        attributes: attributes(attributes_arg.as_ref(), FUNC, ANY, &mut needs)?,
    };
    Ok(OtelObject::Metric(span, needs))
}

/// Binds and fixes the number of slots.
fn slots<'a, const N: usize>(
    args: CallArgs<'a>,
    func: &str,
    names: [&str; N],
    required: usize,
) -> Res<[Option<Arg<'a>>; N]> {
    args.bind(func, &names, required)?.try_into().map_err(|_| Stop::Poisoned)
}

fn wrong<T>(arg: &Arg<'_>, message: &str) -> Res<T> {
    match arg.value {
        Object::Poison => Err(Stop::Poisoned),
        _ => fail(Code::Otel, arg.span, message),
    }
}

fn otel_of<'o>(arg: &'o Arg<'_>, wanted: &str) -> Res<&'o OtelObject> {
    match &arg.value {
        Object::Otel(found) => Ok(found),
        other => {
            let kind = other.type_name();
            wrong(arg, &format!("Expected '{wanted}', received '{kind}'"))
        }
    }
}

fn pairs<'a>(arg: Option<&Arg<'a>>, func: &str, name: &str) -> Res<Vec<(Arg<'a>, Arg<'a>)>> {
    let Some(arg) = arg else { return Ok(Vec::new()) };
    let Object::Dict(entries) = &arg.value else {
        let kind = arg.value.type_name();
        return wrong(arg, &format!("{func}(): '{name}' must be a dictionary, not {kind}"));
    };
    if entries.len() > EXPORT_ITEMS_MAX {
        let message = format!("{func}(): '{name}' has more than {EXPORT_ITEMS_MAX} entries");
        return fail(Code::TooComplex, arg.span, message);
    }
    let at = |value: &Object<'a>| {
        let span = match value {
            Object::Expr(sym) => sym.span,
            _ => arg.span,
        };
        Arg { value: value.clone(), span }
    };
    Ok(entries.iter().map(|(key, value)| (at(key), at(value))).collect())
}

fn optional_text(arg: Option<&Arg<'_>>, func: &str, name: &str) -> Res<String> {
    arg.map_or(Ok(String::new()), |arg| arg.text(func, name))
}

/// A column, which must have one of these types.
fn column(
    arg: &Arg<'_>,
    func: &str,
    name: &str,
    types: &'static [DataType],
    needs: &mut Vec<Need>,
) -> Res<String> {
    let found = match &arg.value {
        Object::Expr(sym) => match &sym.kind {
            SymKind::Column { name, .. } => Some(NameAt { name: name.clone(), span: sym.span }),
            SymKind::Poison => return Err(Stop::Poisoned),
            _ => None,
        },
        _ => None,
    };
    let Some(column) = found else {
        let kind = arg.value.type_name();
        return wrong(arg, &format!("{func}(): '{name}' must be a column, not {kind}"));
    };
    let what = format!("{func}(): '{name}'");
    needs.push(Need { column: column.clone(), types, what });
    Ok(column.name)
}

/// A string literal or a column.
fn value_of(
    arg: &Arg<'_>,
    func: &str,
    name: &str,
    types: &'static [DataType],
    needs: &mut Vec<Need>,
) -> Res<OtelValue> {
    match &arg.value {
        Object::Expr(sym) if sym.as_text().is_some() => {
            Ok(OtelValue::Literal(arg.text(func, name)?))
        }
        Object::Expr(sym) if sym.as_literal().is_some() => {
            let message = format!("{func}(): '{name}' takes string literals and columns only");
            wrong(arg, &message)
        }
        _ => {
            let name = column(arg, func, name, types, needs)?;
            Ok(OtelValue::Column { name, json_array: false })
        }
    }
}

fn attributes(
    arg: Option<&Arg<'_>>,
    func: &str,
    types: &'static [DataType],
    needs: &mut Vec<Need>,
) -> Res<Vec<OtelAttribute>> {
    let what = if func == "px.otel.Data" { "resource" } else { "attributes" };
    let mut all: Vec<OtelAttribute> = Vec::new();
    for (key, value) in pairs(arg, func, what)? {
        let name = key.text(func, what)?;
        if all.iter().any(|have| have.name == name) {
            return wrong(&key, &format!("{func}(): '{name}' is given twice in '{what}'"));
        }
        all.push(OtelAttribute { name, value: value_of(&value, func, what, types, needs)? });
    }
    Ok(all)
}

fn time_of(span: Span, func: &str) -> Need {
    let column = NameAt { name: "time_".to_string(), span };
    Need { column, types: TIME, what: format!("{func}(): the frame's time_") }
}

/// `[A-Za-z][A-Za-z0-9_.-]*`
fn metric_name(arg: &Arg<'_>, func: &str) -> Res<String> {
    let name = arg.text(func, "name")?;
    let fits = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if fits {
        return Ok(name);
    }
    let message = format!("{func}(): '{name}' is not a valid metric name");
    let hint = "a letter first, then letters, digits, `_`, `.` and `-`";
    Err(Diag::error(Code::Otel, arg.span, message).hint(hint).into())
}
