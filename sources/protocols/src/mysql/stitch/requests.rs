//! What the client says: commands, and what goes on with them.

use super::{Last, Mysql, Reading, Turn};
use crate::frames::{Frame, Loss, Next};
use crate::in_order::Asked as _;
use crate::mysql::command::{Reading as CommandReading, login_text};
use crate::mysql::login::Hello;
use crate::mysql::parse::{PAYLOAD_BYTES_MAX, Packet, Packets};
use crate::mysql::place::{Pack, Place};
use crate::mysql::table::write_row;
use crate::mysql::types::{Command, command, is_command, is_one_way, status};
use crate::protocol::Context;
use crate::stream::StreamBuffer;

impl Mysql {
    /// Reads a packet of the client's. `pack`: what the stream brought last, if it is unpacked.
    pub(super) fn next_request(
        &mut self,
        stream: &mut StreamBuffer,
        pack: Option<Pack>,
        ctx: &mut Context<'_>,
    ) -> Turn {
        let frame = match self.requests.next(stream, &Packets, ctx.now_unix_ns) {
            Next::Wait => return Turn::Over,
            Next::Lost(loss) => {
                self.is_whole = false;
                self.requests_lost(pack.map_or(loss, |pack| pack.loss(loss)));
                return Turn::Taken;
            }
            Next::Frame(frame) => frame,
        };
        let bytes = &stream.unread()[..frame.seen_bytes];
        let Some(packet) = Packet::of(bytes, frame.total_bytes) else {
            // Too little of it is there to say what it is.
            let loss = Loss::at(stream, ctx.now_unix_ns);
            self.requests.take(stream, frame);
            self.requests_lost(loss);
            return Turn::Taken;
        };
        // A command is packed if the login succeeds, which is not known yet.
        if self.logs_in && packet.number == 0 && self.abilities.packing().is_some() {
            return Turn::Waits;
        }
        let place = match pack {
            Some(pack) => pack.place(stream.position()),
            None => Place::of_packet(&packet, None),
        };
        // A command can begin in one pack and end in the next.
        let last_number = pack.map_or(place.number, Pack::number);
        if self.request(&packet, place, last_number, &frame, ctx) {
            self.requests.take(stream, frame);
        } else {
            let loss = self.requests.refuse(stream, ctx.now_unix_ns);
            self.is_whole = false;
            self.requests_lost(loss);
        }
        Turn::Taken
    }

    fn requests_lost(&mut self, loss: Loss) {
        self.is_new = false;
        self.last_request = Last::default();
        self.queue.requests_lost(loss);
    }

    /// A packet of the client's. False if it is none.
    fn request(
        &mut self,
        packet: &Packet<'_>,
        place: Place,
        last_number: u8,
        frame: &Frame,
        ctx: &mut Context<'_>,
    ) -> bool {
        let before = self.last_request;
        let goes_on = packet.number > 0 || before.goes_on(packet) || place.continues;
        self.last_request = Last {
            number: packet.number,
            payload_bytes: packet.payload_bytes,
            is_queued: before.is_queued && goes_on,
        };
        if self.is_new && packet.number > 0 {
            self.is_new = false;
            return self.hello(packet, frame);
        }
        // What follows a long command, a file, or what is said within a login.
        if goes_on {
            self.goes_on_to(last_number);
            if before.payload_bytes < PAYLOAD_BYTES_MAX {
                self.check_asked(frame.time_unix_ns);
            }
            return true;
        }
        self.is_new = false;
        // Behind a loss it may be a part of the file that is being sent.
        if self.reading == Reading::Response && self.results.takes_file && !before.is_queued {
            self.counters.gap += 1;
            if self.is_whole {
                self.requests_lost(Loss {
                    from_unix_ns: frame.time_unix_ns,
                    to_unix_ns: frame.time_unix_ns,
                });
            }
            return self.is_whole;
        }
        let Some(code) = packet.first() else {
            // Nobody knows which command it is, and whether it has a response.
            let at_ns = frame.time_unix_ns;
            self.requests_lost(Loss { from_unix_ns: at_ns, to_unix_ns: at_ns });
            return packet.payload_bytes > 0;
        };
        // Where nothing is missing it is a command, which the server need not know.
        let may_be_unknown = self.is_whole && self.abilities.is_known;
        if !is_command(code) && !may_be_unknown {
            self.counters.gap += u64::from(self.abilities.is_known);
            return false;
        }
        let mut reading = CommandReading {
            session: &mut self.session,
            abilities: self.abilities,
            last_prepared: &mut self.last_prepared,
            config: ctx.config,
        };
        let body = reading.body(packet);
        let begin_ns = frame.time_unix_ns;
        let mut command = Command { code, body, begin_ns, last_number, ..Command::default() };
        if code == command::CONNECT {
            // Nobody sends that as a command; what answers it is no answer to a login.
            self.counters.gap += 1;
            (command.code, command.may_be_none) = (command::SLEEP, true);
        }
        if is_one_way(code) {
            self.counters.exchanges += 1;
            write_row(ctx.rows, ctx.config, &command, (status::NONE, b""), begin_ns);
            return true;
        }
        self.push(command);
        true
    }

    /// What the client has begun goes on up to that number.
    pub(super) fn goes_on_to(&mut self, last_number: u8) {
        if self.last_request.is_queued
            && let Some(command) = self.queue.last_mut()
        {
            command.last_number = last_number;
        }
    }

    /// More comes behind a whole packet: the server has asked for it, or what was taken for a command is a part
    /// of a file.
    fn check_asked(&mut self, at_ns: i64) {
        let is_file = self.reading == Reading::Response && self.results.takes_file;
        let is_file = is_file && self.queue.requests().nth(1).is_none();
        let Some(last) = self.queue.last_mut().filter(|_| self.last_request.is_queued) else {
            return;
        };
        let is_talk = matches!(last.code, command::CONNECT | command::CHANGE_USER);
        if !is_talk && !is_file && !last.may_be_none {
            self.counters.gap += u64::from(last.is_owed());
            last.may_be_none = true;
            self.queue.requests_lost(Loss { from_unix_ns: at_ns, to_unix_ns: at_ns });
        }
    }

    fn hello(&mut self, packet: &Packet<'_>, frame: &Frame) -> bool {
        match Hello::of(packet.payload) {
            Some(Hello::Tls) => (self.is_done, self.is_encrypted) = (true, true),
            Some(Hello::Login { user, db, abilities }) => {
                self.abilities = abilities;
                self.logs_in = true;
                self.push(Command {
                    code: command::CONNECT,
                    body: login_text(user, db),
                    begin_ns: frame.time_unix_ns,
                    last_number: packet.number,
                    ..Command::default()
                });
            }
            None => return false,
        }
        true
    }

    fn push(&mut self, command: Command) {
        // It comes late: what was passed over meanwhile may have been its answer.
        if self.passed_ns >= Some(command.begin_ns) {
            self.queue.is_unsure();
        }
        let begin_ns = command.begin_ns;
        self.queue.push(command, begin_ns);
        self.last_request.is_queued = true;
    }
}
