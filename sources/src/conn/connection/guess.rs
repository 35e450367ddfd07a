//! What a connection speaks: found out by its bytes, given up where it was wrong, and looked for again where one
//! protocol gives way to another. What protocols look like is not here ([`infer`]).

use weir_protocols::protocol::Opening;
use weir_protocols::{Counters, PROTOCOLS};

use super::socks::front;
use super::{Connection, Look, State};
use crate::capture::{DataEvent, Direction, Opened};
use crate::conn::infer::{Inference, infer};

/// Wrong guesses, after which nothing more is guessed.
const WRONG_GUESSES_MAX: u8 = 3;
/// Bytes kept while the protocol is not known; older ones are skipped.
const UNDECIDED_BYTES_MAX: usize = 64 * 1024;

impl Connection {
    /// What was taken for a protocol that it is not, is looked at again, from this event on. Where it was understood
    /// before, what waits is lost: of all else nobody knows that it is anything.
    pub(super) fn give_up_wrong_guess(&mut self, look: &mut Look<'_, '_>) {
        let State::Known { protocol, parser, .. } = &mut self.state else { return };
        if !parser.is_wrong() {
            return;
        }
        if parser.counters().exchanges > 0
            && let Some(shared) = look.shared[*protocol].as_deref_mut()
        {
            parser.give_up(shared);
            self.given_up.push((*protocol, parser.counters().since(self.counters_taken)));
        }
        self.wrong_guesses += 1;
        self.protocol = 0;
        self.counters_taken = Counters::default();
        match self.wrong_guesses > WRONG_GUESSES_MAX {
            true => self.stop_reading(),
            false => self.state = State::Undecided { events_seen: 0 },
        }
    }

    pub(super) fn infer(&mut self, event: &DataEvent<'_>, events_seen: u32) {
        self.look_at(event, events_seen, false);
    }

    /// Looks at what is left of an event behind a protocol that has given way: a message begins there.
    pub(super) fn infer_rest(&mut self, event: &DataEvent<'_>) {
        self.look_at(&DataEvent { payload: &[], ..*event }, 0, true);
    }

    /// Steps over what was said to a proxy, once all of it has come.
    fn step_over_proxy(&mut self) {
        let streams = [&mut self.ingress, &mut self.egress];
        if self.moved != [true; 2] || streams.iter().any(|stream| stream.position() > 0) {
            return;
        }
        let [ingress, egress] = streams;
        let (client, proxy) = match self.ends.socket.opened {
            Opened::Accepted => (ingress, egress),
            Opened::Connected => (egress, ingress),
            Opened::Unknown => return,
        };
        let Some(front) = front(client.unread(), proxy.unread()) else { return };
        client.skip(front.client_bytes as u64);
        proxy.skip(front.proxy_bytes as u64);
        self.begins = [self.ingress.position(), self.egress.position()];
    }

    fn look_at(&mut self, event: &DataEvent<'_>, events_seen: u32, is_rest: bool) {
        self.step_over_proxy();
        let (stream, begins) = match event.direction {
            Direction::Ingress => (&mut self.ingress, self.begins[0]),
            Direction::Egress => (&mut self.egress, self.begins[1]),
        };
        let is_new = event.socket.opened != Opened::Unknown && stream.position() == begins;
        let is_rest = is_rest || (is_new && begins > 0);
        let start = if is_rest || stream.at_event_start() { stream.unread() } else { &[] };
        let from_start = is_rest || is_new;
        let both_sides = self.moved == [true; 2];
        match infer(event, start, events_seen, both_sides) {
            Inference::Undecided => {
                if stream.unread().len() > UNDECIDED_BYTES_MAX {
                    stream.skip_to_event();
                }
                let events_seen = events_seen + u32::from(!event.payload.is_empty());
                self.state = State::Undecided { events_seen };
            }
            Inference::Is { protocol, requests, at_start } => {
                if self.protocol == 0 {
                    self.protocol = PROTOCOLS[protocol].number;
                }
                // What came before a message that was found in the middle is none of the protocol's.
                let opening = Opening { from_start: from_start && at_start };
                match &PROTOCOLS[protocol].parsing {
                    Some(parsing) => {
                        let parser = (parsing.new)(&opening);
                        self.state = State::Known { protocol, parser, requests };
                    }
                    None => self.stop_reading(),
                }
            }
            Inference::Unknown => self.stop_reading(),
        }
    }

    /// Where a protocol has given way to another one, the next is looked for. The connection keeps the first one's name.
    pub(super) fn hand_over(&mut self) -> bool {
        let State::Known { protocol, parser, .. } = &self.state else { return false };
        if !parser.is_handed_over() {
            return false;
        }
        self.given_up.push((*protocol, parser.counters().since(self.counters_taken)));
        self.counters_taken = Counters::default();
        self.state = State::Undecided { events_seen: 0 };
        true
    }
}
