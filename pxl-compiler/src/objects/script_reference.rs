//! `px.script_reference(label, script, args={})`: a row expression that makes a link as JSON.

use weir_types::{DataType, Value};

use super::Object;
use super::args::{Arg, CallArgs};
use super::eval::Evaluator;
use crate::codes::Code;
use crate::diag::{Diag, Res, Stop, fail};
use crate::ir::{Sym, SymKind, SymRef};
use crate::limits::SCRIPT_REFERENCE_ARGS_MAX;

impl<'a> Evaluator<'a> {
    pub(crate) fn script_reference(&mut self, args: CallArgs<'a>) -> Res<Object<'a>> {
        let span = args.span;
        let slots = args.bind("script_reference", &["label", "script", "args"], 2)?;
        let [Some(label), Some(script), link_args] =
            <[Option<Arg<'a>>; 3]>::try_from(slots).unwrap_or([const { None }; 3])
        else {
            return Err(Stop::Poisoned);
        };
        let mut syms = vec![text_of(&label, "label")?, text_of(&script, "script")?];
        let pairs = match link_args {
            None => Vec::new(),
            Some(Arg { value: Object::Dict(pairs), .. })
                if pairs.len() <= SCRIPT_REFERENCE_ARGS_MAX =>
            {
                pairs.to_vec()
            }
            Some(Arg { value: Object::Dict(pairs), .. }) => {
                let message = format!(
                    "script_reference(): at most {SCRIPT_REFERENCE_ARGS_MAX} args, {} were given",
                    pairs.len()
                );
                return fail(Code::ScriptReference, span, message);
            }
            Some(arg) => {
                let kind = arg.value.type_name();
                let message = format!("script_reference(): args must be a dictionary, not {kind}");
                return fail(Code::ScriptReference, arg.span, message);
            }
        };
        for (key, value) in pairs {
            let key = Arg { value: key, span };
            syms.push(self.constant_text(&key)?);
            syms.push(text_of(&Arg { value, span }, "args")?);
        }
        Ok(Object::Expr(Sym::call("_script_reference", syms, span)?))
    }

    fn constant_text(&self, key: &Arg<'a>) -> Res<SymRef> {
        let text = key.text("script_reference", "args")?;
        match self.constant(Value::str(&text), key.span) {
            Object::Expr(sym) => Ok(sym),
            _ => Err(Stop::Poisoned),
        }
    }
}

/// A STRING column or literal.
fn text_of(arg: &Arg<'_>, name: &str) -> Res<SymRef> {
    let span = match &arg.value {
        Object::Expr(sym) => sym.span,
        _ => arg.span,
    };
    let wrong = match &arg.value {
        Object::Expr(sym) => match &sym.kind {
            SymKind::Literal(value) => value.data_type() != DataType::String,
            SymKind::Now(_) => true,
            SymKind::Poison => return Err(Stop::Poisoned),
            _ => false,
        },
        Object::Poison => return Err(Stop::Poisoned),
        _ => true,
    };
    match &arg.value {
        Object::Expr(sym) if !wrong => Ok(sym.clone()),
        other => {
            let kind = other.type_name();
            let message = format!(
                "script_reference(): '{name}' must be a string column or literal, not {kind}"
            );
            let hint = "numbers become text with `px.itoa(...)`";
            Err(Diag::error(Code::ScriptReference, span, message).hint(hint).into())
        }
    }
}
