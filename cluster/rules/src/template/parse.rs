//! From tokens to a tree. Variables and functions are known here already, so that a wrong name is refused
//! before anything fires.

use super::lex::{Piece, Placed, Token, lex};
use super::{DEPTH_MAX, TemplateError, functions};

#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipe),
    /// `if` … `else if` … `else`.
    If {
        arms: Vec<Arm>,
        otherwise: Vec<Node>,
    },
    /// `with` … `else with` … `else`.
    With {
        arms: Vec<Arm>,
        otherwise: Vec<Node>,
    },
    Range {
        arm: Arm,
        otherwise: Vec<Node>,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Arm {
    pub(super) pipe: Pipe,
    pub(super) body: Vec<Node>,
}

#[derive(Clone, Debug)]
pub(super) struct Pipe {
    pub(super) line: usize,
    /// Variables that get the result; two only in a `range`.
    pub(super) targets: Vec<String>,
    /// `:=` rather than `=`.
    pub(super) declares: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

#[derive(Clone, Debug)]
pub(super) struct Operand {
    pub(super) head: Head,
    /// `.a.b` behind it.
    pub(super) fields: Vec<String>,
}

#[derive(Clone, Debug)]
pub(super) enum Head {
    Dot,
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Variable(String),
    Function(functions::Function),
    Pipe(Box<Pipe>),
}

/// Variables that every alert's template has.
pub(super) const GIVEN: [&str; 5] = ["$", "$labels", "$externalLabels", "$externalURL", "$value"];

/// How a list of nodes ended.
enum Close {
    Text,
    End,
    Else(Vec<Placed>),
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    line: usize,
    variables: Vec<String>,
    depth: usize,
    found: Found,
}

/// What else is to be known of a template.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// What comes out may change with the value alone.
    pub(super) speaks_of_value: bool,
    /// The first function that asks what nobody answers.
    pub(super) asks_promql: Option<&'static str>,
}

type Parsed<T> = Result<T, TemplateError>;

pub(super) fn parse(text: &str) -> Parsed<(Vec<Node>, Found)> {
    let mut parser = Parser {
        pieces: lex(text)?.into_iter(),
        line: 1,
        variables: GIVEN.map(str::to_string).to_vec(),
        depth: 0,
        found: Found::default(),
    };
    let (nodes, end) = parser.list()?;
    match end {
        Close::Text => Ok((nodes, parser.found)),
        Close::End => parser.error("unexpected {{end}}"),
        Close::Else(_) => parser.error("unexpected {{else}}"),
    }
}

impl Parser {
    fn error<T>(&self, message: impl Into<String>) -> Parsed<T> {
        Err(TemplateError { line: self.line, message: message.into() })
    }

    fn deeper(&mut self) -> Parsed<()> {
        self.depth += 1;
        match self.depth > DEPTH_MAX {
            true => self.error(format!("nested deeper than {DEPTH_MAX}")),
            false => Ok(()),
        }
    }

    fn list(&mut self) -> Parsed<(Vec<Node>, Close)> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let (line, tokens) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action { line, tokens } => (line, tokens),
            };
            self.line = line;
            let word = match tokens.first() {
                Some(Placed { token: Token::Word(word), .. }) => word.as_str(),
                Some(_) => "",
                None => return self.error("missing value for command"),
            };
            match word {
                "end" if tokens.len() == 1 => return Ok((nodes, Close::End)),
                "end" => return self.error("unexpected token in end"),
                "else" => return Ok((nodes, Close::Else(tokens[1..].to_vec()))),
                "if" | "with" => {
                    let word = word.to_string();
                    nodes.push(self.branches(&word, &tokens[1..])?);
                }
                "range" => nodes.push(self.range(&tokens[1..])?),
                "define" | "template" | "block" | "break" | "continue" => {
                    return self.error(format!("{{{{{word}}}}} is not supported"));
                }
                _ => nodes.push(Node::Action(self.pipe_of(&tokens, "command", 1)?)),
            }
        }
        Ok((nodes, Close::Text))
    }

    /// `if` and `with`, with all that follows up to `end`.
    fn branches(&mut self, word: &str, tokens: &[Placed]) -> Parsed<Node> {
        self.deeper()?;
        let known = self.variables.len();
        let mut arms = Vec::new();
        let mut otherwise = Vec::new();
        let mut pipe = self.pipe_of(tokens, word, 1)?;
        loop {
            let (body, end) = self.list()?;
            arms.push(Arm { pipe, body });
            match end {
                Close::End => break,
                Close::Text => return self.error("unexpected EOF"),
                Close::Else(tokens) if tokens.is_empty() => {
                    otherwise = self.last_list()?;
                    break;
                }
                Close::Else(tokens) if tokens[0].token == Token::Word(word.to_string()) => {
                    pipe = self.pipe_of(&tokens[1..], word, 1)?;
                }
                Close::Else(_) => return self.error("unexpected token in else"),
            }
        }
        self.variables.truncate(known);
        self.depth -= 1;
        Ok(match word {
            "if" => Node::If { arms, otherwise },
            _ => Node::With { arms, otherwise },
        })
    }

    fn range(&mut self, tokens: &[Placed]) -> Parsed<Node> {
        self.deeper()?;
        let known = self.variables.len();
        let pipe = self.pipe_of(tokens, "range", 2)?;
        let (body, end) = self.list()?;
        let otherwise = match end {
            Close::End => Vec::new(),
            Close::Else(tokens) if tokens.is_empty() => self.last_list()?,
            Close::Else(_) => return self.error("unexpected token in else"),
            Close::Text => return self.error("unexpected EOF"),
        };
        self.variables.truncate(known);
        self.depth -= 1;
        Ok(Node::Range { arm: Arm { pipe, body }, otherwise })
    }

    /// What follows an `else`, up to `end`.
    fn last_list(&mut self) -> Parsed<Vec<Node>> {
        match self.list()? {
            (nodes, Close::End) => Ok(nodes),
            (_, Close::Text) => self.error("unexpected EOF"),
            (_, Close::Else(_)) => self.error("expected end; found {{else}}"),
        }
    }

    /// A whole action's pipeline, with what it declares.
    fn pipe_of(&mut self, tokens: &[Placed], context: &str, targets_max: usize) -> Parsed<Pipe> {
        let mut rest = tokens;
        let (targets, declares) = self.targets(&mut rest, targets_max)?;
        let mut pipe = self.pipe(&mut rest, context)?;
        if let Some(token) = rest.first() {
            return self.error(format!("unexpected {} in {context}", shown(&token.token)));
        }
        match declares {
            // Known from here on, not in its own value.
            true => self.variables.extend(targets.iter().cloned()),
            false => targets.iter().try_for_each(|name| self.known(name))?,
        }
        pipe.targets = targets;
        pipe.declares = declares;
        Ok(pipe)
    }

    /// `$x :=`, `$x =`, `$k, $v :=`, or nothing.
    fn targets(&self, rest: &mut &[Placed], targets_max: usize) -> Parsed<(Vec<String>, bool)> {
        let mut names = Vec::new();
        let mut tokens = rest.iter();
        while let Some(Placed { token: Token::Variable(name), .. }) = tokens.next() {
            names.push(name.clone());
            match tokens.next().map(|placed| &placed.token) {
                Some(Token::Sign(",")) => {}
                Some(Token::Sign(sign @ (":=" | "="))) => {
                    if names.len() > targets_max {
                        return self.error("too many declarations");
                    }
                    *rest = tokens.as_slice();
                    return Ok((names, *sign == ":="));
                }
                _ => break,
            }
        }
        Ok((Vec::new(), false))
    }

    /// Commands up to the end or a closing parenthesis.
    fn pipe(&mut self, rest: &mut &[Placed], context: &str) -> Parsed<Pipe> {
        let line = rest.first().map_or(self.line, |first| first.line);
        let mut commands = vec![Vec::new()];
        while let Some((first, tail)) = rest.split_first() {
            self.line = first.line;
            match &first.token {
                Token::Sign(")") => break,
                Token::Sign("|") => {
                    *rest = tail;
                    commands.push(Vec::new());
                }
                _ => {
                    let operand = self.operand(rest)?;
                    commands.last_mut().expect("one at least").push(operand);
                }
            }
        }
        if commands.iter().any(Vec::is_empty) {
            return self.error(format!("missing value for {context}"));
        }
        for command in &commands[1..] {
            if !matches!(command[0].head, Head::Function(_)) {
                return self.error("non executable command in pipeline");
            }
        }
        for command in &commands {
            let called = matches!(command[0].head, Head::Function(_));
            if command.len() > 1 && !called {
                return self.error(format!("can't give argument to non-function in {context}"));
            }
        }
        Ok(Pipe { line, targets: Vec::new(), declares: false, commands })
    }

    fn operand(&mut self, rest: &mut &[Placed]) -> Parsed<Operand> {
        let Some((first, tail)) = rest.split_first() else { return self.error("unexpected EOF") };
        *rest = tail;
        let mut fields = Vec::new();
        let head = match &first.token {
            Token::Field(name) => {
                if !name.is_empty() {
                    fields.push(name.clone());
                }
                self.found.speaks_of_value |= name == "Value";
                Head::Dot
            }
            Token::Variable(name) => {
                self.known(name)?;
                self.found.speaks_of_value |= name == "$value";
                Head::Variable(name.clone())
            }
            Token::Word(word) => match word.as_str() {
                "true" => Head::Bool(true),
                "false" => Head::Bool(false),
                "nil" => Head::Nil,
                word => {
                    let function = functions::find(word).or_else(|why| self.error(why))?;
                    if function.asks_promql() {
                        self.found.asks_promql.get_or_insert(function.name);
                    }
                    Head::Function(function)
                }
            },
            Token::Text(text) => Head::Text(text.clone()),
            Token::Int(number) => Head::Int(*number),
            Token::Float(number) => Head::Float(*number),
            Token::Sign("(") => {
                self.deeper()?;
                let pipe = self.pipe(rest, "parenthesized pipeline")?;
                let Some((Placed { token: Token::Sign(")"), .. }, tail)) = rest.split_first()
                else {
                    return self.error("unclosed left paren");
                };
                *rest = tail;
                self.depth -= 1;
                Head::Pipe(Box::new(pipe))
            }
            Token::Sign(sign) => return self.error(format!("unexpected {sign:?} in operand")),
        };
        while let Some((Placed { token: Token::Field(name), joined: true, .. }, tail)) =
            rest.split_first()
        {
            if name.is_empty() || !takes_fields(&head) {
                return self.error("unexpected . after term");
            }
            self.found.speaks_of_value |= name == "Value";
            fields.push(name.clone());
            *rest = tail;
        }
        Ok(Operand { head, fields })
    }

    fn known(&self, name: &str) -> Parsed<()> {
        match self.variables.iter().any(|known| known == name) {
            true => Ok(()),
            false => self.error(format!("undefined variable {name:?}")),
        }
    }
}

fn takes_fields(head: &Head) -> bool {
    matches!(head, Head::Dot | Head::Variable(_) | Head::Pipe(_))
}

fn shown(token: &Token) -> String {
    match token {
        Token::Word(word) | Token::Variable(word) => format!("<{word}>"),
        Token::Field(name) => format!("<.{name}>"),
        Token::Text(text) => format!("{text:?}"),
        Token::Int(number) => number.to_string(),
        Token::Float(number) => number.to_string(),
        Token::Sign(sign) => format!("{sign:?}"),
    }
}
