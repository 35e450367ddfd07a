//! Elements as objects of a store that speaks S3: each batch is one, `NAME-FIRST-LAST.jsonl` (`.csv`, `.parquet`), after
//! the numbers of its elements. An object is put whole, in one request with its checksum, so that each that is seen can
//! be read and no upload can be left half; the same elements again have the same name and replace themselves. Where to
//! go on the names say. One process writes at a time; old objects the store's own rules take away.

mod bucket;
mod role;
#[cfg(test)]
mod tests;

use crate::element::{Element, Op};
use crate::encode::{self, Codec};
use crate::file::folder::Name;
use crate::http_client::Target;
use crate::parquet;
use crate::sink::{Notes, Resume, SinkError, Writer};

use self::bucket::Store;
pub use self::role::{Authorization, Role};

/// Lines are cut into objects of about so many bytes; of Parquet `batch` says how large it becomes.
const OBJECT_BYTES_MAX: usize = 64 << 20;
/// A key has no more bytes, says S3.
const KEY_BYTES_MAX: usize = 1024;
/// What numbers add to a name.
const NUMBERS_BYTES: usize = 42;

/// What an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Lines(Codec),
    Parquet,
}

/// Where objects go.
#[derive(Clone)]
pub struct S3Config {
    /// Of the store: its URL, who trusts whom, how long an attempt takes.
    pub target: Target,
    pub region: String,
    pub bucket: String,
    /// What objects are called, without their numbers: `folder/name.jsonl`.
    pub key: String,
    pub who: Who,
}

/// Who we are.
#[derive(Clone)]
pub enum Who {
    Nobody,
    Key(Access),
    /// Whose role this machine has.
    Role(Role),
}

/// The id of a key, the key, and of keys that end soon a token.
#[derive(Clone)]
pub struct Access {
    pub id: String,
    pub secret: String,
    pub token: Option<String>,
}

pub struct S3Sink {
    store: Store,
    form: Form,
    /// The folder of objects, with its `/`, and how they are called there.
    folder: String,
    name: Name,
    /// Elements up to this number are there, if that was found out.
    seq: Option<u64>,
    notes: Notes,
}

/// Bucket and key of `s3://BUCKET/KEY`.
///
/// # Errors
/// It is none of these.
pub fn parts_of(path: &str) -> Result<(&str, &str), String> {
    let parts = path.strip_prefix("s3://").and_then(|rest| rest.split_once('/'));
    let (bucket, key) = parts.ok_or("`path` of a store is s3://BUCKET/NAME")?;
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !(3..=63).contains(&bucket.len()) || !bucket.chars().all(fits) {
        return Err("a bucket is 3 to 63 letters, digits, `.`, `_` and `-`".to_string());
    }
    let is_part = |part: &str| !part.is_empty() && part != "." && part != "..";
    let is_long = key.len() + NUMBERS_BYTES > KEY_BYTES_MAX;
    if is_long || !key.split('/').all(is_part) || key.chars().any(char::is_control) {
        return Err(format!(
            "the name in a store is words with `/` between, up to {} bytes",
            KEY_BYTES_MAX - NUMBERS_BYTES
        ));
    }
    Ok((bucket, key))
}

impl S3Sink {
    /// # Errors
    /// The store's URL is none.
    pub fn new(config: S3Config, form: Form) -> Result<S3Sink, String> {
        let (folder, file) = config.key.rsplit_once('/').unwrap_or(("", &config.key));
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let name = Name::of(file);
        let store = Store::new(config)?;
        Ok(S3Sink { store, form, folder, name, seq: None, notes: Notes::default() })
    }

    /// Up to which number elements are there. An object is found by asking what comes after a name: as names are in
    /// the order of numbers, few questions find the last one, however many there are.
    fn last(&mut self) -> Result<u64, SinkError> {
        let prefix = self.folder.clone() + self.name.before_numbers().as_str();
        let after = |seq: u64| self.folder.clone() + &self.name.without_extension(seq);
        let ours = |key: &str| self.name.last_in(key.strip_prefix(&self.folder)?, 2);
        let (mut last, mut end) = (0, u64::MAX);
        let mut step = 1_u64;
        // None begins at `end` or behind it.
        while last + 1 < end {
            let from = last.saturating_add(step).min(end - 1);
            match self.store.first(&prefix, &after(from), ours)? {
                Some(found) => {
                    last = found;
                    step = step.saturating_mul(2);
                }
                None => {
                    end = from;
                    step = ((end - last) / 2).max(1);
                }
            }
        }
        Ok(last)
    }

    /// The bytes of an object, and how many of the first elements they hold.
    fn object(&mut self, elements: &[&Element]) -> Result<(Vec<u8>, usize), SinkError> {
        let codec = match self.form {
            Form::Lines(codec) => codec,
            Form::Parquet => {
                let mut bytes = Vec::new();
                self.notes.cleaned += parquet::write(&mut bytes, elements)?;
                return Ok((bytes, elements.len()));
            }
        };
        let header = elements.first().and_then(|first| encode::header(codec, &first.output));
        let mut text = header.unwrap_or_default();
        for (at, element) in elements.iter().enumerate() {
            encode::push_line(&mut text, codec, element);
            if text.len() >= OBJECT_BYTES_MAX {
                return Ok((text.into_bytes(), at + 1));
            }
        }
        Ok((text.into_bytes(), elements.len()))
    }

    fn put(&mut self, elements: &[&Element]) -> Result<usize, SinkError> {
        let (bytes, count) = self.object(elements)?;
        let held = &elements[..count];
        let (Some(first), Some(last)) = (held.first(), held.last()) else { return Ok(count) };
        let key = self.folder.clone() + &self.name.with(&[first.seq, last.seq]);
        let content_type = match self.form {
            Form::Lines(Codec::Json) => "application/x-ndjson",
            Form::Lines(Codec::Csv) => "text/csv",
            Form::Parquet => "application/vnd.apache.parquet",
        };
        self.store.put(&key, content_type, &bytes)?;
        self.seq = Some(last.seq);
        Ok(count)
    }
}

impl Writer for S3Sink {
    fn open(&mut self) -> Result<Resume, SinkError> {
        let seq = self.last()?;
        self.seq = Some(seq);
        Ok(Resume { seq, has_rows: seq > 0 })
    }

    fn write(&mut self, batch: &[&Element], safe: &mut usize) -> Result<(), SinkError> {
        let seq = match self.seq {
            Some(seq) => seq,
            None => self.open()?.seq,
        };
        // Those up to it were written before a crash, and not acknowledged.
        let leaves = |element: &Element| element.op != Op::Progress && element.seq > seq;
        let leaving: Vec<usize> = (0..batch.len()).filter(|at| leaves(batch[*at])).collect();
        let elements: Vec<&Element> = leaving.iter().map(|at| batch[*at]).collect();
        let mut done = 0;
        while done < elements.len() {
            done += self.put(&elements[done..])?;
            *safe = leaving.get(done).copied().unwrap_or(batch.len());
        }
        *safe = batch.len();
        Ok(())
    }

    /// The bucket is there, and lets us look.
    fn check(&mut self) -> Result<(), SinkError> {
        self.store.reach()
    }

    fn notes(&self) -> Notes {
        self.notes
    }
}
