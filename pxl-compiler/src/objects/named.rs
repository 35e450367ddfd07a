//! Named views: `px.DataFrame('NAME')` of what a recording rule displays. The view's script is evaluated in a
//! scope of its own, once a compile, and its one table, with the rule's labels as columns, is the frame; several of
//! one name are united: a text that one has not is empty in its rows. Equal sub-plans are shared later, as everywhere.
//! Which views there are, the caller of the compiler says.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ruff_python_ast::Suite;

use super::args::Arg;
use super::eval::{At, Evaluator, Scope};
use super::{Frame, Object};
use crate::codes::Code;
use crate::compile::NamedView;
use crate::diag::{Diag, Findings, Res, SourceId, Span, Stop, fail};
use crate::ir::{IrId, IrKind, NameAt};
use crate::syntax::literals;

/// Views that one script may read, those that its views read included.
pub(crate) const VIEWS_MAX: usize = 64;

/// A view that a script may read.
pub(crate) struct NamedBody<'a> {
    pub(crate) name: &'a str,
    pub(crate) text: &'a str,
    labels: &'a BTreeMap<String, String>,
    body: Suite,
}

/// Views by their names, to find those that texts read.
#[derive(Default)]
pub struct ViewIndex {
    views: Arc<[NamedView]>,
    /// Where those of a name stand, in order.
    by_name: HashMap<String, Vec<usize>>,
    /// There are names that are not one word.
    has_texts: bool,
}

fn is_in_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | ':')
}

impl ViewIndex {
    #[must_use]
    pub fn new(views: Arc<[NamedView]>) -> ViewIndex {
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (idx, view) in views.iter().enumerate() {
            by_name.entry(view.name.clone()).or_default().push(idx);
        }
        let has_texts = views.iter().any(|view| !view.name.chars().all(is_in_word));
        ViewIndex { views, by_name, has_texts }
    }

    /// All of them.
    #[must_use]
    pub fn views(&self) -> &Arc<[NamedView]> {
        &self.views
    }

    /// Those whose names occur in the text, or in that of one that does; one more than a script may read, if there are
    /// so many. Each text is gone through once, and no more of them than that.
    #[must_use]
    pub fn read_by(&self, text: &str) -> Vec<&NamedView> {
        let mut wanted: Vec<&NamedView> = Vec::new();
        let mut seen: HashSet<&str> = HashSet::new();
        let mut texts = vec![text];
        while let Some(text) = texts.pop().filter(|_| !self.by_name.is_empty()) {
            let mut take = |name: &str| {
                let Some((name, places)) = self.by_name.get_key_value(name) else { return };
                if seen.insert(name) {
                    let room = (VIEWS_MAX + 1).saturating_sub(wanted.len());
                    let views = places.iter().take(room).map(|place| &self.views[*place]);
                    texts.extend(views.clone().map(|view| view.text.as_str()));
                    wanted.extend(views);
                }
            };
            text.split(|c| !is_in_word(c)).for_each(&mut take);
            if self.has_texts {
                literals::texts_in(text).iter().for_each(|name| take(name));
            }
        }
        wanted
    }
}

/// The same, if it is not more than one script may read.
pub(crate) fn wanted<'a>(
    views: &'a ViewIndex,
    text: &str,
    findings: &Findings,
) -> Vec<&'a NamedView> {
    let wanted = views.read_by(text);
    if wanted.len() > VIEWS_MAX {
        let message = format!(
            "the script names more than {VIEWS_MAX} views, those that its views read included"
        );
        findings.push(Diag::error(Code::TooComplex, Span::NONE, message));
        return Vec::new();
    }
    wanted
}

pub(crate) fn parse<'a>(
    wanted: &[&'a NamedView],
    findings: &Findings,
) -> Option<Vec<NamedBody<'a>>> {
    let bodies = wanted.iter().enumerate().map(|(idx, view)| {
        let source = SourceId::Named(u8::try_from(idx).unwrap_or(u8::MAX));
        let body = crate::syntax::parse_module(&view.text, source, findings)?;
        Some(NamedBody { name: &view.name, text: &view.text, labels: &view.labels, body })
    });
    bodies.collect()
}

/// What has become of the views so far.
#[derive(Default)]
pub(crate) struct NamedState {
    /// By the numbers of the first of their names, once they are evaluated.
    frames: Vec<(usize, IrId)>,
    /// Being evaluated, the innermost last.
    open: Vec<usize>,
    /// What the innermost has displayed.
    pub(crate) displayed: Vec<IrId>,
}

