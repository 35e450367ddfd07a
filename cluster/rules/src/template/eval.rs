//! Walks a template's tree over an alert's data, in bounded steps and bytes.

use super::parse::{Arm, GIVEN, Head, Node, Operand, Pipe};
use super::value::Value;
use super::{Data, OUTPUT_BYTES_MAX, STEPS_MAX, TemplateError};

pub(super) fn run(nodes: &[Node], data: &Data<'_>) -> Result<String, TemplateError> {
    let variables = GIVEN.map(|name| (name.to_string(), given(name, data)));
    let mut run =
        Run { data, out: String::new(), variables: variables.to_vec(), steps: 0, line: 1 };
    match run.list(nodes, &Value::Root) {
        Ok(()) => Ok(run.out),
        Err(message) => Err(TemplateError { line: run.line, message }),
    }
}

fn given<'a>(name: &str, data: &Data<'a>) -> Value<'a> {
    match name {
        "$labels" | "Labels" => Value::Labels(data.labels),
        "$externalLabels" | "ExternalLabels" => Value::Labels(data.external_labels),
        "$externalURL" | "ExternalURL" => Value::text(data.external_url),
        "$value" | "Value" => Value::Float(data.value),
        _ => Value::Root,
    }
}

struct Run<'d, 'a> {
    data: &'d Data<'a>,
    out: String,
    variables: Vec<(String, Value<'a>)>,
    steps: usize,
    line: usize,
}

impl<'a> Run<'_, 'a> {
    fn charge(&mut self, steps: usize) -> Result<(), String> {
        self.steps += 1 + steps;
        match self.steps > STEPS_MAX {
            true => Err(format!("more than {STEPS_MAX} steps")),
            false => Ok(()),
        }
    }

