//! Where messages of a side begin, that come in fragments.
//!
//! Fragments of several messages are mixed; all have the head of the first, and only the last one says that it
//! is. Where frames were lost, a frame may be the rest of a message whose beginning was: it is taken for a
//! beginning if it can hardly be anything else, or if the last message of its tag was seen to end.

use hashbrown::HashSet;

use super::parse::FrameHead;
use super::shape::Shape;

/// Messages of a side that have begun; a peer has some dozens, one for each request under way.
const BEGUN_MAX: usize = 4_096;
/// Tags that are remembered behind a loss.
const ENDED_MAX: usize = 8_192;

type Tags<T> = HashSet<T, foldhash::fast::RandomState>;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The beginning of a message, or all of it.
    Begin,
    /// What was begun goes on, or ends.
    More,
    /// Perhaps a beginning.
    Unsure,
    /// Perhaps a beginning, of more than can be told apart.
    Untold,
    /// No message begins so, and nothing is missing in front of it.
    Wrong,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Fragments {
    begun: Tags<(i8, u32)>,
    /// Messages of this connection may come in fragments.
    are_used: bool,
    /// Behind a loss: tags whose last message has ended since.
    ended: Option<Tags<u32>>,
}

impl Fragments {
    pub(super) fn new(from_start: bool) -> Fragments {
        let ended = (!from_start).then(Tags::default);
        Fragments { begun: Tags::default(), are_used: !from_start, ended }
    }

    /// Takes a frame of a type that has fragments.
    pub(super) fn frame(&mut self, head: &FrameHead, shape: Shape) -> Part {
        let key = (head.kind, head.tag);
        if self.begun.contains(&key) {
            if !head.goes_on {
                self.begun.remove(&key);
                self.has_ended(head.tag);
            }
            return Part::More;
        }
        let part = match (&self.ended, shape) {
            (None, Shape::None) => return Part::Wrong,
            (Some(_), Shape::None) => Part::Unsure,
            (None, _) | (_, Shape::Certain) => Part::Begin,
            (Some(ended), _) if !self.are_used || ended.contains(&head.tag) => Part::Begin,
            (Some(_), _) => Part::Unsure,
        };
        if head.goes_on {
            self.are_used = true;
            if self.begun.len() >= BEGUN_MAX {
                return Part::Untold;
            }
            self.begun.insert(key);
        } else {
            self.has_ended(head.tag);
        }
        part
    }

    fn has_ended(&mut self, tag: u32) {
        if let Some(ended) = &mut self.ended
            && ended.len() < ENDED_MAX
        {
            ended.insert(tag);
        }
    }

    /// Nothing more of a message comes. Whether it had begun.
    pub(super) fn broken_off(&mut self, kinds: [i8; 2], tag: u32) -> bool {
        let found = kinds.map(|kind| self.begun.remove(&(kind, tag)));
        let had_begun = found.contains(&true);
        if had_begun {
            self.has_ended(tag);
        }
        had_begun
    }

    /// Frames are missing.
    pub(super) fn lost(&mut self) {
        self.begun.clear();
        self.ended = Some(Tags::default());
    }

    pub(super) fn held_bytes(&self) -> usize {
        let ended = self.ended.as_ref().map_or(0, Tags::capacity);
        self.begun.capacity() * (size_of::<(i8, u32)>() + 1) + ended * (size_of::<u32>() + 1)
    }
}
