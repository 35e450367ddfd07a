//! Sessions of browsers. A login exchanges the token for a session of its own, whose random id is the
//! cookie: a browser sends cookies to every port of a host, so what it sends must not be the master
//! key. Sessions end by logout, by age, or when newer ones need the room; a websocket ends with the
//! session that opened it. They outlive a restart, so that open tabs come back by themselves, but
//! not the token by which they were made.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::counters::Counters;

/// A session's age at its end: a page on a wall logs in once a week.
pub(super) const SESSION_SECS_MAX: u64 = 7 * 24 * 3600;
/// Browsers and profiles of one user; beyond this the one that was used longest ago ends.
pub(super) const SESSIONS_MAX: usize = 64;
/// Randomness of an id: nobody guesses one.
const ID_BYTES: usize = 32;

/// Keeps the text of all sessions over a restart.
pub type SaveSessions = Arc<dyn Fn(&str) -> io::Result<()> + Send + Sync>;

struct Session {
    expires_unix_s: u64,
    /// Order of use.
    used: u64,
    /// Dropped with the session, which its websockets notice.
    alive: watch::Sender<()>,
}

#[derive(Default)]
struct Table {
    /// Looked up by a keyed hash, so time says nothing about which ids are near.
    by_id: HashMap<String, Session>,
    uses: u64,
}

/// What is kept over a restart. The token beside it opens more, so ids are kept as they are.
#[derive(Deserialize, Serialize)]
struct Saved {
    /// Sessions are void once the server has another one.
    token: String,
    /// Least recently used first.
    sessions: Vec<SavedSession>,
}

#[derive(Deserialize, Serialize)]
struct SavedSession {
    id: String,
    expires_unix_s: u64,
}

/// All sessions of a server.
pub(super) struct Sessions {
    token: String,
    table: Mutex<Table>,
    save: SaveSessions,
    /// Held while saving: the newest state is the last one written.
    saving: Mutex<()>,
    counters: Arc<Counters>,
}

impl Sessions {
    /// Takes over what an earlier server of this token has saved; unreadable text is none.
    pub(super) fn restore(
        token: String,
        saved: &str,
        save: SaveSessions,
        counters: Arc<Counters>,
    ) -> Sessions {
        let mut table = Table::default();
        let saved = serde_json::from_str::<Saved>(saved).ok();
        for session in
            saved.filter(|saved| saved.token == token).into_iter().flat_map(|s| s.sessions)
        {
            if session.id.len() == 2 * ID_BYTES && table.by_id.len() < SESSIONS_MAX {
                table.insert(session.id, session.expires_unix_s);
            }
        }
        Sessions { token, table: Mutex::new(table), save, saving: Mutex::default(), counters }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new session's id.
    pub(super) fn create(&self, now_unix_s: u64) -> io::Result<String> {
        let mut bytes = [0u8; ID_BYTES];
        let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        if got != ID_BYTES {
            return Err(io::Error::other("the kernel gave too little randomness"));
        }
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut table = self.lock();
        table.by_id.retain(|_, session| session.expires_unix_s > now_unix_s);
        while table.by_id.len() >= SESSIONS_MAX && table.evict() {
            self.counters.sessions_evicted.fetch_add(1, Ordering::Relaxed);
        }
        table.insert(id.clone(), now_unix_s + SESSION_SECS_MAX);
        Ok(id)
    }

    /// If `id` is a session's: what is over when the session is.
    pub(super) fn find(
        &self,
        id: &str,
        now_unix_s: u64,
    ) -> Option<impl Future<Output = ()> + use<>> {
        let mut table = self.lock();
        table.uses += 1;
        let uses = table.uses;
        let session = table.by_id.get_mut(id)?;
        let left_secs = session.expires_unix_s.checked_sub(now_unix_s).filter(|left| *left > 0)?;
        session.used = uses;
        let mut alive = session.alive.subscribe();
        Some(async move {
            let expiry = actix_web::rt::time::sleep(Duration::from_secs(left_secs));
            tokio::select! {
                () = expiry => {}
                // Nothing is ever sent: this returns when the sender is gone.
                _ = alive.changed() => {}
            }
        })
    }

    /// Ends one session.
    pub(super) fn revoke(&self, id: &str) {
        self.lock().by_id.remove(id);
    }

    /// Ends all sessions; how many there were.
    pub(super) fn revoke_all(&self) -> usize {
        std::mem::take(&mut self.lock().by_id).len()
    }

    pub(super) fn count(&self) -> usize {
        self.lock().by_id.len()
    }

    /// Keeps the present state for the next start. Blocks on IO.
    pub(super) fn save(&self) -> io::Result<()> {
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let saved = Saved { token: self.token.clone(), sessions: self.lock().saved() };
        (self.save)(&serde_json::to_string(&saved)?)
    }
}

impl Table {
    fn insert(&mut self, id: String, expires_unix_s: u64) {
        self.uses += 1;
        let session = Session { expires_unix_s, used: self.uses, alive: watch::Sender::new(()) };
        self.by_id.insert(id, session);
    }

