//! What earlier packets of a connection say of later ones: the version, and the topics that numbers stand
//! for.

use hashbrown::HashMap;

use super::types::LEVEL_5;
use crate::Side;

/// Numbers of topics that are remembered, a direction, and what their texts hold together.
const ALIASES_MAX: usize = 1_024;
const ALIASES_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Default)]
struct Aliases {
    topics: HashMap<u16, Box<[u8]>, foldhash::fast::RandomState>,
    held_bytes: usize,
}

impl Aliases {
    fn set(&mut self, alias: u16, topic: &[u8]) {
        if let Some(before) = self.topics.remove(&alias) {
            self.held_bytes -= before.len();
        }
        // One that finds no room is not known: its packets have no topic.
        if self.topics.len() < ALIASES_MAX && self.held_bytes + topic.len() <= ALIASES_BYTES_MAX {
            self.held_bytes += topic.len();
            self.topics.insert(alias, topic.into());
        }
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Session {
    level: Option<u8>,
    aliases: [Aliases; 2],
}

impl Session {
    /// The protocol level, if it is known.
    pub(super) fn level(&self) -> Option<u8> {
        self.level
    }

    /// A packet says which it is, or can be of no other.
    pub(super) fn has_level(&mut self, level: u8) {
        self.level = Some(level);
    }

    /// The topic of a packet that has such a number, and may have the topic as well.
    pub(super) fn topic<'a>(&'a mut self, side: Side, alias: u16, topic: &'a [u8]) -> &'a [u8] {
        let aliases = &mut self.aliases[side as usize];
        self.level = Some(LEVEL_5);
        if topic.is_empty() {
            return aliases.topics.get(&alias).map_or(topic, |known| known);
        }
        aliases.set(alias, topic);
        topic
    }

    /// Packets of a side are missing: they may have given numbers to other topics.
    pub(super) fn lost(&mut self, side: Side) {
        self.aliases[side as usize] = Aliases::default();
    }

    pub(super) fn held_bytes(&self) -> usize {
        let of_one = |aliases: &Aliases| {
            aliases.held_bytes + aliases.topics.capacity() * (size_of::<(u16, Box<[u8]>)>() + 1)
        };
        self.aliases.iter().map(of_one).sum()
    }
}
