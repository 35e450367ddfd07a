//! Semantic rules: which tag a function's result carries, given the tags of its arguments. Without
//! a matching rule the tag is NONE.

use weir_types::SemanticType;
use weir_types::SemanticType as S;

/// The tags that measure an amount: `max`, `mean` and the like keep them.
pub(crate) const AMOUNTS: &[SemanticType] =
    &[S::Bytes, S::ThroughputPerNs, S::ThroughputBytesPerNs, S::DurationNs, S::Percent];
/// As [`AMOUNTS`] without DURATION_NS: a sum of latencies is not a latency.
pub(crate) const SUMMABLE: &[SemanticType] =
    &[S::Bytes, S::ThroughputPerNs, S::ThroughputBytesPerNs, S::Percent];
/// What may be added to its own kind.
pub(crate) const ADDABLE: &[SemanticType] =
    &[S::Bytes, S::ThroughputPerNs, S::ThroughputBytesPerNs, S::DurationNs];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SemanticRule {
    None,
    /// Always this tag.
    Fixed(SemanticType),
    /// The first argument's tag if it is one of these.
    Keep(&'static [SemanticType]),
    /// The first argument's tag, whichever it is.
    KeepAny,
    /// The arguments' common tag if it is one of these.
    Common(&'static [SemanticType]),
    /// The common tag of the second and third argument.
    Branches,
    /// Per DURATION_NS: BYTES become a byte throughput, anything else a throughput.
    PerDuration,
    /// DURATION_NS → DURATION_NS_QUANTILES, anything else → QUANTILES.
    Quantiles,
    /// The second tag if the first argument carries the first.
    When(SemanticType, SemanticType),
}

impl SemanticRule {
    #[must_use]
    pub fn apply(self, args: &[SemanticType]) -> SemanticType {
        let arg = |idx: usize| args.get(idx).copied().unwrap_or(S::None);
        match self {
            SemanticRule::None => S::None,
            SemanticRule::Fixed(tag) => tag,
            SemanticRule::Keep(tags) if tags.contains(&arg(0)) => arg(0),
            SemanticRule::KeepAny => arg(0),
            SemanticRule::Common(tags) if tags.contains(&arg(0)) && arg(0) == arg(1) => arg(0),
            SemanticRule::Branches if arg(1) == arg(2) => arg(1),
            SemanticRule::PerDuration if arg(1) == S::DurationNs => match arg(0) {
                S::Bytes => S::ThroughputBytesPerNs,
                _ => S::ThroughputPerNs,
            },
            SemanticRule::Quantiles if arg(0) == S::DurationNs => S::DurationNsQuantiles,
            SemanticRule::Quantiles => S::Quantiles,
            SemanticRule::When(from, to) if arg(0) == from => to,
            SemanticRule::Keep(_)
            | SemanticRule::Common(_)
            | SemanticRule::Branches
            | SemanticRule::PerDuration
            | SemanticRule::When(..) => S::None,
        }
    }
    /// The rule in words, for documentation; empty if the result carries no tag.
    #[must_use]
    pub fn describe(self) -> String {
        let list = |tags: &[SemanticType]| {
            tags.iter().map(|tag| tag.name()).collect::<Vec<_>>().join(", ")
        };
        match self {
            SemanticRule::None => String::new(),
            SemanticRule::Fixed(tag) => tag.name().to_string(),
            SemanticRule::Keep(tags) => format!("that of the first argument, of {}", list(tags)),
            SemanticRule::KeepAny => "that of the first argument".to_string(),
            SemanticRule::Common(tags) => {
                format!("that of both arguments if it is the same, of {}", list(tags))
            }
            SemanticRule::Branches => "that of x and y if it is the same".to_string(),
            SemanticRule::PerDuration => "BYTES / DURATION_NS → THROUGHPUT_BYTES_PER_NS, anything \
                                          else / DURATION_NS → THROUGHPUT_PER_NS"
                .to_string(),
            SemanticRule::Quantiles => {
                "DURATION_NS → DURATION_NS_QUANTILES, anything else → QUANTILES".to_string()
            }
            SemanticRule::When(from, to) => format!("{} → {}", from.name(), to.name()),
        }
    }
}
