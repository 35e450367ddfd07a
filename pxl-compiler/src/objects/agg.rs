//! `df.agg(out=('column', px.function), …)`, with or without groups.

use std::collections::HashSet;

use super::args::{Arg, CallArgs, name_fits};
use super::eval::Evaluator;
use super::{Frame, Object};
use crate::codes::Code;
use crate::diag::{Diag, Res, Stop, fail};
use crate::ir::{AggOut, IrKind, NameAt};
use crate::limits::FRAME_COLUMNS_MAX;
use crate::registry;

const FORM_HINT: &str = "write `out_column=('in_column', px.count)`";

impl<'a> Evaluator<'a> {
    pub(crate) fn aggregate(
        &mut self,
        frame: Frame,
        by: Option<&[NameAt]>,
        args: CallArgs<'a>,
    ) -> Res<Object<'a>> {
        if let Some(first) = args.positional.first() {
            let message = "agg() takes keyword arguments only".to_string();
            return Err(Diag::error(Code::AggregateForm, first.span, message)
                .hint(FORM_HINT)
                .into());
        }
        let group: Vec<NameAt> = by.unwrap_or_default().to_vec();
        if group.is_empty() && args.keywords.is_empty() {
            let message = "agg() without groups needs at least one aggregate".to_string();
            return Err(Diag::error(Code::AggregateForm, args.span, message)
                .hint(FORM_HINT)
                .into());
        }
        if group.len() + args.keywords.len() > FRAME_COLUMNS_MAX {
            let message = format!("a frame has at most {FRAME_COLUMNS_MAX} columns");
            return fail(Code::ColumnsMax, args.span, message);
        }
        let mut outs: Vec<AggOut> = Vec::new();
        let mut failed = false;
        let mut taken: HashSet<&str> = group.iter().map(|name| name.name.as_str()).collect();
        for (out, arg) in &args.keywords {
            name_fits(&out.name, out.span)?;
            if !taken.insert(&out.name) {
                let message = format!("agg(): output '{}' is already a column", out.name);
                return fail(Code::AggregateForm, out.span, message);
            }
            match aggregate_out(out, arg) {
                Ok(out) => outs.push(out),
                Err(stop) => {
                    self.findings.stop(stop);
                    failed = true;
                }
            }
        }
        if failed {
            return Err(Stop::Poisoned);
        }
        let kind = IrKind::Aggregate { group, outs };
        let op = self.graph.add(kind, vec![frame.op], args.span)?;
        Ok(Object::Frame(Frame { op }))
    }
}

fn aggregate_out(out: &NameAt, arg: &Arg<'_>) -> Res<AggOut> {
    let items = match &arg.value {
        Object::Tuple(items) => items,
        Object::Poison => return Err(Stop::Poisoned),
        other => {
            let kind = other.type_name();
            let message = format!("Expected tuple for {} but received {kind}", out.name);
            return Err(Diag::error(Code::AggregateForm, arg.span, message).hint(FORM_HINT).into());
        }
    };
    let form = |message: String| -> Stop {
        Diag::error(Code::AggregateForm, arg.span, message).hint(FORM_HINT).into()
    };
    let Some((last, columns)) = items.split_last() else {
        return Err(form(format!("Expected tuple for {} with a column and a function", out.name)));
    };
    if columns.is_empty() {
        return Err(form(format!("Expected tuple for {} with a column and a function", out.name)));
    }
    let func = match last {
        Object::Registry(name)
            if registry::kind_of(name) == Some(registry::FunctionKind::Aggregate) =>
        {
            *name
        }
        Object::Registry(name) => {
            return Err(form(format!("{name} is an invalid aggregate value")));
        }
        Object::Poison => return Err(Stop::Poisoned),
        _ => return Err(form("Expected second tuple argument to be type Func".to_string())),
    };
    let columns: Res<Vec<NameAt>> = columns
        .iter()
        .map(|column| match column {
            Object::Expr(sym) => match sym.as_text() {
                Some(name) => Ok(NameAt { name: name.to_string(), span: sym.span }),
                None => Err(form(
                    "all elements of the agg tuple must be column names, except the last"
                        .to_string(),
                )),
            },
            Object::Poison => Err(Stop::Poisoned),
            _ => Err(form(
                "all elements of the agg tuple must be column names, except the last".to_string(),
            )),
        })
        .collect();
    let func = NameAt { name: func.to_string(), span: arg.span };
    Ok(AggOut { out: out.clone(), columns: columns?, func })
}
