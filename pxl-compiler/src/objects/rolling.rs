//! `df.rolling(window)`: the aggregate that follows is over the trailing window, at every refresh. A
//! window of a table's rows slides already, so this narrows the scan below; nothing else is needed.

use weir_types::DataType;
use weir_types::plan::{EndBound, StartBound};

use super::args::CallArgs;
use super::eval::Evaluator;
use super::{Frame, Object, time};
use crate::codes::Code;
use crate::diag::{Diag, Res, Span, Stop, fail};
use crate::ir::{IrId, IrKind, IrOp};

impl<'a> Evaluator<'a> {
    /// `df.rolling(window, on='time_')`; the frame over the trailing window.
    pub(crate) fn rolling(&mut self, frame: Frame, args: CallArgs<'a>) -> Res<Frame> {
        let span = args.span;
        let slots = args.bind("rolling", &["window", "on"], 1)?;
        if let Some(on) = &slots[1]
            && on.text("rolling", "on")? != "time_"
        {
            let message = "Windowing is only supported on time_ at the moment";
            return fail(Code::ArgumentValue, on.span, message);
        }
        let Some(window) = &slots[0] else { return Err(Stop::Poisoned) };
        let is_text = matches!(&window.value, Object::Expr(sym)
            if sym.as_literal().is_some_and(|value| value.data_type() == DataType::String));
        let window_ns = match is_text {
            true => {
                let text = window.text("rolling", "window")?;
                time::parse_duration(&text).ok_or_else(|| time::bad_time(window.span, &text))?
            }
            false => window.int("rolling", "window")?,
        };
        if window_ns <= 0 {
            let message = "rolling(): 'window' must be longer than nothing";
            return fail(Code::ArgumentValue, window.span, message);
        }
        let op = self.narrowed(frame.op, window_ns, span)?;
        Ok(Frame { op })
    }

    /// A copy of the row-wise path down to its table, with a shorter window.
    fn narrowed(&mut self, op: IrId, window_ns: i64, span: Span) -> Res<IrId> {
        let not_yet = |what: &str| -> Stop {
            let message = format!("not yet: Rolling operator not yet implemented {what}");
            let hint = "call it on a table's rows, or group by `px.bin(df.time_, px.seconds(10))`";
            Diag::error(Code::NotYet, span, message).hint(hint).into()
        };
        let mut path: Vec<IrOp> = Vec::new();
        let mut at = op;
        let mut source = loop {
            let op = self.graph.ops[at].clone();
            match &op.kind {
                IrKind::Source { .. } => break op,
                IrKind::Assign { name, .. } if name.name == "time_" => {
                    return Err(not_yet("where time_ was assigned"));
                }
                IrKind::Filter(_) | IrKind::Assign { .. } | IrKind::Select(_) | IrKind::Drop(_) => {
                    at = op.inputs[0];
                    path.push(op);
                }
                _ => return Err(not_yet("behind aggregates, merges, appends and heads")),
            }
        };
        if let IrKind::Source { window, window_text, .. } = &mut source.kind {
            let narrower = match (window.start, window.end) {
                (StartBound::Beginning, EndBound::Now) => Some(window_ns),
                (StartBound::Relative { window_ns: have }, EndBound::Now) => {
                    Some(have.min(window_ns))
                }
                _ => None,
            };
            let Some(window_ns) = narrower else {
                return Err(not_yet("over a window with absolute times"));
            };
            if window.start != (StartBound::Relative { window_ns }) {
                window.start = StartBound::Relative { window_ns };
                *window_text = time::exact_duration(window_ns.saturating_neg());
            }
        }
        let mut id = self.graph.add(source.kind, Vec::new(), source.span)?;
        while let Some(op) = path.pop() {
            id = self.graph.add(op.kind, vec![id], op.span)?;
        }
        Ok(id)
    }
}
