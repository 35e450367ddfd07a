//! Refuses what is Python but not PxL, in the whole text at once, so that several mistakes are
//! reported in one run. Works on shape alone.

use ruff_python_ast::{
    BoolOp, CmpOp, Expr, Operator, Parameters, Stmt, StmtAssign, StmtFunctionDef, UnaryOp,
};
use ruff_text_size::Ranged;

use crate::codes::Code;
use crate::diag::{Diag, Findings, SourceId, Span};

/// True if all of it is PxL.
pub(crate) fn check(body: &[Stmt], source: SourceId, findings: &Findings) -> bool {
    let mut checker = Checker { source, findings, in_function: false, clean: true };
    checker.block(body);
    checker.clean
}

/// True if an expression on its own is PxL.
pub(crate) fn check_expression(expr: &Expr, source: SourceId, findings: &Findings) -> bool {
    let mut checker = Checker { source, findings, in_function: false, clean: true };
    checker.expression(expr);
    checker.clean
}

struct Checker<'a> {
    source: SourceId,
    findings: &'a Findings,
    in_function: bool,
    clean: bool,
}

impl Checker<'_> {
    fn report(&mut self, code: Code, at: &impl Ranged, message: String, hint: &str) {
        self.clean = false;
        let span = Span::new(self.source, at.range());
        self.findings.push(Diag::error(code, span, message).hint(hint));
    }

    fn block(&mut self, body: &[Stmt]) {
        for (at, statement) in body.iter().enumerate() {
            self.statement(statement, at == 0);
        }
    }

    fn statement(&mut self, statement: &Stmt, first: bool) {
        match statement {
            Stmt::Expr(inner) => {
                if matches!(&*inner.value, Expr::StringLiteral(_)) && !first {
                    let message = "Doc strings are only allowed at the start of a module or \
                                   function.";
                    self.report(Code::DocstringPlace, inner, message.to_string(), "use a comment");
                    return;
                }
                self.expression(&inner.value);
            }
            Stmt::Assign(assign) => self.assign(assign),
            Stmt::FunctionDef(def) => self.function(def),
            Stmt::Return(inner) => {
                if !self.in_function {
                    let message = "'return' outside function".to_string();
                    self.report(Code::ReturnOutsideFunction, inner, message, "");
                }
                if let Some(value) = &inner.value {
                    self.expression(value);
                }
            }
            Stmt::Import(_) => {}
            Stmt::ImportFrom(import) => {
                if import.level > 0 || import.names.iter().any(|alias| alias.name.as_str() == "*") {
                    let message = "relative and star imports are not supported".to_string();
                    self.report(Code::StatementNotSupported, import, message, "import names");
                }
            }
            other => {
                let name = statement_name(other);
                let message = format!("'{name}' statements are not part of PxL");
                self.report(Code::StatementNotSupported, other, message, statement_hint(other));
            }
        }
    }

    fn assign(&mut self, assign: &StmtAssign) {
        if assign.targets.len() != 1 {
            let message = "We only support single target assignment.".to_string();
            self.report(Code::SingleTarget, assign, message, "write one assignment per line");
            return;
        }
        match &assign.targets[0] {
            Expr::Name(_) | Expr::Attribute(_) => {}
            Expr::Subscript(subscript) => {
                if !matches!(&*subscript.value, Expr::Name(_)) {
                    let kind = expression_name(&subscript.value);
                    let message = format!(
                        "Can only assign to Dataframe by subscript from Name, received {kind}"
                    );
                    self.report(Code::AssignmentTarget, &assign.targets[0], message, "");
                }
                self.expression(&subscript.slice);
            }
            Expr::Tuple(_) | Expr::List(_) => {
                let message = "We only support single target assignment.".to_string();
                self.report(Code::SingleTarget, &assign.targets[0], message, "");
            }
            other => {
                let message = "Assignment target must be a Name or Subscript".to_string();
                self.report(Code::AssignmentTarget, other, message, "");
            }
        }
        self.expression(&assign.value);
    }

    fn function(&mut self, def: &StmtFunctionDef) {
        if def.is_async || def.returns.is_some() || def.type_params.is_some() {
            let message = "functions are plain: no async, no type parameters, no return annotation";
            self.report(Code::FunctionForm, &def.name, message.to_string(), "");
        }
        if def.decorator_list.len() > 1 {
            let message = "at most one decorator is supported".to_string();
            self.report(Code::FunctionForm, &def.decorator_list[1], message, "");
        }
        for decorator in &def.decorator_list {
            self.expression(&decorator.expression);
        }
        self.parameters(&def.parameters);
        let outer = std::mem::replace(&mut self.in_function, true);
        self.block(&def.body);
        self.in_function = outer;
    }

    fn parameters(&mut self, parameters: &Parameters) {
        for parameter in [&parameters.vararg, &parameters.kwarg].into_iter().flatten() {
            let message =
                "variable length args/kwargs are not supported in function definitions".to_string();
            self.report(Code::VariableArguments, &**parameter, message, "name each parameter");
        }
        for parameter in parameters.posonlyargs.iter().chain(&parameters.kwonlyargs) {
            let message = "'/' and '*' between parameters are not supported".to_string();
            self.report(Code::FunctionForm, parameter, message, "any parameter takes both forms");
        }
        for parameter in parameters.iter_non_variadic_params() {
            if let Some(default) = &parameter.default {
                let message = "default values not supported in function definitions".to_string();
                let hint = "pass the value at each call; vis.json gives scripts their defaults";
                self.report(Code::DefaultValue, &**default, message, hint);
            }
            if let Some(annotation) = &parameter.parameter.annotation {
                self.expression(annotation);
            }
        }
    }

    fn expressions<'e>(&mut self, all: impl IntoIterator<Item = &'e Expr>) {
        for expr in all {
            self.expression(expr);
        }
    }

    #[expect(clippy::too_many_lines, reason = "one flat match over the expression kinds")]
    fn expression(&mut self, expr: &Expr) {
        match expr {
            Expr::Name(_)
            | Expr::StringLiteral(_)
            | Expr::BytesLiteral(_)
            | Expr::NumberLiteral(_)
            | Expr::BooleanLiteral(_)
            | Expr::NoneLiteral(_) => {}
            Expr::Attribute(inner) => self.expression(&inner.value),
            Expr::List(inner) => self.expressions(&inner.elts),
            Expr::Tuple(inner) => self.expressions(&inner.elts),
            Expr::Dict(inner) => {
                for item in &inner.items {
                    match &item.key {
                        Some(key) => self.expression(key),
                        None => {
                            let message = "'**' in a dictionary is not supported".to_string();
                            self.report(Code::VariableArguments, &item.value, message, "");
                        }
                    }
                    self.expression(&item.value);
                }
            }
            Expr::BinOp(inner) => {
                if operator_function(inner.op).is_none() {
                    let message = format!("Operator '{}' not handled", inner.op.as_str());
                    self.report(Code::OperatorNotHandled, inner, message, operator_hint(inner.op));
                }
                self.expressions([&*inner.left, &*inner.right]);
            }
            Expr::UnaryOp(inner) => self.expression(&inner.operand),
            Expr::BoolOp(inner) => {
                if inner.values.len() != 2 {
                    let op = inner.op.as_str();
                    let message = format!("Expected two arguments to '{op}'.");
                    let hint = format!("use parentheses: `(a {op} b) {op} c`");
                    self.report(Code::BooleanOperands, inner, message, &hint);
                }
                self.expressions(&inner.values);
            }
            Expr::Compare(inner) => {
                let op = inner.ops[0];
                if inner.ops.len() != 1 {
                    let message =
                        format!("Only expected one argument to the right of '{}'.", op.as_str());
                    let hint = "write `(a < b) and (b < c)`";
                    self.report(Code::ChainedComparison, inner, message, hint);
                } else if comparison_function(op).is_none() {
                    let message = format!("Operator '{}' not handled", op.as_str());
                    let hint = "use `px.contains(text, part)` for text, `px.equals_any` for lists";
                    self.report(Code::OperatorNotHandled, inner, message, hint);
                }
                self.expression(&inner.left);
                self.expressions(&inner.comparators);
            }
            Expr::Call(inner) => {
                self.expression(&inner.func);
                for arg in &inner.arguments.args {
                    if let Expr::Starred(star) = arg {
                        let message =
                            "variable length args/kwargs are not supported in calls".to_string();
                        self.report(Code::VariableArguments, star, message, "");
                    } else {
                        self.expression(arg);
                    }
                }
                for keyword in &inner.arguments.keywords {
                    if keyword.arg.is_none() {
                        let message =
                            "variable length args/kwargs are not supported in calls".to_string();
                        self.report(Code::VariableArguments, keyword, message, "");
                    }
                    self.expression(&keyword.value);
                }
            }
            Expr::Subscript(inner) => {
                self.expression(&inner.value);
                if let Expr::Slice(slice) = &*inner.slice {
                    let message = "Only index slices are supported".to_string();
                    self.report(Code::SliceNotSupported, slice, message, "use a single index");
                } else {
                    self.expression(&inner.slice);
                }
            }
            other => {
                let name = expression_name(other);
                let message = format!("Can't parse expression of type {name}");
                self.report(Code::ExpressionNotSupported, other, message, expression_hint(other));
            }
        }
    }
}

