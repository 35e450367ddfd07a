//! The text of a file that somebody named, no longer than it may be. What is in it, and what to say of it, is the
//! caller's matter.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// `None`: it is longer than this.
pub(crate) fn read(path: &Path, bytes_max: u64) -> io::Result<Option<String>> {
    let mut text = String::new();
    File::open(path)?.take(bytes_max + 1).read_to_string(&mut text)?;
    Ok(Some(text).filter(|text| text.len() as u64 <= bytes_max))
}
