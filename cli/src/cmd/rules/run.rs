//! Answers a test's expressions with the offline engine: the test's rows as files of a folder of its own, each
//! look at a rule a `run --rows` at its time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};
use weir_cluster::judge::{self, Judge};
use weir_cluster::planner::{self, Prepared};
use weir_rules::check::ExprProblem;
use weir_rules::file::{Rule, RuleFile};
use weir_rules::state::{Columns, Row};
use weir_rules::unit::{self, Evaluate, Input, TestFile};

use crate::failure::Failure;
use crate::{offline, script};

pub(super) fn run(path: &Path, tests: &TestFile, rules: &[(String, RuleFile)]) -> Vec<String> {
    let views = judge::views_of(rules.iter().map(|(_, file)| file));
    let path = path.display().to_string();
    let judge = Judge::new(views, &script::allowance);
    unit::run(&path, tests, rules, &mut Offline { folder: None, judge, prepared: BTreeMap::new() })
}

struct Offline {
    folder: Option<Folder>,
    /// It knows what the files record.
    judge: Judge<'static>,
    /// Each expression is compiled once, however often it is looked at.
    prepared: BTreeMap<String, Prepared>,
}

/// Not a table, but what Kubernetes knows.
const OBJECTS: &str = "objects";

fn lines_of(rows: &[Map<String, Json>]) -> String {
    let mut lines = String::new();
    for row in rows {
        lines.push_str(&Json::Object(row.clone()).to_string());
        lines.push('\n');
    }
    lines
}

/// A folder that is gone with its owner.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is the temporary folder's.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn new() -> std::io::Result<Folder> {
        let mut name = [0u8; 8];
        rustix::rand::getrandom(&mut name, rustix::rand::GetRandomFlags::empty())?;
        let path =
            std::env::temp_dir().join(format!("weir-rules-{:016x}", u64::from_ne_bytes(name)));
        std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
            .create(&path)?;
        Ok(Folder(path))
    }
}

/// The text of a failure; a script's diagnostics have been told by then.
fn text(failure: Failure) -> String {
    match failure {
        Failure::No(text) | Failure::Usage(text) | Failure::Unreachable(text) => text,
        Failure::Script { message, .. } => message,
        Failure::Interrupted => "interrupted".to_string(),
    }
}

impl Evaluate for Offline {
    fn begin(&mut self, input: &Input) -> Result<(), String> {
        let folder = Folder::new().map_err(|error| format!("could not make a folder: {error}"))?;
        for (table, rows) in input {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
            if table.is_empty() || table.starts_with('.') || !table.chars().all(plain) {
                return Err(format!("{table:?} is no name of a table"));
            }
            // What Kubernetes knows is no table: it is a list as kubectl prints it.
            let (file, text) = match table == OBJECTS {
                true => {
                    let list = json!({"apiVersion": "v1", "kind": "List", "items": rows});
                    (format!("{table}.json"), list.to_string())
                }
                false => (format!("{table}.jsonl"), lines_of(rows)),
            };
            std::fs::write(folder.0.join(file), text)
                .map_err(|error| format!("could not write rows: {error}"))?;
        }
        self.folder = Some(folder);
        Ok(())
    }

    fn columns(&mut self, rule: &Rule) -> Result<Columns, String> {
        let message = |problems: Vec<ExprProblem>| {
            problems.first().map_or_else(String::new, |problem| problem.message.clone())
        };
        let columns = self.judge.expr(rule).map_err(message)?;
        if !self.prepared.contains_key(&rule.expr) {
            let request = self.judge.request_of(rule);
            let prepared = planner::prepare(&request, 1, None, &|_| true);
            let prepared = prepared.map_err(|error| error.to_string())?;
            self.prepared.insert(rule.expr.clone(), prepared);
        }
        Ok(columns)
    }

    fn rows(
        &mut self,
        rule: &Rule,
        columns: &Columns,
        at_unix_ns: i64,
    ) -> Result<Vec<Row>, String> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let prepared = self.prepared.get(&rule.expr).ok_or("it was not compiled")?.clone();
        let answer = offline::answer(prepared, &folder.0, Some(at_unix_ns), false).map_err(text)?;
        let table = answer.tables.first().ok_or("the expression displays no table")?;
        let types = table.relation.types();
        let rows = table.rows.iter().flat_map(|(row, count)| {
            let row = row.unpack(&types).map(|values| columns.row(&values));
            row.into_iter()
                .flat_map(move |row| std::iter::repeat_n(row, usize::try_from(*count).unwrap_or(0)))
        });
        Ok(rows.collect())
    }
}
