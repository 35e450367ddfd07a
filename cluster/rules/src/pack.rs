//! Rules that come with Weir, and their tests. Which of them run, the configuration says.

/// A rule file.
pub const BUILTIN: &str = include_str!("../pack/builtin.yml");
/// A test of it, for `weir rules test`.
pub const BUILTIN_TEST: &str = include_str!("../pack/builtin_test.yml");
/// Where rules of the pack say that they stand.
pub const BUILTIN_FILE: &str = "builtin.yml";