    /// Ends the session that was used longest ago; false if there is none.
    fn evict(&mut self) -> bool {
        let oldest = self.by_id.iter().min_by_key(|(_, session)| session.used);
        let Some(id) = oldest.map(|(id, _)| id.clone()) else { return false };
        self.by_id.remove(&id).is_some()
    }

    fn saved(&self) -> Vec<SavedSession> {
        let mut sessions: Vec<_> = self.by_id.iter().collect();
        sessions.sort_by_key(|(_, session)| session.used);
        let saved = |(id, session): (&String, &Session)| SavedSession {
            id: id.clone(),
            expires_unix_s: session.expires_unix_s,
        };
        sessions.into_iter().map(saved).collect()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn sessions(token: &str, saved: &str) -> (Sessions, Arc<Mutex<String>>, Arc<Counters>) {
        let disk = Arc::new(Mutex::new(String::new()));
        let written = disk.clone();
        let save = Arc::new(move |text: &str| {
            *written.lock().unwrap() = text.to_string();
            Ok(())
        });
        let counters = Arc::new(Counters::default());
        (Sessions::restore(token.into(), saved, save, counters.clone()), disk, counters)
    }

    /// A session is known until it is revoked or too old, and what hangs on it ends with it.
    #[actix_web::test]
    async fn ends() {
        let (sessions, _, _) = sessions("t", "");
        let (a, b) = (sessions.create(1_000).unwrap(), sessions.create(1_000).unwrap());
        assert_ne!(a, b);
        assert_eq!(a.len(), 2 * ID_BYTES);
        let over = sessions.find(&a, 1_001).unwrap();
        let mut over = Box::pin(over);
        assert!(over.as_mut().now_or_never().is_none(), "it is alive");
        sessions.revoke(&a);
        over.await;
        assert!(sessions.find(&a, 1_001).is_none());
        assert!(sessions.find(&b, 1_000 + SESSION_SECS_MAX - 1).is_some());
        assert!(sessions.find(&b, 1_000 + SESSION_SECS_MAX).is_none(), "too old");
        assert!(sessions.find("", 1_001).is_none());
        let over = sessions.find(&b, 1_001).unwrap();
        assert_eq!(sessions.revoke_all(), 1);
        over.await;
    }

    /// There are never more than the maximum; the one that was used longest ago goes, and is counted.
    #[actix_web::test]
    async fn bounded() {
        let (sessions, _, counters) = sessions("t", "");
        let ids: Vec<String> = (0..SESSIONS_MAX).map(|_| sessions.create(0).unwrap()).collect();
        assert!(sessions.find(&ids[0], 1).is_some(), "the first is used again");
        sessions.create(1).unwrap();
        assert_eq!(sessions.count(), SESSIONS_MAX);
        assert_eq!(counters.sessions_evicted.load(Ordering::Relaxed), 1);
        assert!(sessions.find(&ids[0], 1).is_some());
        assert!(sessions.find(&ids[1], 1).is_none());
    }

    /// A restart keeps sessions, another token none, and a spoilt file is no reason not to start.
    #[actix_web::test]
    async fn outlives_a_restart() {
        let (first, disk, _) = sessions("t", "");
        let id = first.create(0).unwrap();
        first.save().unwrap();
        let text = disk.lock().unwrap().clone();
        assert!(sessions("t", &text).0.find(&id, 1).is_some());
        assert!(sessions("other", &text).0.find(&id, 1).is_none());
        assert_eq!(sessions("t", &text[..text.len() / 2]).0.count(), 0);
    }
}
