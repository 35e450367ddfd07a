//! Compiled patterns whose searches have an end. The `regex` crate finds one match in linear time; all
//! matches of a text may take its square, times the size of the pattern: hours for a text of a megabyte.
//!
//! A text for which even the worst is little is left to that crate. For others the same automaton is walked
//! here, step by step and counted; what is above [`WORK_MAX`] is given up, and so is what is above what there
//! may be at once ([`crate::work`]). It knows no syntax of its own. States are made when they are met, and
//! kept for the next text; what a text takes is counted as if none had been kept, so that it does not depend
//! on the texts before.

use std::ops::{ControlFlow, Range};
use std::sync::{Mutex, OnceLock, PoisonError};

use hashbrown::HashSet;
use regex::bytes::{Regex, RegexBuilder};
use regex_automata::hybrid::LazyStateID;
use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson;
use regex_automata::util::captures::Captures;
use regex_automata::util::syntax;
use regex_automata::{Input, meta};

use crate::work;

/// What the states that a pattern meets while it runs may take; they are forgotten beyond.
const STATES_BYTES_MAX: usize = 1 << 20;
/// Steps for a text that are little, even if each is as slow as it can be: bytes times states.
const PLAIN_WORK_MAX: u64 = 256_000;
/// So much of the worst is charged for what is left to the crate: mostly it takes far less, and what is charged
/// decides how many rows are looked at together.
const PLAIN_SHARE: u64 = 4;
/// Steps for a text, of about 3 ns: some 18 ms. A text of a megabyte may be looked at six times over, or have
/// 160,000 matches.
pub(crate) const WORK_MAX: u64 = 6_000_000;
/// Finding the groups of a match, and what is made of it, takes as long as so many steps.
const MATCH_WORK: u64 = 30;
/// A step into a set of states that is not known yet costs so much for each of the pattern's states.
const UNKNOWN_WORK: u64 = 2;

/// The text takes more work than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GaveUp;

/// Where a group of a match lies; group 0 is the match.
pub(crate) type Groups<'a> = &'a dyn Fn(usize) -> Option<Range<usize>>;

/// What matches are found for.
pub(crate) trait Matches {
    /// The text is looked at from its beginning: what was found before is found again.
    fn begin(&mut self);
    fn found(&mut self, groups: Groups<'_>) -> ControlFlow<()>;
}

/// Why a walk ended before its text.
enum Stop {
    GaveUp,
    /// States had to be forgotten of which some are from texts before: to be counted, it has to begin without.
    Forgot,
}

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

    /// Whether the text is a pattern on its own.
    pub(crate) fn is_pattern(text: &str) -> bool {
        syntax::parse_with(text, &syntax::Config::new().utf8(false)).is_ok()
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
        let worst = (text.len() as u64).saturating_mul(self.states);
        if worst <= PLAIN_WORK_MAX / sharers.max(1) {
            spend_plain(worst)?;
            return Ok(self.plain.is_match(text));
        }
        let counted = self.counted().ok_or(GaveUp)?;
        let work_max = WORK_MAX / sharers.max(1);
        counted.walk(self.states, work_max, |walk| Ok(walk.end_of_match(text, 0)?.is_some()))
    }

    /// Tells every match, in order, until it breaks. What was found before it gave up stands.
    pub(crate) fn each_match(&self, text: &[u8], matches: &mut impl Matches) -> Result<(), GaveUp> {
        matches.begin();
        let len = text.len() as u64;
        let worst = len.saturating_mul(len).saturating_mul(self.states);
        if worst <= PLAIN_WORK_MAX {
            spend_plain(worst)?;
            for groups in self.plain.captures_iter(text) {
                let group = |idx| groups.get(idx).map(|group| group.range());
                if matches.found(&group).is_break() {
                    break;
                }
            }
            return Ok(());
        }
        let counted = self.counted().ok_or(GaveUp)?;
        counted.walk(self.states, WORK_MAX, |walk| walk.each(text, matches))
    }
}