    fn write(&mut self, text: &str) -> Result<(), String> {
        self.charge(text.len())?;
        if self.out.len() + text.len() > OUTPUT_BYTES_MAX {
            return Err(format!("the text is longer than {OUTPUT_BYTES_MAX} bytes"));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn list(&mut self, nodes: &[Node], dot: &Value<'a>) -> Result<(), String> {
        let known = self.variables.len();
        for node in nodes {
            self.charge(0)?;
            match node {
                Node::Text(text) => self.write(text)?,
                Node::Action(pipe) => {
                    let value = self.pipe(pipe, dot)?;
                    if pipe.targets.is_empty() {
                        match value {
                            Value::Nil => self.write("<no value>")?,
                            value => self.write(&value.display())?,
                        }
                    }
                }
                Node::If { arms, otherwise } => self.branch(arms, otherwise, dot, false)?,
                Node::With { arms, otherwise } => self.branch(arms, otherwise, dot, true)?,
                Node::Range { arm, otherwise } => self.range(arm, otherwise, dot)?,
            }
        }
        self.variables.truncate(known);
        Ok(())
    }

    fn branch(
        &mut self,
        arms: &[Arm],
        otherwise: &[Node],
        dot: &Value<'a>,
        with: bool,
    ) -> Result<(), String> {
        let known = self.variables.len();
        for Arm { pipe, body } in arms {
            let value = self.pipe(pipe, dot)?;
            if value.is_true() {
                self.list(body, if with { &value } else { dot })?;
                self.variables.truncate(known);
                return Ok(());
            }
        }
        self.list(otherwise, dot)?;
        self.variables.truncate(known);
        Ok(())
    }

    fn range(&mut self, arm: &Arm, otherwise: &[Node], dot: &Value<'a>) -> Result<(), String> {
        let Arm { pipe, body } = arm;
        let known = self.variables.len();
        let over = self.pipe(&Pipe { targets: Vec::new(), ..pipe.clone() }, dot)?;
        let entries: Vec<(Value<'a>, Value<'a>)> = match &over {
            Value::Labels(labels) => labels
                .iter()
                .map(|(name, value)| (Value::text(name.as_str()), Value::text(value.as_str())))
                .collect(),
            Value::Args(args) => args
                .iter()
                .enumerate()
                .map(|(idx, arg)| (Value::text(format!("arg{idx}")), arg.clone()))
                .collect(),
            Value::Nil => Vec::new(),
            other => return Err(format!("range can't iterate over {}", other.type_name())),
        };
        if entries.is_empty() {
            self.list(otherwise, dot)?;
        }
        for (key, value) in entries {
            self.charge(0)?;
            let bound = match pipe.targets.as_slice() {
                [one] => vec![(one, value.clone())],
                [first, second] => vec![(first, key), (second, value.clone())],
                _ => Vec::new(),
            };
            for (name, value) in bound {
                self.bind(name, value, pipe.declares);
            }
            self.list(body, &value)?;
            self.variables.truncate(known);
        }
        Ok(())
    }

    fn bind(&mut self, name: &str, value: Value<'a>, declares: bool) {
        let there = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        match there {
            Some((_, there)) if !declares => *there = value,
            _ => self.variables.push((name.to_string(), value)),
        }
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value<'a>) -> Result<Value<'a>, String> {
        let mut last = None;
        for command in &pipe.commands {
            self.line = pipe.line;
            last = Some(self.command(command, last, dot)?);
        }
        let value = last.unwrap_or(Value::Nil);
        if let [name] = pipe.targets.as_slice() {
            self.bind(name, value.clone(), pipe.declares);
        }
        Ok(value)
    }

    /// A call, or a single value. What the command before gave is the last argument.
    fn command(
        &mut self,
        command: &[Operand],
        last: Option<Value<'a>>,
        dot: &Value<'a>,
    ) -> Result<Value<'a>, String> {
        self.charge(0)?;
        let (first, rest) = command.split_first().ok_or("missing value for command")?;
        let Head::Function(function) = &first.head else { return self.operand(first, dot) };
        match function.name {
            name @ ("externalURL" | "pathPrefix") if rest.is_empty() && last.is_none() => {
                let url = self.data.external_url;
                let path = url
                    .split_once("://")
                    .and_then(|(_, tail)| tail.find('/').map(|at| &tail[at..]));
                return Ok(Value::text(if name == "externalURL" {
                    url
                } else {
                    path.unwrap_or("")
                }));
            }
            name @ ("and" | "or") => {
                let mut args = rest.len();
                for operand in rest {
                    args -= 1;
                    let value = self.operand(operand, dot)?;
                    let decided = value.is_true() == (name == "or");
                    if decided || (args == 0 && last.is_none()) {
                        return Ok(value);
                    }
                }
                return last.ok_or_else(|| {
                    format!("wrong number of args for {name}: want at least 1 got 0")
                });
            }
            _ => {}
        }
        let mut args = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            args.push(self.operand(operand, dot)?);
        }
        args.extend(last);
        self.charge(args.iter().map(Value::weight).sum())?;
        let value = function.call(&args)?;
        if let Value::Text(text) = &value {
            self.charge(text.len())?;
        }
        Ok(value)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value<'a>) -> Result<Value<'a>, String> {
        let mut value = match &operand.head {
            Head::Dot => dot.clone(),
            Head::Nil => Value::Nil,
            Head::Bool(value) => Value::Bool(*value),
            Head::Int(value) => Value::Int(*value),
            Head::Float(value) => Value::Float(*value),
            Head::Text(text) => {
                self.charge(text.len())?;
                Value::text(text.clone())
            }
            Head::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found
                    .map(|(_, value)| value.clone())
                    .ok_or(format!("undefined variable {name:?}"))?
            }
            Head::Function(_) => self.command(std::slice::from_ref(operand), None, dot)?,
            Head::Pipe(pipe) => self.pipe(pipe, dot)?,
        };
        for field in &operand.fields {
            value = self.field(&value, field)?;
        }
        // A text that was made is copied with the value.
        if let Value::Text(std::borrow::Cow::Owned(text)) = &value {
            self.charge(text.len())?;
        }
        Ok(value)
    }

    fn field(&self, value: &Value<'a>, field: &str) -> Result<Value<'a>, String> {
        match value {
            Value::Root => match given(field, self.data) {
                Value::Root => Err(format!("can't evaluate field {field} in the alert's data")),
                value => Ok(value),
            },
            other => {
                let wrong =
                    || format!("can't evaluate field {field} in type {}", other.type_name());
                other.entry(field).ok_or_else(wrong)
            }
        }
    }
}