/// The function behind an arithmetic operator.
pub(crate) fn operator_function(op: Operator) -> Option<&'static str> {
    Some(match op {
        Operator::Add => "add",
        Operator::Sub => "subtract",
        Operator::Mult => "multiply",
        Operator::Div => "divide",
        Operator::Mod => "modulo",
        _ => return None,
    })
}

/// The function behind a comparison.
pub(crate) fn comparison_function(op: CmpOp) -> Option<&'static str> {
    Some(match op {
        CmpOp::Eq => "equal",
        CmpOp::NotEq => "notEqual",
        CmpOp::Lt => "lessThan",
        CmpOp::LtE => "lessThanEqual",
        CmpOp::Gt => "greaterThan",
        CmpOp::GtE => "greaterThanEqual",
        _ => return None,
    })
}

/// The function behind `and` and `or`.
pub(crate) fn boolean_function(op: BoolOp) -> &'static str {
    match op {
        BoolOp::And => "logicalAnd",
        BoolOp::Or => "logicalOr",
    }
}

/// The function behind a unary operator; `None` for `+`, which does nothing.
pub(crate) fn unary_function(op: UnaryOp) -> Option<&'static str> {
    match op {
        UnaryOp::Invert => Some("invert"),
        UnaryOp::Not => Some("logicalNot"),
        UnaryOp::USub => Some("negate"),
        UnaryOp::UAdd => None,
    }
}

