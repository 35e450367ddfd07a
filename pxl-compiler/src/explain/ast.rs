//! The syntax tree as short text: one statement a line, expressions in prefix form.

use std::fmt::Write;

use ruff_python_ast::{Expr, Number, Stmt};

/// Deeper expressions are cut: this is for people.
const DEPTH_MAX: usize = 60;

pub(crate) fn module(body: &[Stmt]) -> String {
    let mut out = String::new();
    block(&mut out, body, 0);
    out
}

fn block(out: &mut String, body: &[Stmt], indent: usize) {
    for statement in body {
        let margin = "  ".repeat(indent);
        let text = match statement {
            Stmt::Expr(inner) => format!("expr {}", expr(&inner.value, 0)),
            Stmt::Assign(inner) => {
                let targets: Vec<String> = inner.targets.iter().map(|each| expr(each, 0)).collect();
                format!("assign {} = {}", targets.join(" = "), expr(&inner.value, 0))
            }
            Stmt::Return(inner) => {
                let value = inner.value.as_ref().map_or_else(String::new, |value| expr(value, 0));
                format!("return {value}")
            }
            Stmt::Import(inner) => {
                let names: Vec<&str> = inner.names.iter().map(|each| each.name.as_str()).collect();
                format!("import {}", names.join(", "))
            }
            Stmt::ImportFrom(inner) => {
                let names: Vec<&str> = inner.names.iter().map(|each| each.name.as_str()).collect();
                let module = inner.module.as_ref().map_or("", |module| module.as_str());
                format!("import {} from {module}", names.join(", "))
            }
            Stmt::FunctionDef(def) => {
                let parameters: Vec<String> = def
                    .parameters
                    .iter_non_variadic_params()
                    .map(|each| match &each.parameter.annotation {
                        Some(annotation) => format!("{}: {}", each.name(), expr(annotation, 0)),
                        None => each.name().to_string(),
                    })
                    .collect();
                let _ = writeln!(out, "{margin}def {}({})", def.name, parameters.join(", "));
                block(out, &def.body, indent + 1);
                continue;
            }
            _ => "statement".to_string(),
        };
        let _ = writeln!(out, "{margin}{text}");
    }
}

fn list(items: &[Expr], depth: usize) -> String {
    let items: Vec<String> = items.iter().map(|item| expr(item, depth + 1)).collect();
    items.join(" ")
}

fn expr(node: &Expr, depth: usize) -> String {
    if depth > DEPTH_MAX {
        return "…".to_string();
    }
    let below = |node: &Expr| expr(node, depth + 1);
    match node {
        Expr::Name(name) => name.id.to_string(),
        Expr::StringLiteral(literal) => format!("{:?}", literal.value.to_str()),
        Expr::BytesLiteral(_) => "bytes".to_string(),
        Expr::NumberLiteral(literal) => match &literal.value {
            Number::Int(value) => value.to_string(),
            Number::Float(value) => format!("{value:?}"),
            Number::Complex { .. } => "complex".to_string(),
        },
        Expr::BooleanLiteral(literal) => literal.value.to_string(),
        Expr::NoneLiteral(_) => "None".to_string(),
        Expr::Attribute(inner) => format!("{}.{}", below(&inner.value), inner.attr),
        Expr::Subscript(inner) => format!("{}[{}]", below(&inner.value), below(&inner.slice)),
        Expr::List(inner) => format!("(list {})", list(&inner.elts, depth)),
        Expr::Tuple(inner) => format!("(tuple {})", list(&inner.elts, depth)),
        Expr::Dict(inner) => {
            let items: Vec<String> = inner
                .items
                .iter()
                .map(|item| {
                    let key = item.key.as_ref().map_or_else(String::new, &below);
                    format!("{key}: {}", below(&item.value))
                })
                .collect();
            format!("(dict {})", items.join(" "))
        }
        Expr::BinOp(inner) => {
            format!("({} {} {})", inner.op.as_str(), below(&inner.left), below(&inner.right))
        }
        Expr::UnaryOp(inner) => format!("({} {})", inner.op.as_str(), below(&inner.operand)),
        Expr::BoolOp(inner) => format!("({} {})", inner.op.as_str(), list(&inner.values, depth)),
        Expr::Compare(inner) => {
            let op = inner.ops.first().map_or("?", |op| op.as_str());
            format!("({op} {} {})", below(&inner.left), list(&inner.comparators, depth))
        }
        Expr::Call(inner) => {
            let mut parts = vec![below(&inner.func)];
            parts.extend(inner.arguments.args.iter().map(&below));
            parts.extend(inner.arguments.keywords.iter().map(|keyword| {
                let name = keyword.arg.as_ref().map_or("**", |name| name.as_str());
                format!("{name}={}", below(&keyword.value))
            }));
            format!("(call {})", parts.join(" "))
        }
        other => crate::syntax::restrict::expression_name(other).to_string(),
    }
}
