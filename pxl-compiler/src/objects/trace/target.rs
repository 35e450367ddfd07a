//! What a tracepoint is attached to.

use serde::{Deserialize, Serialize};
use weir_types::Value;

use super::TraceValue;
use crate::codes::Code;
use crate::diag::{Diag, Res, Stop, fail};
use crate::objects::Object;
use crate::objects::args::{Arg, CallArgs};

/// The processes, or the kernel, that a tracepoint is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TraceTarget {
    /// Every node's kernel.
    Kernel,
    /// Processes of a pod; empty names mean any.
    PodProcess {
        pod_name: String,
        container_name: String,
        process_name: String,
    },
    /// Processes of the pods with these labels.
    LabelSelector {
        labels: Vec<(String, String)>,
        namespace: String,
        container_name: String,
        process_name: String,
    },
    /// A library that a process has mapped.
    SharedObject {
        name: String,
        upid: u128,
    },
    Process {
        upid: u128,
    },
}

/// `pxtrace.PodProcess(pod_name, container_name='', process_name='')`
pub(super) fn pod_process(args: CallArgs<'_>) -> Res<TraceTarget> {
    const FUNC: &str = "PodProcess";
    let slots = args.bind(FUNC, &["pod_name", "container_name", "process_name"], 1)?;
    let pod_name = required(slots[0].as_ref(), FUNC, "pod_name")?;
    Ok(TraceTarget::PodProcess {
        pod_name,
        container_name: optional(slots[1].as_ref(), FUNC, "container_name")?,
        process_name: optional(slots[2].as_ref(), FUNC, "process_name")?,
    })
}

/// `pxtrace.LabelSelector(labels, namespace, container_name='', process_name='')`
pub(super) fn label_selector(args: CallArgs<'_>) -> Res<TraceTarget> {
    const FUNC: &str = "LabelSelector";
    let slots = args.bind(FUNC, &["labels", "namespace", "container_name", "process_name"], 2)?;
    let Some(labels_arg) = &slots[0] else { return Err(Stop::Poisoned) };
    let pairs = match &labels_arg.value {
        Object::Dict(pairs) if !pairs.is_empty() => pairs.clone(),
        Object::Poison => return Err(Stop::Poisoned),
        _ => {
            let message = "LabelSelector(): 'labels' must be a dictionary with at least one label";
            return fail(Code::Tracepoint, labels_arg.span, message);
        }
    };
    let mut labels = Vec::new();
    for (key, value) in pairs.iter() {
        let [key, value] = [key, value]
            .map(|value| Arg { value: value.clone(), span: labels_arg.span })
            .map(|arg| arg.text(FUNC, "labels"));
        labels.push((key?, value?));
    }
    Ok(TraceTarget::LabelSelector {
        labels,
        namespace: required(slots[1].as_ref(), FUNC, "namespace")?,
        container_name: optional(slots[2].as_ref(), FUNC, "container_name")?,
        process_name: optional(slots[3].as_ref(), FUNC, "process_name")?,
    })
}

/// `pxtrace.SharedObject(name, upid)`
pub(super) fn shared_object(args: CallArgs<'_>) -> Res<TraceTarget> {
    const FUNC: &str = "SharedObject";
    let slots = args.bind(FUNC, &["name", "upid"], 2)?;
    let name = required(slots[0].as_ref(), FUNC, "name")?;
    let Some(upid) = &slots[1] else { return Err(Stop::Poisoned) };
    match upid.literal(FUNC, "upid", weir_types::DataType::Uint128)? {
        Value::Uint128(upid) => Ok(TraceTarget::SharedObject { name, upid }),
        _ => Err(Stop::Poisoned),
    }
}

/// The target of `UpsertTracepoint`.
pub(super) fn target(arg: &Arg<'_>) -> Res<TraceTarget> {
    match &arg.value {
        Object::TraceValue(value) => match &**value {
            TraceValue::Target(target) => return Ok(target.clone()),
            TraceValue::Program(_) | TraceValue::Output(_) => {}
        },
        Object::Expr(sym) => {
            if let Some(Value::Uint128(upid)) = sym.as_literal() {
                return Ok(TraceTarget::Process { upid: *upid });
            }
        }
        Object::Poison => return Err(Stop::Poisoned),
        _ => {}
    }
    let kind = arg.value.type_name();
    let message = format!("UpsertTracepoint(): 'target' is no target, but a {kind}");
    let hint = "targets are pxtrace.kprobe(), PodProcess, LabelSelector, SharedObject, and a UPID \
                literal (`px.make_upid(...)`)";
    Err(Diag::error(Code::Tracepoint, arg.span, message).hint(hint).into())
}

/// A text that must not be empty.
pub(super) fn required(arg: Option<&Arg<'_>>, func: &str, name: &str) -> Res<String> {
    let Some(arg) = arg else { return Err(Stop::Poisoned) };
    let text = arg.text(func, name)?;
    if text.is_empty() {
        let message = format!("{func}(): '{name}' must not be empty");
        return fail(Code::Tracepoint, arg.span, message);
    }
    Ok(text)
}

fn optional(arg: Option<&Arg<'_>>, func: &str, name: &str) -> Res<String> {
    arg.map_or(Ok(String::new()), |arg| arg.text(func, name))
}
