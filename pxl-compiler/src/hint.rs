//! "Did you mean": the nearest known name by edit distance.

/// Names longer than this are not compared.
const NAME_CHARS_MAX: usize = 64;
/// No more edits than this make a typo.
const EDITS_MAX: usize = 3;

/// Shorter ones are part of anything.
const PART_CHARS_MIN: usize = 4;

/// The candidate nearest to `name`, if it is near enough to be a typo of it.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Four bytes a character at most, so that a long text is not even looked through.
    if name.is_empty() || name.len() > 4 * NAME_CHARS_MAX {
        return None;
    }
    let wanted: Vec<char> = name.to_lowercase().chars().collect();
    if wanted.len() > NAME_CHARS_MAX {
        return None;
    }
    let allowed = (wanted.len() / 3).clamp(1, EDITS_MAX);
    let mut have: Vec<char> = Vec::new();
    candidates
        .into_iter()
        .filter(|candidate| *candidate != name && candidate.len() <= 4 * NAME_CHARS_MAX)
        .filter_map(|candidate| {
            have.clear();
            have.extend(candidate.chars().flat_map(char::to_lowercase));
            Some((distance(&wanted, &have, allowed)?, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// For names that people type without looking: a typo, a name without its group (`http_data` for
/// `px/http_data`), or a part of a name.
#[must_use]
pub fn suggest<'a>(name: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let last = |text: &'a str| text.rsplit(['/', '.']).next().unwrap_or(text);
    let all = || candidates.iter().copied();
    let by_last = |wanted: &str| all().find(|candidate| last(candidate) == wanted);
    let part = || {
        let wanted = name.to_lowercase();
        let has = |candidate: &&str| wanted.len() >= PART_CHARS_MIN && candidate.contains(&wanted);
        all().filter(has).min_by_key(|candidate| candidate.len())
    };
    by_last(name)
        .or_else(|| nearest(name, all()))
        .or_else(|| nearest(name, all().map(last)).and_then(by_last))
        .or_else(part)
}

/// `did you mean `x`?`, or the fallback where nothing is near.
pub(crate) fn did_you_mean<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
    fallback: &str,
) -> String {
    nearest(name, candidates)
        .map_or_else(|| fallback.to_string(), |found| format!("did you mean `{found}`?"))
}

/// Edit distance with transpositions of neighbours (optimal string alignment), up to `allowed`. Only
/// the cells that near the diagonal are looked at, so that ten thousand names take a millisecond.
fn distance(a: &[char], b: &[char], allowed: usize) -> Option<usize> {
    const FAR: usize = NAME_CHARS_MAX;
    if b.len() > NAME_CHARS_MAX || a.len().abs_diff(b.len()) > allowed {
        return None;
    }
    let mut rows = [[FAR; NAME_CHARS_MAX + 1]; 3];
    for (j, cell) in rows[0].iter_mut().enumerate().take(allowed + 1) {
        *cell = j;
    }
    for i in 1..=a.len() {
        let [row, above, above2] = [i, i - 1, i + 1].map(|row| row % 3);
        let (from, to) = (i.saturating_sub(allowed), (i + allowed).min(b.len()));
        rows[row] = [FAR; NAME_CHARS_MAX + 1];
        let mut least = FAR;
        for j in from..=to {
            let best = if j == 0 {
                i
            } else {
                let substituted = rows[above][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = substituted.min(rows[above][j] + 1).min(rows[row][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[above2][j - 2] + 1);
                }
                best
            };
            rows[row][j] = best;
            least = least.min(best);
        }
        // A transposition may still come back from the row above.
        if least > allowed + 1 {
            return None;
        }
    }
    let found = rows[a.len() % 3][b.len()];
    (found <= allowed).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name without its group, with a typo, or a part of it: catches `http_data` that nobody finds.
    #[test]
    fn suggests_what_was_meant() {
        let names = ["px/http_data", "px/http_data_filtered", "px/pod", "sotw/dns_flow"];
        for (name, want) in [
            ("http_data", "px/http_data"),
            ("px/htp_data", "px/http_data"),
            ("htpp_data", "px/http_data"),
            ("pods", "px/pod"),
            ("dns_flow", "sotw/dns_flow"),
            ("filtered", "px/http_data_filtered"),
        ] {
            assert_eq!(suggest(name, &names), Some(want), "{name}");
        }
        assert_eq!(suggest("zz", &names), None);
        assert_eq!(suggest("kubernetes_everything", &names), None);
    }

    /// A typo finds its word and a stranger finds nothing: catches a threshold that is too wide.
    #[test]
    fn finds_typos_only() {
        let names = ["req_path", "req_body", "resp_status", "upid"];
        assert_eq!(nearest("req_pth", names), Some("req_path"));
        assert_eq!(nearest("resp_statsu", names), Some("resp_status"));
        assert_eq!(nearest("latency", names), None);
        assert_eq!(nearest("", names), None);
    }
}
