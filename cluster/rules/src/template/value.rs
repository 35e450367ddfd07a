//! Values inside of a template, and what Go says of them: truth, text, order.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::format::{float_text, time_text};

#[derive(Clone, Debug)]
pub(super) enum Value<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    Labels(&'a BTreeMap<String, String>),
    /// What `args` makes: `arg0`, `arg1`, ….
    Args(Rc<Vec<Value<'a>>>),
    /// Unix seconds.
    Time(f64),
    /// The dot at the top.
    Root,
}

impl<'a> Value<'a> {
    /// Bytes that a text of it has, more or less.
    pub(super) fn weight(&self) -> usize {
        match self {
            Value::Text(text) => text.len(),
            Value::Labels(labels) => labels.iter().map(|(k, v)| k.len() + v.len() + 2).sum(),
            Value::Args(args) => args.iter().map(Value::weight).sum(),
            _ => 8,
        }
    }

    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Value<'a> {
        Value::Text(text.into())
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Nil => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::Labels(labels) => !labels.is_empty(),
            Value::Args(args) => !args.is_empty(),
            Value::Time(_) | Value::Root => true,
        }
    }

    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Nil => "<nil>",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float64",
            Value::Text(_) => "string",
            Value::Labels(_) => "map[string]string",
            Value::Args(_) => "map[string]interface {}",
            Value::Time(_) => "*time.Time",
            Value::Root => "struct",
        }
    }

    /// As `print` writes it.
    pub(super) fn display(&self) -> Cow<'_, str> {
        match self {
            Value::Nil => Cow::Borrowed("<nil>"),
            Value::Bool(value) => Cow::Owned(value.to_string()),
            Value::Int(value) => Cow::Owned(value.to_string()),
            Value::Float(value) => Cow::Owned(float_text(*value)),
            Value::Text(text) => Cow::Borrowed(text),
            Value::Labels(labels) => {
                let pairs: Vec<String> = labels.iter().map(|(k, v)| format!("{k}:{v}")).collect();
                Cow::Owned(format!("map[{}]", pairs.join(" ")))
            }
            Value::Args(args) => {
                let pairs = args.iter().enumerate();
                let pairs: Vec<String> =
                    pairs.map(|(idx, arg)| format!("arg{idx}:{}", arg.display())).collect();
                Cow::Owned(format!("map[{}]", pairs.join(" ")))
            }
            Value::Time(seconds) => Cow::Owned(time_text(*seconds)),
            Value::Root => Cow::Borrowed("{}"),
        }
    }

    /// A number, also one that stands in a text: what the `humanize` functions take.
    pub(super) fn number(&self) -> Result<f64, String> {
        match self {
            Value::Int(value) => Ok(*value as f64),
            Value::Float(value) | Value::Time(value) => Ok(*value),
            Value::Text(text) => go_float(text)
                .ok_or_else(|| format!("strconv.ParseFloat: parsing {text:?}: invalid syntax")),
            other => Err(format!("can't convert {} to float", other.type_name())),
        }
    }

    /// What `index` and a field find below this value.
    pub(super) fn entry(&self, name: &str) -> Option<Value<'a>> {
        match self {
            Value::Labels(labels) => {
                Some(labels.get(name).map_or(Value::text(""), |v| Value::text(v.as_str())))
            }
            Value::Args(args) => {
                let idx = name.strip_prefix("arg").and_then(|idx| idx.parse::<usize>().ok());
                Some(idx.and_then(|idx| args.get(idx).cloned()).unwrap_or(Value::Nil))
            }
            _ => None,
        }
    }
}

/// What Go's `ParseFloat` takes of what people write.
fn go_float(text: &str) -> Option<f64> {
    match text.trim_start_matches(['+', '-']).to_ascii_lowercase().as_str() {
        "inf" | "infinity" | "nan" => text.parse().ok(),
        digits if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => text.parse().ok(),
        _ => None,
    }
}

/// `eq`: texts with texts, numbers with numbers.
pub(super) fn equal(left: &Value<'_>, right: &Value<'_>) -> Result<bool, String> {
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
        (Value::Nil, Value::Nil) => Ok(true),
        (Value::Labels(_) | Value::Args(_) | Value::Root, _)
        | (_, Value::Labels(_) | Value::Args(_) | Value::Root) => {
            Err("non-comparable type".to_string())
        }
        (Value::Nil, _) | (_, Value::Nil) => Ok(false),
        _ => Ok(order(left, right)? == Some(Ordering::Equal)),
    }
}

/// `lt` and the like. NaN is in no order with anything.
pub(super) fn order(left: &Value<'_>, right: &Value<'_>) -> Result<Option<Ordering>, String> {
    match (left, right) {
        (Value::Text(left), Value::Text(right)) => Ok(Some(left.cmp(right))),
        (Value::Int(left), Value::Int(right)) => Ok(Some(left.cmp(right))),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            Ok(left.number()?.partial_cmp(&right.number()?))
        }
        (
            Value::Text(_) | Value::Int(_) | Value::Float(_),
            Value::Text(_) | Value::Int(_) | Value::Float(_),
        )
        | (Value::Bool(_), Value::Text(_) | Value::Int(_) | Value::Float(_))
        | (Value::Text(_) | Value::Int(_) | Value::Float(_), Value::Bool(_)) => {
            Err("incompatible types for comparison".to_string())
        }
        _ => Err("invalid type for comparison".to_string()),
    }
}
