//! What table functions are answered that somebody reads.

use weir_engine::history::History;
use weir_proto::FromNode;

use super::NodeCore;
use crate::agent::Agent;

/// All answers of table functions are told again so often.
const ANSWERS_WHOLE_EVERY_MS: u64 = 10_000;

impl NodeCore {
    /// True if a table function was asked for and has not been answered.
    #[must_use]
    pub fn owes_answers(&self) -> bool {
        self.answers.values().any(Option::is_none)
    }

    /// Sends what changed of the table functions that are asked for; now and then all of it, since
    /// what was sent may have been lost.
    pub fn answer(&mut self, agent: &mut Agent, now_ms: u64) {
        let mut answers = std::mem::take(&mut self.answers);
        if now_ms.abs_diff(self.answers_whole_ms) >= ANSWERS_WHOLE_EVERY_MS {
            self.answers_whole_ms = now_ms;
            answers.values_mut().for_each(|last| *last = None);
        }
        let history = self.history.as_ref().map(History::stats).unwrap_or_default();
        for (function, last) in &mut answers {
            let rows = agent.rows(&self.info, function, &history);
            if last.as_ref() == Some(&rows) {
                continue;
            }
            let sequence = self.answers_told;
            let (function, told) = (function.clone(), rows.clone());
            if self.send(FromNode::Answer { sequence, function, rows: told }) {
                self.answers_told += 1;
                *last = Some(rows);
            }
        }
        self.answers = answers;
    }
}
