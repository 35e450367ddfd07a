//! A text that many are told at about the same time, and that is made once for all of them.

use std::sync::Arc;
use std::time::Duration;

use actix::clock::Instant;
use tokio::sync::Mutex;

#[derive(Default)]
pub struct SharedText(Mutex<Option<(Instant, Arc<str>)>>);

impl SharedText {
    /// The text, made anew if it is older than this. Who asks meanwhile waits for that. `None`: it cannot be made.
    pub async fn get(
        &self,
        fresh: Duration,
        make: impl AsyncFnOnce() -> Option<String>,
    ) -> Option<Arc<str>> {
        let mut made = self.0.lock().await;
        if let Some((at, text)) = &*made
            && at.elapsed() < fresh
        {
            return Some(Arc::clone(text));
        }
        let text: Arc<str> = make().await?.into();
        *made = Some((Instant::now(), Arc::clone(&text)));
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// However many ask, it is made once while it is fresh, and again when it is not; what cannot be made is tried
    /// again by the next. Catches a text for each socket.
    #[test]
    fn one_is_made_for_all() {
        actix::System::new().block_on(async {
            let (text, made) = (SharedText::default(), Cell::new(0));
            let make = async || {
                made.set(made.get() + 1);
                (made.get() > 1).then(|| made.get().to_string())
            };
            let long = Duration::from_secs(3_600);
            assert_eq!(text.get(long, &make).await, None);
            for _ in 0..100 {
                assert_eq!(text.get(long, &make).await.as_deref(), Some("2"));
            }
            assert_eq!(text.get(Duration::ZERO, &make).await.as_deref(), Some("3"));
        });
    }
}
