//! Where rows come from: `px.DataFrame(...)` and table functions.

use weir_types::Value;

use super::args::{Arg, CallArgs};
use super::eval::Evaluator;
use super::{Frame, Object, time};
use crate::codes::Code;
use crate::diag::{Diag, Res, Span, Stop};
use crate::hint;
use crate::ir::{IrKind, NameAt};
use crate::registry;

impl<'a> Evaluator<'a> {
    /// `px.DataFrame(table, select=[], start_time=None, end_time=None)`
    pub(crate) fn data_frame(&mut self, args: CallArgs<'a>) -> Res<Object<'a>> {
        let span = args.span;
        let slots = args.bind("DataFrame", &["table", "select", "start_time", "end_time"], 1)?;
        let [Some(table), select, start, end] =
            <[Option<Arg<'a>>; 4]>::try_from(slots).unwrap_or([const { None }; 4])
        else {
            return Err(Stop::Poisoned);
        };
        let name = table.name("DataFrame", "table")?;
        if let Some(view) = self.named_view(&name) {
            return self.named_frame(view, span, select, [&start, &end]);
        }
        self.check_table(&name, table.span)?;
        let point = |arg: &Option<Arg<'a>>, name: &str| {
            arg.as_ref().map(|arg| time::point(arg, "DataFrame", name)).transpose()
        };
        let start_point = point(&start, "start_time")?;
        let (window, empty) = time::window(start_point, point(&end, "end_time")?);
        if empty {
            let at = start.as_ref().map_or(span, |arg| arg.span);
            let message = "the window begins in the future and holds no rows";
            let hint = "the sign is explicit: write '-5m' for the last five minutes";
            self.findings.push(Diag::warning(Code::StartInFuture, at, message).hint(hint));
        }
        let window_text = time::start_text(start_point, start.as_ref());
        let table = NameAt { name, span: table.span };
        let kind = IrKind::Source { table, window_text, window, empty };
        let op = self.graph.add(kind, Vec::new(), span)?;
        let op = self.selected(op, select, span)?;
        Ok(Object::Frame(Frame { op }))
    }

    fn check_table(&self, name: &str, span: Span) -> Res<()> {
        let views = self.named.iter().map(|view| view.name);
        let declared = self.settings.tables.iter().map(|(name, _)| name.as_str()).chain(views);
        if weir_types::tables::find(name).is_some() || declared.clone().any(|have| have == name) {
            return Ok(());
        }
        let known = weir_types::tables::TABLES.iter().map(|table| table.name).chain(declared);
        let hint = hint::did_you_mean(name, known, "`weir schema` lists the tables");
        Err(Diag::error(Code::TableNotFound, span, format!("Table '{name}' not found."))
            .label("no such table")
            .hint(hint)
            .into())
    }

    /// `px.GetTables()` and the like: literal arguments by position or name, with defaults.
    pub(crate) fn table_function(
        &mut self,
        name: &'static str,
        args: CallArgs<'a>,
    ) -> Res<Object<'a>> {
        let span = args.span;
        let declared = registry::table_function_args(name);
        let names: Vec<&str> = declared.iter().map(|arg| arg.name).collect();
        let required = declared.iter().take_while(|arg| arg.default.is_none()).count();
        let slots = args.bind(name, &names, required)?;
        let mut values: Vec<(String, Value)> = Vec::new();
        for (slot, declared) in slots.into_iter().zip(&declared) {
            let value = match (slot, &declared.default) {
                (Some(arg), _) => arg.literal(name, declared.name, declared.data_type)?,
                (None, Some(default)) => default.clone(),
                (None, None) => declared.data_type.zero(),
            };
            values.push((declared.name.to_string(), value));
        }
        let kind = IrKind::TableFunction { name: name.to_string(), args: values };
        let op = self.graph.add(kind, Vec::new(), span)?;
        Ok(Object::Frame(Frame { op }))
    }
}
