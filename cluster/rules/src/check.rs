//! `rules check`: a file's verdict, in promtool's form. Expressions are judged by who has a compiler.

use std::collections::HashSet;

use crate::file::{self, Place, Problem, Rule, RuleFile};

/// What is wrong with an expression, and where in its text; lines and columns count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExprProblem {
    pub line: usize,
    pub column: usize,
    pub message: String,
}

/// A judge of expressions.
pub type Judge<'a> = dyn FnMut(&Rule) -> Result<(), Vec<ExprProblem>> + 'a;

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub file: RuleFile,
    /// Rules that were found.
    pub rules: usize,
    /// `FILE:LINE:COLUMN: …`; a file with one is wrong.
    pub problems: Vec<String>,
    /// The same, with their places.
    pub found: Vec<Problem>,
    pub warnings: Vec<String>,
}

impl Report {
    /// More that is wrong with the file of that name.
    pub fn add(&mut self, name: &str, found: Vec<Problem>) {
        self.problems.extend(found.iter().map(|problem| shown(name, problem)));
        self.found.extend(found);
    }

    /// What is taken, but hardly meant.
    pub fn warn(&mut self, name: &str, found: &Problem) {
        self.warnings.push(shown(name, found));
    }
}

fn shown(name: &str, Problem { place, message }: &Problem) -> String {
    format!("{name}:{}:{}: {message}", place.line, place.column)
}

/// Judges a file's text. The name is the one that messages have.
pub fn check(name: &str, text: &str, judge: &mut Judge<'_>) -> Report {
    let mut report = Report::default();
    match file::parse(text) {
        Ok(file) => report.file = file,
        Err(problems) => {
            report.add(name, problems);
            return report;
        }
    }
    let file = &report.file;
    let lines: Vec<&str> = text.lines().collect();
    // A rule that is written out for several windows is told of once.
    let mut told = HashSet::new();
    let mut problems = Vec::new();
    for group in &file.groups {
        for (idx, rule) in group.rules.iter().enumerate() {
            for problem in judge(rule).err().unwrap_or_default() {
                let place = place(rule, &problem, &lines);
                let ExprProblem { message, .. } = &problem;
                let why =
                    format!("group {:?}, rule {}, {:?}: {message}", group.name, idx + 1, rule.name);
                let key = format!("{place:?} {message}");
                if told.insert(key) {
                    problems.push(Problem::new(place, why));
                }
            }
        }
    }
    report.warnings = file.warnings.iter().map(|warning| shown(name, warning)).collect();
    report.rules = file.rules().count();
    report.add(name, problems);
    report
}

/// Where a place of an expression stands in the file. In a `|` block that is exact; what YAML folds or what was
/// written out has the expression's place.
fn place(rule: &Rule, problem: &ExprProblem, lines: &[&str]) -> Place {
    let Some(expr_line) = rule.expr.lines().nth(problem.line.saturating_sub(1)) else {
        return rule.expr_place;
    };
    let line = rule.expr_place.line + problem.line.saturating_sub(1);
    let Some(file_line) = lines.get(line.saturating_sub(1)) else { return rule.expr_place };
    match file_line.find(expr_line) {
        Some(indent) if rule.expr_block || rule.expr.lines().count() == 1 => {
            Place { line, column: file_line[..indent].chars().count() + problem.column }
        }
        _ => rule.expr_place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, line: usize, column: usize) -> Report {
        let mut judge =
            |_: &Rule| Err(vec![ExprProblem { line, column, message: "no".to_string() }]);
        check("f.yml", text, &mut judge)
    }

    /// A diagnostic of an expression stands where the file has it: in a block, on one line, in quotes. Catches
    /// lines that are those of the expression.
    #[test]
    fn expressions_are_placed_in_the_file() {
        let head = "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: ";
        for (expr, line, column, wanted) in [
            (
                "|\n      import px\n      px.nope()\n",
                2,
                4,
                "f.yml:7:10: group \"g\", rule 1, \"A\": no",
            ),
            ("px.nope()\n", 1, 4, "f.yml:5:14: group \"g\", rule 1, \"A\": no"),
            ("'px.nope()'\n", 1, 4, "f.yml:5:15: group \"g\", rule 1, \"A\": no"),
            (
                ">\n      import px;\n      px.nope()\n",
                1,
                20,
                "f.yml:6:7: group \"g\", rule 1, \"A\": no",
            ),
        ] {
            let report = run(&format!("{head}{expr}"), line, column);
            assert_eq!(report.problems, [wanted], "{expr}");
            assert_eq!(report.rules, 1);
        }
        let none = check("f.yml", "", &mut |_| Ok(()));
        assert_eq!((none.rules, none.problems.len()), (0, 0));
        assert_eq!(
            run("groups: 1", 1, 1).problems,
            ["f.yml:1:9: cannot unmarshal !!int `1` into a list"]
        );
    }
}
