//! How each watch is, for those who ask what is missing and why.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{info, warn};

use super::kinds::Watched;
use crate::metadata::k8s::objects::Kind;

/// Longest text of an error.
const ERROR_CHARS_MAX: usize = 300;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum WatchState {
    /// It was not listed yet.
    #[default]
    Listing,
    /// What there is was listed, and changes come in.
    Synced,
    /// We may not read it: what cannot be done to which resource.
    Forbidden(String),
    /// The server says something else, or nothing.
    Failed(String),
}

/// Of one kind. Counts since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindState {
    pub state: WatchState,
    pub changes_total: u64,
    pub listed_total: u64,
    /// Objects that were too large, or had a field of another type.
    pub refused_total: u64,
    pub errors_total: u64,
}

/// Of all kinds, for several threads.
#[derive(Clone, Debug, Default)]
pub(super) struct States(Arc<Mutex<BTreeMap<Kind, (Watched, KindState)>>>);

impl States {
    pub(super) fn of(&self, watched: &Watched, change: impl FnOnce(&mut KindState)) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, state) =
            all.entry(watched.kind).or_insert_with(|| (*watched, KindState::default()));
        change(state);
    }

    pub(super) fn all(&self) -> BTreeMap<Kind, (Watched, KindState)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// It is said once, when it begins and when it is over: how it goes on is in the state.
    pub(super) fn becomes(&self, watched: &Watched, to: WatchState) {
        let mut from = WatchState::Listing;
        self.of(watched, |state| from = std::mem::replace(&mut state.state, to.clone()));
        let is_wrong =
            |state: &WatchState| matches!(state, WatchState::Forbidden(_) | WatchState::Failed(_));
        let resource = watched.plural;
        match &to {
            WatchState::Forbidden(why) | WatchState::Failed(why) if !is_wrong(&from) => {
                warn!(
                    resource,
                    why, "Kubernetes: cannot be watched for now, asked again and again"
                );
            }
            WatchState::Synced if is_wrong(&from) => {
                info!(resource, "Kubernetes: is watched again")
            }
            _ => {}
        }
    }
}

/// What is said of an error, bounded.
pub(super) fn bounded(text: &str) -> String {
    match text.char_indices().nth(ERROR_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}
