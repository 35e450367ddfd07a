//! Adds up the live messages of the contract, as a client does, and holds them to its rules: known
//! ids and tables, no zero differences, no negative count after a progress message.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::{HarnessError, Result};

/// The views of one subscription.
#[derive(Clone, Debug, Default)]
pub struct LiveView {
    /// table → row as JSON text → count.
    tables: BTreeMap<String, BTreeMap<String, i64>>,
    /// The newest progress message.
    pub progress: Option<Json>,
    pub frontiers: Vec<String>,
    pub errors: Vec<Json>,
    pub ended: Option<String>,
}

impl LiveView {
    /// Applies one line of `weir live -o jsonl` or one websocket message.
    pub fn apply_text(&mut self, line: &str) -> Result<()> {
        let message: Json = serde_json::from_str(line)
            .map_err(|error| HarnessError::Live(format!("{error}: {line}")))?;
        self.apply(&message)
    }

    pub fn apply(&mut self, message: &Json) -> Result<()> {
        let wrong = |why: &str| HarnessError::Live(format!("{why}: {message}"));
        match message["type"].as_str() {
            Some("schema") => {
                let table = message["table"].as_str().ok_or_else(|| wrong("no table"))?;
                self.tables.insert(table.to_string(), BTreeMap::new());
            }
            Some("changes") => {
                let table = message["table"].as_str().ok_or_else(|| wrong("no table"))?;
                let rows =
                    self.tables.get_mut(table).ok_or_else(|| wrong("changes before schema"))?;
                for change in message["rows"].as_array().ok_or_else(|| wrong("no rows"))? {
                    let diff = change[0].as_i64().filter(|&diff| diff != 0);
                    let diff = diff.ok_or_else(|| wrong("a difference is zero or no integer"))?;
                    if !change[1].is_object() {
                        return Err(wrong("a row is no object"));
                    }
                    let key = change[1].to_string();
                    let count = rows.entry(key.clone()).or_default();
                    *count += diff;
                    if *count == 0 {
                        rows.remove(&key);
                    }
                }
            }
            Some("progress") => self.apply_progress(message)?,
            Some("error") => self.errors.push(message.clone()),
            Some("end") => self.ended = Some(message["reason"].to_string()),
            _ => return Err(wrong("unknown type")),
        }
        Ok(())
    }

    fn apply_progress(&mut self, message: &Json) -> Result<()> {
        for (table, rows) in &self.tables {
            if let Some((row, count)) = rows.iter().find(|(_, count)| **count < 0) {
                return Err(HarnessError::Live(format!("{table} holds {count} of {row}")));
            }
        }
        let frontier = message["frontier"].as_str().unwrap_or_default().to_string();
        if self.frontiers.last().is_some_and(|last| *last > frontier) {
            return Err(HarnessError::Live(format!("the frontier went back: {message}")));
        }
        self.frontiers.push(frontier);
        self.progress = Some(message.clone());
        Ok(())
    }

    /// The rows of a table with their counts.
    pub fn rows(&self, table: &str) -> Vec<(Json, i64)> {
        self.tables
            .get(table)
            .into_iter()
            .flatten()
            .filter_map(|(row, count)| Some((serde_json::from_str(row).ok()?, *count)))
            .collect()
    }

    pub fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Changes add up, and the rules of the contract are enforced on the reader's side.
    #[test]
    fn adds_up() {
        let mut view = LiveView::default();
        for line in [
            r#"{"type":"schema","id":"q","table":"t","columns":[],"key":[],"window":null,"widgets":[]}"#,
            r#"{"type":"changes","id":"q","table":"t","tick":"2","rows":[[2,{"a":1}],[1,{"a":2}]],"snapshot":true}"#,
            r#"{"type":"progress","id":"q","frontier":"2"}"#,
            r#"{"type":"changes","id":"q","table":"t","tick":"3","rows":[[-2,{"a":1}]],"snapshot":false}"#,
        ] {
            view.apply_text(line).unwrap();
        }
        assert_eq!(view.rows("t"), [(serde_json::json!({"a": 2}), 1)]);
        assert!(view.apply_text(r#"{"type":"progress","id":"q","frontier":"1"}"#).is_err());
        assert!(view.apply_text(r#"{"type":"changes","table":"u","rows":[]}"#).is_err());
        let negative = r#"{"type":"changes","id":"q","table":"t","rows":[[-2,{"a":2}]]}"#;
        view.apply_text(negative).unwrap();
        assert!(view.apply_text(r#"{"type":"progress","id":"q","frontier":"4"}"#).is_err());
    }
}
