//! Times and integers.

use super::{ScalarDef, def, number_kernels1, overloads};

pub(super) const DEFS: &[ScalarDef] = &[
    def(
        "time_to_int64",
        overloads![T => I, time_to_int64],
        &["time"],
        "The time as Unix nanoseconds",
        "df.ns = px.time_to_int64(df.time_)",
    ),
    def(
        "int64_to_time",
        overloads![I => T, int64_to_time],
        &["time_unix_ns"],
        "Unix nanoseconds as a time",
        "df.at = px.int64_to_time(df.ns)",
    ),
];

number_kernels1! {
    time_to_int64: int => ints |ns| ns;
    int64_to_time: int => times |ns| ns;
}
