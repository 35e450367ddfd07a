//! Compiled patterns whose searches have an end. The `regex` crate finds one match in linear time; all
//! matches of a text may take its square, times the size of the pattern: hours for a text of a megabyte.
//!
//! A text for which even the worst is little is left to that crate. For others the same automaton is walked
//! here, step by step and counted; what is above [`WORK_MAX`] is given up. It knows no syntax of its own.

use std::ops::{ControlFlow, Range};
use std::sync::{Mutex, OnceLock, PoisonError};

use regex::bytes::{Regex, RegexBuilder};
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::captures::Captures;
use regex_automata::util::syntax;
use regex_automata::{Input, meta};

/// What the states that a pattern meets while it runs may take; they are forgotten beyond.
const STATES_BYTES_MAX: usize = 1 << 20;
/// Steps for a text that are nothing, even if each is as slow as it can be: bytes times states.
const PLAIN_WORK_MAX: u64 = 4_000_000;
/// Steps for a text, of about 2 ns: some 50 ms. A text of a megabyte may be looked at sixteen times over.
const WORK_MAX: u64 = 16_000_000;
/// A step into a set of states that is not known yet costs so much for each of the pattern's states.
const UNKNOWN_WORK: u64 = 2;

/// The text takes more work than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GaveUp;

/// Where a group of a match lies; group 0 is the match.
pub(crate) type Groups<'a> = &'a dyn Fn(usize) -> Option<Range<usize>>;

pub(crate) struct Pattern {
    plain: Regex,
    text: String,
    dot_matches_newline: bool,
    bytes_max: usize,
    /// Of the automaton.
    states: u64,
    /// Made when it is needed first; `None` if it cannot be.
    counted: OnceLock<Option<Counted>>,
}

/// The same pattern, to be walked step by step.
struct Counted {
    dfa: DFA,
    /// For the groups of a match whose end is known.
    groups: meta::Regex,
    caches: Mutex<Vec<Cache>>,
}

impl Pattern {
    pub(crate) fn new(
        text: &str,
        dot_matches_newline: bool,
        bytes_max: usize,
    ) -> Result<Pattern, regex::Error> {
        let plain = RegexBuilder::new(text)
            .dot_matches_new_line(dot_matches_newline)
            .size_limit(bytes_max)
            .dfa_size_limit(STATES_BYTES_MAX)
            .build()?;
        let mut pattern = Pattern {
            plain,
            text: text.to_string(),
            dot_matches_newline,
            bytes_max,
            states: u64::MAX,
            counted: OnceLock::new(),
        };
        if let Some(nfa) = pattern.nfa() {
            pattern.states = nfa.states().len() as u64;
        }
        Ok(pattern)
    }

    /// Groups of a match, itself included.
    pub(crate) fn groups(&self) -> usize {
        self.plain.captures_len()
    }

    fn syntax(&self) -> syntax::Config {
        syntax::Config::new().utf8(false).dot_matches_new_line(self.dot_matches_newline)
    }

    fn nfa(&self) -> Option<thompson::NFA> {
        let config = thompson::Config::new().utf8(false).nfa_size_limit(Some(self.bytes_max));
        let built =
            thompson::Compiler::new().syntax(self.syntax()).configure(config).build(&self.text);
        built.ok()
    }

    fn counted(&self) -> Option<&Counted> {
        let make = || {
            let config =
                DFA::config().cache_capacity(STATES_BYTES_MAX).skip_cache_capacity_check(true);
            let dfa = DFA::builder().configure(config).build_from_nfa(self.nfa()?).ok()?;
            let config = meta::Config::new()
                .utf8_empty(false)
                .nfa_size_limit(Some(self.bytes_max))
                .hybrid_cache_capacity(STATES_BYTES_MAX);
            let mut builder = meta::Builder::new();
            let builder = builder.syntax(self.syntax()).configure(config);
            let groups = builder.build(&self.text).ok()?;
            Some(Counted { dfa, groups, caches: Mutex::default() })
        };
        self.counted.get_or_init(make).as_ref()
    }

    /// `sharers`: so many patterns are tried on a text, and share what it may take.
    pub(crate) fn is_match(&self, text: &[u8], sharers: u64) -> Result<bool, GaveUp> {
        let steps = (text.len() as u64).saturating_mul(self.states);
        if steps <= PLAIN_WORK_MAX / sharers.max(1) {
            return Ok(self.plain.is_match(text));
        }
        let counted = self.counted().ok_or(GaveUp)?;
        let work_max = WORK_MAX / sharers.max(1);
        counted.walk(self.states, work_max, |walk| Ok(walk.end_of_match(text, 0)?.is_some()))
    }