impl NamedState {
    pub(crate) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }
}

impl<'a> Evaluator<'a> {
    /// The first view of that name, unless a table has it.
    pub(crate) fn named_view(&self, name: &str) -> Option<usize> {
        let is_table = weir_types::tables::find(name).is_some();
        self.named.iter().position(|view| view.name == name).filter(|_| !is_table)
    }

    /// `px.DataFrame('NAME')`: with `select`, but in the view's own window.
    pub(crate) fn named_frame(
        &mut self,
        idx: usize,
        span: Span,
        select: Option<Arg<'a>>,
        bounds: [&Option<Arg<'a>>; 2],
    ) -> Res<Object<'a>> {
        if let Some(bound) = bounds.into_iter().flatten().next() {
            let name = self.named[idx].name;
            let message = format!("DataFrame(): the view '{name}' has its own window");
            let hint = "change the window where the view is recorded";
            return Err(Diag::error(Code::ArgumentValue, bound.span, message).hint(hint).into());
        }
        let op = match self.named_state.frames.iter().find(|(have, _)| *have == idx) {
            Some((_, op)) => *op,
            None => self.united(idx, span)?,
        };
        let op = self.selected(op, select, span)?;
        Ok(Object::Frame(Frame { op }))
    }

    /// The rows of all views of the name.
    fn united(&mut self, first: usize, span: Span) -> Res<IrId> {
        let named = self.named;
        let mut parts = Vec::new();
        for idx in (first..named.len()).filter(|idx| named[*idx].name == named[first].name) {
            let op = self.evaluated(idx, span)?;
            parts.push(self.labelled(op, named[idx].labels, span)?);
        }
        let op = match parts.as_slice() {
            [op] => *op,
            _ => {
                // Typing looks at the columns of each.
                self.budget.spend(50 * parts.len());
                self.graph.add(IrKind::Unite, parts, span)?
            }
        };
        self.named_state.frames.push((first, op));
        Ok(op)
    }

    fn labelled(&mut self, op: IrId, labels: &BTreeMap<String, String>, span: Span) -> Res<IrId> {
        let mut op = op;
        for (name, text) in labels {
            super::args::name_fits(name, span)?;
            let Object::Expr(expr) = self.text(text.clone().into_bytes(), span)? else {
                return Err(Stop::Poisoned);
            };
            let name = NameAt { name: name.clone(), span };
            let kind = IrKind::Assign { name, expr, frame: String::new() };
            op = self.graph.add(kind, vec![op], span)?;
        }
        Ok(op)
    }

    fn evaluated(&mut self, idx: usize, span: Span) -> Res<IrId> {
        let (named, name) = (self.named, self.named[idx].name);
        if self.named_state.open.contains(&idx) {
            let message = format!("the view '{name}' reads itself");
            return fail(Code::RecursionLimit, span, message);
        }
        self.enter_call(span)?;
        self.named_state.open.push(idx);
        let outer = std::mem::take(&mut self.named_state.displayed);
        // It sees nothing of others.
        self.scopes.push(Scope::default());
        let scope = self.scopes.len() - 1;
        let source = SourceId::Named(u8::try_from(idx).unwrap_or(u8::MAX));
        self.block(&named[idx].body, At { scope, source });
        self.end_scope(scope);
        let displayed = std::mem::replace(&mut self.named_state.displayed, outer);
        self.named_state.open.pop();
        self.leave_call();
        match displayed.as_slice() {
            [op] => Ok(*op),
            // What it lacks has been reported, or is: it has to display something.
            _ if self.findings.has_errors() => Err(Stop::Poisoned),
            several => {
                let count = several.len();
                let message = format!("the view '{name}' displays {count} tables, not one");
                fail(Code::NoOutput, span, message)
            }
        }
    }

    /// Only these columns, if it is said.
    pub(crate) fn selected(&mut self, op: IrId, select: Option<Arg<'a>>, span: Span) -> Res<IrId> {
        let Some(select) = select else { return Ok(op) };
        let names = select.texts("DataFrame", "select")?;
        if let Some(twice) = super::expr::first_repeated(&names) {
            let message = format!("DataFrame(): column '{}' is selected twice", twice.name);
            return fail(Code::ColumnTwice, twice.span, message);
        }
        if names.is_empty() {
            return Ok(op);
        }
        self.graph.add(IrKind::Select(names), vec![op], span)
    }
}
