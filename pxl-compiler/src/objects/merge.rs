//! `df.merge(right, how, left_on, right_on, suffixes)`.

use super::args::{Arg, CallArgs};
use super::eval::Evaluator;
use super::frame::frame_of;
use super::{Frame, Object};
use crate::codes::Code;
use crate::diag::{Diag, Res, Stop};
use crate::hint;
use crate::ir::{IrKind, Merge, MergeKind, NameAt};

impl<'a> Evaluator<'a> {
    pub(crate) fn merge(&mut self, left: Frame, args: CallArgs<'a>) -> Res<Object<'a>> {
        let span = args.span;
        let names = ["right", "how", "left_on", "right_on", "suffixes"];
        let slots = args.bind("merge", &names, 4)?;
        let [Some(right), Some(how), Some(left_on), Some(right_on), suffixes] =
            <[Option<Arg<'a>>; 5]>::try_from(slots).unwrap_or([const { None }; 5])
        else {
            return Err(Stop::Poisoned);
        };
        let right = frame_of(&right, "merge", "right")?;
        let how = kind(&how)?;
        let (left_on, right_on) = keys(&left_on, &right_on)?;
        let suffixes = match suffixes {
            None => ("_x".to_string(), "_y".to_string()),
            Some(arg) => pair(&arg)?,
        };
        let merge = Merge { how, left_on, right_on, suffixes };
        let op = self.graph.add(IrKind::Merge(merge), vec![left.op, right.op], span)?;
        Ok(Object::Frame(Frame { op }))
    }
}

fn kind(arg: &Arg<'_>) -> Res<MergeKind> {
    let text = arg.text("merge", "how")?;
    let all = [MergeKind::Inner, MergeKind::Left, MergeKind::Right, MergeKind::Outer];
    all.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
        let message = format!(
            "'{text}' join type not supported. Only {{inner,left,outer,right}} are available."
        );
        let hint = hint::did_you_mean(&text, all.map(MergeKind::name), "");
        Diag::error(Code::JoinKind, arg.span, message).hint(hint).into()
    })
}

fn keys(left: &Arg<'_>, right: &Arg<'_>) -> Res<(Vec<NameAt>, Vec<NameAt>)> {
    let left_on = left.texts("merge", "left_on")?;
    let right_on = right.texts("merge", "right_on")?;
    if left_on.len() != right_on.len() {
        let message =
            "'left_on' and 'right_on' must contain the same number of elements.".to_string();
        let label = format!("{} on the left, {} on the right", left_on.len(), right_on.len());
        let span = super::frame::cover(left.span, right.span);
        return Err(Diag::error(Code::JoinKeys, span, message).label(label).into());
    }
    Ok((left_on, right_on))
}

fn pair(arg: &Arg<'_>) -> Res<(String, String)> {
    let names = match &arg.value {
        Object::List(_) | Object::Tuple(_) => arg.texts("merge", "suffixes")?,
        Object::Poison => return Err(Stop::Poisoned),
        _ => Vec::new(),
    };
    match names.as_slice() {
        [left, right] => Ok((left.name.clone(), right.name.clone())),
        _ => {
            let message = "'suffixes' must be a list with 2 strings";
            let hint = "the default is `suffixes=['_x', '_y']`";
            Err(Diag::error(Code::JoinSuffixes, arg.span, message).hint(hint).into())
        }
    }
}