    /// Calls `each` with every match, in order, until it breaks. What was found before it gave up stands.
    pub(crate) fn each_match(
        &self,
        text: &[u8],
        mut each: impl FnMut(Groups<'_>) -> ControlFlow<()>,
    ) -> Result<(), GaveUp> {
        let len = text.len() as u64;
        if len.saturating_mul(len).saturating_mul(self.states) <= PLAIN_WORK_MAX {
            for groups in self.plain.captures_iter(text) {
                let group = |idx| groups.get(idx).map(|group| group.range());
                if each(&group).is_break() {
                    break;
                }
            }
            return Ok(());
        }
        let counted = self.counted().ok_or(GaveUp)?;
        counted.walk(self.states, WORK_MAX, |walk| walk.each(text, each))
    }
}

impl Counted {
    fn walk<T>(
        &self,
        states: u64,
        work_max: u64,
        with: impl FnOnce(&mut Walk<'_>) -> Result<T, GaveUp>,
    ) -> Result<T, GaveUp> {
        let lock = || self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        let cache = lock().pop().unwrap_or_else(|| self.dfa.create_cache());
        let mut walk = Walk { counted: self, cache, states, left: work_max };
        let result = with(&mut walk);
        lock().push(walk.cache);
        result
    }
}

/// A search through one text, and how much it may still take.
struct Walk<'a> {
    counted: &'a Counted,
    cache: Cache,
    states: u64,
    left: u64,
}

impl Walk<'_> {
    fn each(
        &mut self,
        text: &[u8],
        mut each: impl FnMut(Groups<'_>) -> ControlFlow<()>,
    ) -> Result<(), GaveUp> {
        let mut captures = self.counted.groups.create_captures();
        let (mut from, mut last_end) = (0, None);
        while from <= text.len() && self.find(text, from, &mut captures)? {
            let found = captures.get_match().ok_or(GaveUp)?;
            // An empty match right behind the last one is none.
            if found.is_empty() && last_end == Some(found.end()) {
                from += 1;
                continue;
            }
            let group = |idx| captures.get_group(idx).map(|group| group.range());
            if each(&group).is_break() {
                break;
            }
            from = found.end();
            last_end = Some(from);
        }
        Ok(())
    }

    fn spend(&mut self, work: u64) -> Result<(), GaveUp> {
        self.left = self.left.checked_sub(work).ok_or(GaveUp)?;
        Ok(())
    }

    /// The leftmost match from `from` on, with its groups.
    fn find(&mut self, text: &[u8], from: usize, captures: &mut Captures) -> Result<bool, GaveUp> {
        let before = self.left;
        let Some(end) = self.end_of_match(text, from)? else { return Ok(false) };
        // The same match again, within what was just walked: no more than once forth and once back.
        self.spend(2 * (before - self.left))?;
        let input = Input::new(text).span(from..end);
        self.counted.groups.search_captures(&input, captures);
        Ok(captures.is_match())
    }

    /// Where the leftmost match from `from` on ends.
    fn end_of_match(&mut self, text: &[u8], from: usize) -> Result<Option<usize>, GaveUp> {
        let (dfa, input) = (&self.counted.dfa, Input::new(text).span(from..text.len()));
        let mut state = dfa.start_state_forward(&mut self.cache, &input).map_err(|_| GaveUp)?;
        let mut end = None;
        for (at, &byte) in text.iter().enumerate().skip(from) {
            let is_plain = !state.is_tagged();
            let known = is_plain
                .then(|| dfa.next_state_untagged(&self.cache, state, byte))
                .filter(|next| !next.is_unknown());
            state = match known {
                Some(next) => {
                    self.left = self.left.checked_sub(1).ok_or(GaveUp)?;
                    next
                }
                None => {
                    let held = self.cache.memory_usage();
                    let next = dfa.next_state(&mut self.cache, state, byte);
                    let is_new = is_plain || held != self.cache.memory_usage();
                    let work = if is_new { self.states.saturating_mul(UNKNOWN_WORK) } else { 1 };
                    self.spend(work)?;
                    next.map_err(|_| GaveUp)?
                }
            };
            if state.is_match() {
                // A match is seen one byte late.
                end = Some(at);
            } else if state.is_dead() {
                return Ok(end);
            } else if state.is_quit() {
                return Err(GaveUp);
            }
        }
        let state = dfa.next_eoi_state(&mut self.cache, state).map_err(|_| GaveUp)?;
        Ok(if state.is_match() { Some(text.len()) } else { end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &Pattern, text: &[u8]) -> Result<Vec<Vec<Option<Range<usize>>>>, GaveUp> {
        let mut all = Vec::new();
        pattern.each_match(text, |group| {
            all.push((0..pattern.groups()).map(group).collect());
            ControlFlow::Continue(())
        })?;
        Ok(all)
    }

    /// Counted, a text has the same matches with the same groups as left to the crate: empty ones, at line
    /// ends, next to each other, with alternatives of which the first is taken, and in bytes that are no
    /// text.
    #[test]
    fn both_ways_agree() {
        let patterns = [
            "a+",
            "a*",
            "",
            "(a)|(b)",
            "a|ab",
            "ab|a",
            "(a+)(b*)",
            "(?m)^.*$",
            "^a",
            "a$",
            "x*$",
            "(?-u:\\b)",
            "(?-u:\\b)a",
            "é",
            ".",
            "(?i)AB",
            "[^a]",
            "(a|b)*c",
            "(.*)b",
            "(.*?)b",
            "a{2,3}",
            "(?s).*",
            "/[0-9]+",
        ];
        let texts: [&[u8]; 12] = [
            b"",
            b"a",
            b"aaa",
            b"abab",
            b"ba\nab\n",
            b"xx",
            b"caab cab c",
            "éaé".as_bytes(),
            b"\xffa\xff",
            b"aaaab aab",
            b"/12/a/345",
            b"\n\n",
        ];
        for pattern in patterns {
            for text in texts {
                let pattern = Pattern::new(pattern, false, 1 << 20).unwrap();
                let plain = (matches(&pattern, text), pattern.is_match(text, 1));
                let counted = (pattern.unbounded(text), pattern.unbounded_match(text));
                assert_eq!(plain, counted, "{} in {text:?}", pattern.text);
            }
        }
    }

    impl Pattern {
        /// As counted, with so much to spend that it never gives up.
        fn unbounded(&self, text: &[u8]) -> Result<Vec<Vec<Option<Range<usize>>>>, GaveUp> {
            let counted = self.counted().ok_or(GaveUp)?;
            let cache = counted.dfa.create_cache();
            let mut walk = Walk { counted, cache, states: 1, left: u64::MAX };
            let mut all = Vec::new();
            walk.each(text, |groups| {
                all.push((0..self.groups()).map(groups).collect());
                ControlFlow::Continue(())
            })?;
            Ok(all)
        }

        fn unbounded_match(&self, text: &[u8]) -> Result<bool, GaveUp> {
            let counted = self.counted().ok_or(GaveUp)?;
            let cache = counted.dfa.create_cache();
            let mut walk = Walk { counted, cache, states: 1, left: u64::MAX };
            Ok(walk.end_of_match(text, 0)?.is_some())
        }
    }

    /// Patterns that look at the rest of a text for each of its letters, or that have a new set of states for
    /// each, are given up after the allowed work, and harmless ones are not, whatever the text's length.
    #[test]
    fn what_takes_too_long_is_given_up() {
        let long = "A".repeat(1 << 20);
        let pattern = Pattern::new(".*[^A-Z]|[A-Z]", false, 2 << 20).unwrap();
        assert_eq!(matches(&pattern, long.as_bytes()), Err(GaveUp));
        let mut state = 1_u64;
        let mut bit = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            b"01"[usize::from(state >> 63 == 1)]
        };
        let binary: Vec<u8> = (0..1 << 20).map(|_| bit()).collect();
        let pattern = Pattern::new("[01]*1[01]{400}x", false, 2 << 20).unwrap();
        assert_eq!(pattern.is_match(&binary, 1), Err(GaveUp));
        for (harmless, count) in [("A", 1 << 20), ("[a-z]+", 0), ("A+", 1), ("(A)(A)", 1 << 19)] {
            let pattern = Pattern::new(harmless, false, 2 << 20).unwrap();
            assert_eq!(
                matches(&pattern, long.as_bytes()).map(|all| all.len()),
                Ok(count),
                "{harmless}"
            );
            assert_eq!(pattern.is_match(long.as_bytes(), 1), Ok(count > 0), "{harmless}");
        }
    }
}