fn spend_plain(worst: u64) -> Result<(), GaveUp> {
    if work::spend_steps(worst / PLAIN_SHARE) { Ok(()) } else { Err(GaveUp) }
}

impl Counted {
    fn walk<T>(
        &self,
        states: u64,
        work_max: u64,
        mut with: impl FnMut(&mut Walk<'_>) -> Result<T, Stop>,
    ) -> Result<T, GaveUp> {
        let lock = || self.caches.lock().unwrap_or_else(PoisonError::into_inner);
        let cache = lock().pop().unwrap_or_else(|| self.dfa.create_cache());
        let allowed = work_max.min(work::steps_left());
        let mut walk = Walk::new(self, cache, states, allowed);
        let mut result = with(&mut walk);
        if matches!(result, Err(Stop::Forgot)) {
            let mut cache = walk.cache;
            self.dfa.reset_cache(&mut cache);
            walk = Walk { begins_empty: true, ..Walk::new(self, cache, states, allowed) };
            result = with(&mut walk);
        }
        work::spend_steps(allowed - walk.left);
        if result.is_err() && allowed < work_max {
            work::out_of_steps();
        }
        lock().push(walk.cache);
        result.map_err(|_| GaveUp)
    }
}

/// A search through one text, and how much it may still take.
struct Walk<'a> {
    counted: &'a Counted,
    cache: Cache,
    states: u64,
    left: u64,
    /// What this text has met.
    met: HashSet<LazyStateID>,
    /// How often states were forgotten, and whether none were there when the text began.
    forgotten: usize,
    begins_empty: bool,
}

