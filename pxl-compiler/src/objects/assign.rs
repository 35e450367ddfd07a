//! Assignments: to names, to attributes of modules and the like, and to columns of frames.

use ruff_python_ast::{Expr, StmtAssign};
use ruff_text_size::Ranged;

use super::args::Arg;
use super::eval::{At, Evaluator};
use super::{Frame, Object};
use crate::codes::Code;
use crate::diag::{Diag, Res, Span, Stop, fail};
use crate::ir::{IrKind, NameAt, Sym};

impl<'a> Evaluator<'a> {
    pub(super) fn assign(&mut self, assign: &'a StmtAssign, at: At) -> Res<()> {
        // `restrict` guarantees exactly one target of one of these kinds.
        let Some(target) = assign.targets.first() else { return Ok(()) };
        let span = Span::new(at.source, target.range());
        match target {
            Expr::Name(name) => {
                let value = self.expression(&assign.value, at);
                let failed = value.is_err();
                let value = value.unwrap_or_else(|stop| {
                    self.findings.stop(stop);
                    Object::Poison
                });
                // A failed re-assignment of a frame keeps the frame: fewer follow-up errors.
                let keep = failed
                    && matches!(
                        self.lookup(at.scope, name.id.as_str(), span),
                        Ok(Object::Frame(_))
                    );
                if !keep {
                    self.bind_name(at.scope, name.id.as_str(), value);
                }
                Ok(())
            }
            Expr::Attribute(attribute) => {
                let base = self.expression(&attribute.value, at)?;
                let name = attribute.attr.as_str();
                let name_span = Span::new(at.source, attribute.attr.range());
                match base {
                    Object::Frame(frame) => {
                        let Expr::Name(variable) = &*attribute.value else {
                            let message = "Assignment target must be a Name or Subscript";
                            return fail(Code::AssignmentTarget, span, message);
                        };
                        let name = NameAt { name: name.to_string(), span: name_span };
                        self.assign_column(frame, variable.id.as_str(), name, assign, at)
                    }
                    Object::Poison => Err(Stop::Poisoned),
                    other => {
                        let value = |evaluator: &mut Self| evaluator.expression(&assign.value, at);
                        if self.keep_attribute(&other, name, value)? {
                            return Ok(());
                        }
                        let kind = other.type_name();
                        let message =
                            format!("Cannot assign attribute {name} to object of type {kind}");
                        fail(Code::AssignAttribute, span, message)
                    }
                }
            }
            Expr::Subscript(subscript) => {
                let Expr::Name(variable) = &*subscript.value else { return Ok(()) };
                let base = self.expression(&subscript.value, at)?;
                let Object::Frame(frame) = base else {
                    if matches!(base, Object::Poison) {
                        return Err(Stop::Poisoned);
                    }
                    let kind = base.type_name();
                    let message = format!(
                        "Can only assign to Dataframe by subscript from Name, received {kind}"
                    );
                    return fail(Code::AssignmentTarget, span, message);
                };
                let index_span = Span::new(at.source, subscript.slice.range());
                let index = self.expression(&subscript.slice, at)?;
                let name = Arg { value: index, span: index_span }.name("assignment", "column")?;
                let name = NameAt { name, span: index_span };
                self.assign_column(frame, variable.id.as_str(), name, assign, at)
            }
            _ => Ok(()),
        }
    }

    fn assign_column(
        &mut self,
        frame: Frame,
        variable: &str,
        name: NameAt,
        assign: &'a StmtAssign,
        at: At,
    ) -> Res<()> {
        let span = Span::new(at.source, assign.range());
        super::args::name_fits(&name.name, name.span)?;
        let value_span = Span::new(at.source, assign.value.range());
        let value = self.expression(&assign.value, at);
        let expr = match value {
            Ok(Object::Expr(expr)) => expr,
            Ok(Object::Poison) => Sym::poison(value_span),
            Ok(other) => {
                let kind = other.type_name();
                let message = format!("Expected 'Expression' for column, received '{kind}'");
                self.findings.push(Diag::error(Code::ArgumentType, value_span, message));
                Sym::poison(value_span)
            }
            Err(stop) => {
                self.findings.stop(stop);
                Sym::poison(value_span)
            }
        };
        let kind = IrKind::Assign { name, expr, frame: variable.to_string() };
        let op = self.graph.add(kind, vec![frame.op], span)?;
        self.bind_name(at.scope, variable, Object::Frame(Frame { op }));
        Ok(())
    }
}
