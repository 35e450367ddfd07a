//! How all parts of a tree are: its actors, and what else lives in it. Read from outside, from any thread,
//! without asking anybody; bounded, whatever runs.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::part::Story;
use crate::status::State;

/// Parts that are listed by name; of further ones only the number is told. A server has some twenty.
pub(crate) const PARTS_LISTED_MAX: usize = 256;

/// One part: an actor, or something else that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartStatus {
    /// From the tree's root, like `weir/cluster/engine`.
    pub path: String,
    pub state: State,
    /// For how long it has been in that state.
    pub in_state: Duration,
    pub deaths: u64,
    pub restarts: u64,
    /// Why it died or was refused last; empty if it never was.
    pub last_reason: String,
}

impl PartStatus {
    pub(crate) fn new(name: &str, state: State, story: &Story) -> PartStatus {
        PartStatus {
            path: name.to_string(),
            state,
            in_state: story.since.elapsed(),
            deaths: story.deaths,
            restarts: story.restarts,
            last_reason: story.last_reason.clone(),
        }
    }

    fn below(mut self, path: &str) -> PartStatus {
        self.path = format!("{path}/{}", self.path);
        self
    }
}

/// Many parts of a kind, counted and not named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    pub path: String,
    /// State → how many are in it now.
    pub states: BTreeMap<&'static str, u64>,
    /// Of those that are gone, too.
    pub deaths: u64,
    pub restarts: u64,
    /// Of the last death that is known.
    pub last_reason: String,
}

impl GroupStatus {
    pub(crate) fn add(&mut self, part: &PartStatus) {
        *self.states.entry(part.state.name()).or_default() += 1;
        self.bury(part);
    }

    /// What is left of one that ended.
    pub(crate) fn bury(&mut self, part: &PartStatus) {
        self.deaths += part.deaths;
        self.restarts += part.restarts;
        if !part.last_reason.is_empty() {
            self.last_reason.clone_from(&part.last_reason);
        }
    }
}

/// The whole tree, in the order of starting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeStatus {
    pub parts: Vec<PartStatus>,
    pub groups: Vec<GroupStatus>,
    /// Parts above the number that is listed.
    pub unlisted: u64,
}

impl TreeStatus {
    pub(crate) fn push(&mut self, path: &str, part: PartStatus) {
        if self.parts.len() < PARTS_LISTED_MAX {
            self.parts.push(part.below(path));
        } else {
            self.unlisted += 1;
        }
    }
}