impl<'a> Walk<'a> {
    fn new(counted: &'a Counted, cache: Cache, states: u64, left: u64) -> Walk<'a> {
        let forgotten = cache.clear_count();
        let (met, begins_empty) = (HashSet::new(), false);
        Walk { counted, cache, states, left, met, forgotten, begins_empty }
    }

    fn each(&mut self, text: &[u8], matches: &mut impl Matches) -> Result<(), Stop> {
        matches.begin();
        let mut captures = self.counted.groups.create_captures();
        let (mut from, mut last_end) = (0, None);
        while from <= text.len() && self.find(text, from, &mut captures)? {
            let found = captures.get_match().ok_or(Stop::GaveUp)?;
            // An empty match right behind the last one is none.
            if found.is_empty() && last_end == Some(found.end()) {
                from += 1;
                continue;
            }
            let group = |idx| captures.get_group(idx).map(|group| group.range());
            if matches.found(&group).is_break() {
                break;
            }
            from = found.end();
            last_end = Some(from);
        }
        Ok(())
    }

    fn spend(&mut self, work: u64) -> Result<(), Stop> {
        self.left = self.left.checked_sub(work).ok_or(Stop::GaveUp)?;
        Ok(())
    }

    /// Pays for a state if this text has not met it before, whether it was there already or not.
    fn meet(&mut self, state: LazyStateID) -> Result<(), Stop> {
        if self.cache.clear_count() != self.forgotten {
            if !self.begins_empty {
                return Err(Stop::Forgot);
            }
            self.forgotten = self.cache.clear_count();
            self.met.clear();
        }
        if self.met.insert(state) {
            self.spend(self.states.saturating_mul(UNKNOWN_WORK))?;
        }
        Ok(())
    }

    /// The leftmost match from `from` on, with its groups.
    fn find(&mut self, text: &[u8], from: usize, captures: &mut Captures) -> Result<bool, Stop> {
        let before = self.left;
        let Some(end) = self.end_of_match(text, from)? else { return Ok(false) };
        // The same match again, within what was just walked: no more than once forth and once back.
        self.spend(2 * (before - self.left) + MATCH_WORK)?;
        let input = Input::new(text).span(from..end);
        self.counted.groups.search_captures(&input, captures);
        Ok(captures.is_match())
    }

    /// Where the leftmost match from `from` on ends.
    fn end_of_match(&mut self, text: &[u8], from: usize) -> Result<Option<usize>, Stop> {
        let (dfa, input) = (&self.counted.dfa, Input::new(text).span(from..text.len()));
        let mut state =
            dfa.start_state_forward(&mut self.cache, &input).map_err(|_| Stop::GaveUp)?;
        self.meet(state)?;
        let mut end = None;
        for (at, &byte) in text.iter().enumerate().skip(from) {
            self.spend(1)?;
            let known = (!state.is_tagged())
                .then(|| dfa.next_state_untagged(&self.cache, state, byte))
                .filter(|next| !next.is_tagged());
            if known != Some(state) {
                state = match known {
                    Some(next) => next,
                    None => {
                        dfa.next_state(&mut self.cache, state, byte).map_err(|_| Stop::GaveUp)?
                    }
                };
                self.meet(state)?;
            }
            if state.is_match() {
                // A match is seen one byte late.
                end = Some(at);
            } else if state.is_dead() {
                return Ok(end);
            } else if state.is_quit() {
                return Err(Stop::GaveUp);
            }
        }
        let state = dfa.next_eoi_state(&mut self.cache, state).map_err(|_| Stop::GaveUp)?;
        Ok(if state.is_match() { Some(text.len()) } else { end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &Pattern, text: &[u8]) -> Result<Vec<Vec<Option<Range<usize>>>>, GaveUp> {
        let mut all = All { groups: pattern.groups(), found: Vec::new() };
        pattern.each_match(text, &mut all)?;
        Ok(all.found)
    }

    /// The groups of all matches.
    struct All {
        groups: usize,
        found: Vec<Vec<Option<Range<usize>>>>,
    }

    impl Matches for All {
        fn begin(&mut self) {
            self.found.clear();
        }
        fn found(&mut self, group: Groups<'_>) -> ControlFlow<()> {
            self.found.push((0..self.groups).map(group).collect());
            ControlFlow::Continue(())
        }
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
            let mut all = All { groups: self.groups(), found: Vec::new() };
            let counted = self.counted().ok_or(GaveUp)?;
            counted.walk(1, u64::MAX, |walk| walk.each(text, &mut all))?;
            Ok(all.found)
        }

        fn unbounded_match(&self, text: &[u8]) -> Result<bool, GaveUp> {
            let counted = self.counted().ok_or(GaveUp)?;
            counted.walk(1, u64::MAX, |walk| Ok(walk.end_of_match(text, 0)?.is_some()))
        }
    }

    /// Patterns that look at the rest of a text for each of its letters, or that have a new set of states for
    /// each, are given up after the allowed work, and harmless ones are not, whatever the text's length.
    #[test]
    fn what_takes_too_long_is_given_up() {
        let long = "A".repeat(1 << 20);
        let pattern = Pattern::new(".*[^A-Z]|[A-Z]", false, 2 << 20).unwrap();
        assert_eq!(matches(&pattern, long.as_bytes()), Err(GaveUp));
        let mut random = weir_types::random::SplitMix(1);
        let binary: Vec<u8> = (0..1 << 20).map(|_| b"01"[random.below(2) as usize]).collect();
        let pattern = Pattern::new("[01]*1[01]{400}x", false, 2 << 20).unwrap();
        assert_eq!(pattern.is_match(&binary, 1), Err(GaveUp));
        let harmless = [
            ("A", 1 << 17, 1 << 17),
            ("[a-z]+", 1 << 20, 0),
            ("A+", 1 << 20, 1),
            ("(A)(A)", 1 << 17, 1 << 16),
        ];
        for (harmless, len, count) in harmless {
            let pattern = Pattern::new(harmless, false, 2 << 20).unwrap();
            assert_eq!(
                matches(&pattern, &long.as_bytes()[..len]).map(|all| all.len()),
                Ok(count),
                "{harmless}"
            );
            assert_eq!(pattern.is_match(long.as_bytes(), 1), Ok(count > 0), "{harmless}");
        }
    }
}
