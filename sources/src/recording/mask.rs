//! Secrets in what is recorded: overwritten in place, so that nothing moves.
//!
//! Values of headers, URL parameters, form fields and JSON members that are secrets by their name, in
//! text. It does *not* know protocols: what is compressed, or a password in a binary login, stays.

use std::collections::HashSet;

use weir_protocols::redact::{HeaderKind, Redactor};

use crate::capture::{ConnKey, Direction};

/// Header lines that go on in the next call, at a time; beyond it the rest of theirs is not known as one.
const OPEN_MAX: usize = 65_536;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Mask {
    redactor: Redactor,
    /// Directions whose last call ended within a secret line.
    open: HashSet<(ConnKey, Direction)>,
}

impl Mask {
    pub(super) fn new(redactor: Redactor) -> Mask {
        Mask { redactor, open: HashSet::new() }
    }

    /// Overwrites the secrets in the bytes of a call.
    pub(super) fn apply(&mut self, key: ConnKey, direction: Direction, bytes: &mut [u8]) {
        let mut is_secret = self.open.remove(&(key, direction));
        for line in bytes.split_inclusive_mut(|byte| *byte == b'\n') {
            let value = match name_end(line) {
                _ if is_secret => 0,
                Some(colon) if self.redactor.header(&line[..colon]) == HeaderKind::Secret => {
                    colon + 1
                }
                _ => continue,
            };
            is_secret = line.last() != Some(&b'\n');
            line[value..]
                .iter_mut()
                .filter(|byte| !b" \r\n".contains(byte))
                .for_each(|byte| *byte = b'*');
        }
        if is_secret && self.open.len() < OPEN_MAX {
            self.open.insert((key, direction));
        }
        self.redactor.mask(bytes);
    }

    pub(super) fn forget(&mut self, key: ConnKey) {
        self.open.remove(&(key, Direction::Egress));
        self.open.remove(&(key, Direction::Ingress));
    }
}

/// Where a header's name may end.
fn name_end(line: &[u8]) -> Option<usize> {
    let name = line.iter().position(|byte| !byte.is_ascii_graphic() || *byte == b':')?;
    (name > 0 && line[name] == b':').then_some(name)
}