fn operator_hint(op: Operator) -> &'static str {
    match op {
        Operator::Pow => "use `px.pow(a, b)`",
        Operator::FloorDiv => "use `px.floor(a / b)`",
        Operator::BitAnd => "use `and` with parentheses",
        Operator::BitOr => "use `or` with parentheses",
        _ => "",
    }
}

fn statement_name(statement: &Stmt) -> &'static str {
    match statement {
        Stmt::ClassDef(_) => "class",
        Stmt::Delete(_) => "del",
        Stmt::TypeAlias(_) => "type",
        Stmt::AugAssign(_) => "augmented assignment",
        Stmt::AnnAssign(_) => "annotated assignment",
        Stmt::For(_) => "for",
        Stmt::While(_) => "while",
        Stmt::If(_) => "if",
        Stmt::With(_) => "with",
        Stmt::Match(_) => "match",
        Stmt::Raise(_) => "raise",
        Stmt::Try(_) => "try",
        Stmt::Assert(_) => "assert",
        Stmt::Global(_) => "global",
        Stmt::Nonlocal(_) => "nonlocal",
        Stmt::Pass(_) => "pass",
        Stmt::Break(_) => "break",
        Stmt::Continue(_) => "continue",
        _ => "such",
    }
}

fn statement_hint(statement: &Stmt) -> &'static str {
    match statement {
        Stmt::If(_) => "choose per row with `px.select(condition, a, b)`, or filter the frame",
        Stmt::For(_) | Stmt::While(_) => "frames are processed as a whole; there are no loops",
        Stmt::AugAssign(_) => "write `x = x + …`",
        Stmt::AnnAssign(_) => "write `x = …`",
        _ => "",
    }
}

/// Names of expression kinds as messages use them.
pub(crate) fn expression_name(expr: &Expr) -> &'static str {
    match expr {
        Expr::BoolOp(_) => "BoolOp",
        Expr::Named(_) => "NamedExpr",
        Expr::BinOp(_) => "BinOp",
        Expr::UnaryOp(_) => "UnaryOp",
        Expr::Lambda(_) => "Lambda",
        Expr::If(_) => "IfExpr",
        Expr::Dict(_) => "Dict",
        Expr::Set(_) => "Set",
        Expr::ListComp(_) => "ListComp",
        Expr::SetComp(_) => "SetComp",
        Expr::DictComp(_) => "DictComp",
        Expr::Generator(_) => "Generator",
        Expr::Await(_) => "Await",
        Expr::Yield(_) | Expr::YieldFrom(_) => "Yield",
        Expr::Compare(_) => "Compare",
        Expr::Call(_) => "Call",
        Expr::FString(_) => "FString",
        Expr::TString(_) => "TString",
        Expr::StringLiteral(_) | Expr::BytesLiteral(_) => "Str",
        Expr::NumberLiteral(_) => "Number",
        Expr::BooleanLiteral(_) => "Bool",
        Expr::NoneLiteral(_) => "None",
        Expr::EllipsisLiteral(_) => "Ellipsis",
        Expr::Attribute(_) => "Attribute",
        Expr::Subscript(_) => "Subscript",
        Expr::Starred(_) => "Starred",
        Expr::Name(_) => "Name",
        Expr::List(_) => "List",
        Expr::Tuple(_) => "Tuple",
        Expr::Slice(_) => "Slice",
        Expr::IpyEscapeCommand(_) => "IpyEscapeCommand",
    }
}

fn expression_hint(expr: &Expr) -> &'static str {
    match expr {
        Expr::FString(_) => "join strings with `+`",
        Expr::If(_) => "use `px.select(condition, a, b)`",
        Expr::ListComp(_) | Expr::Generator(_) => "write the elements out",
        Expr::Lambda(_) => "define a function with `def`",
        _ => "",
    }
}
