//! Which receivers there are: those that stay go on, others end, and what waits for one goes along to its successor.

use std::sync::Arc;
use std::time::Duration;

use tracing::warn;
use weir_actors::Stop;

use super::Owner;
use crate::service::alerts::ReceiverSpec;
use crate::service::alerts::queue::Queue;
use crate::service::alerts::send::Receiver;

/// A receiver that is in the middle of an attempt is left behind.
const RECEIVER_STOP_MAX: Duration = Duration::from_secs(1);

impl Owner<'_> {
    pub(super) fn load_receivers(&mut self, specs: &[ReceiverSpec]) -> Vec<String> {
        let mut done = Vec::new();
        let mut old = std::mem::take(&mut self.kept.receivers);
        for spec in specs {
            let at = old.iter().position(|receiver| receiver.name == spec.name);
            let before = at.map(|at| old.remove(at));
            if let Some(same) = before.as_ref().filter(|before| before.print == spec.print) {
                // What it says when something was sent is the present owner's to hear.
                self.listen(same);
                self.kept.receivers.extend(before);
                continue;
            }
            let begun = match before {
                Some(_) => format!("receiver {} goes on elsewhere", spec.name),
                None => format!("receiver {} started", spec.name),
            };
            let waiting = before.map(|before| before.queue.waiting()).unwrap_or_default();
            let queue = Arc::new(Queue::new(spec.sender.is_state()));
            let ended = Arc::clone(&queue);
            // What waits stays there, to be kept.
            let stop = Stop::call(RECEIVER_STOP_MAX, move || ended.end());
            let part = self.switch.part(&spec.name, stop);
            let clock = Arc::clone(&self.service.clock);
            match Receiver::start(&spec.name, &spec.print, &spec.sender, queue, part, clock) {
                Ok(receiver) => {
                    self.listen(&receiver);
                    receiver.queue.push(waiting);
                    self.kept.receivers.push(receiver);
                    done.push(begun);
                }
                Err(error) => {
                    warn!(receiver = spec.name, %error, "no thread for a receiver");
                    self.kept.abandon(&spec.name, waiting.len());
                }
            }
        }
        for receiver in old {
            // Of what is, nobody needs to be told once more.
            let waiting = if receiver.is_state() { 0 } else { receiver.queue.counts().0 };
            self.kept.abandon(&receiver.name, waiting);
            done.push(format!("receiver {} ended", receiver.name));
        }
        done
    }

    /// Hears when something has left the receiver's queue, where that is kept.
    fn listen(&self, receiver: &Receiver) {
        if !receiver.is_state() {
            receiver.tells(Arc::clone(&self.sent));
        }
    }
}
