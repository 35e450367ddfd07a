//! Comparison. Equality of FLOAT64 forgives rounding by an epsilon, as in Pixie; order is exact and
//! needs equal types on both sides.

use arrow_array::ArrayRef;

use super::{ScalarDef, def, overloads};
use crate::operand::{BoolCol, Call, Prim};
use crate::output::{self, zip2_bits};

pub(super) const DEFS: &[ScalarDef] = &[
    def(
        "equal",
        overloads![
            I I => B, eq_ii; S S => B, eq_ss; B B => B, eq_bb; T T => B, eq_ii; U U => B, eq_uu;
            B I => B, eq_bi; I B => B, eq_ib; I F => B, eq_if; F I => B, eq_fi; F F => B, eq_ff
        ],
        &["a", "b"],
        "True if both are equal, FLOAT64 within 2.2e-16; operator `==`",
        "df = df[df.resp_status == 404]",
    ),
    def(
        "notEqual",
        overloads![
            I I => B, ne_ii; S S => B, ne_ss; B B => B, ne_bb; T T => B, ne_ii; U U => B, ne_uu;
            B I => B, ne_bi; I B => B, ne_ib; I F => B, ne_if; F I => B, ne_fi; F F => B, ne_ff
        ],
        &["a", "b"],
        "True if both differ, FLOAT64 by more than 2.2e-16; NaN differs from nothing; operator `!=`",
        "df = df[df.service != '']",
    ),
    def(
        "approxEqual",
        overloads![F F => B, eq_ff],
        &["a", "b"],
        "True if both are within 2.2e-16",
        "df.same = px.approxEqual(df.a, df.b)",
    ),
    def(
        "lessThan",
        overloads![I I => B, lt_ii; F F => B, lt_ff; S S => B, lt_ss; T T => B, lt_ii],
        &["a", "b"],
        "True if a is below b, texts bytewise; operator `<`",
        "df = df[df.resp_status < 400]",
    ),
    def(
        "lessThanEqual",
        overloads![I I => B, le_ii; F F => B, le_ff; S S => B, le_ss; T T => B, le_ii],
        &["a", "b"],
        "True if a is not above b; operator `<=`",
        "df = df[df.resp_status <= 399]",
    ),
    def(
        "greaterThan",
        overloads![I I => B, gt_ii; F F => B, gt_ff; S S => B, gt_ss; T T => B, gt_ii],
        &["a", "b"],
        "True if a is above b; operator `>`",
        "df = df[df.latency > 1000000]",
    ),
    def(
        "greaterThanEqual",
        overloads![I I => B, ge_ii; F F => B, ge_ff; S S => B, ge_ss; T T => B, ge_ii],
        &["a", "b"],
        "True if a is not below b; operator `>=`",
        "df.failed = df.resp_status >= 400",
    ),
];

macro_rules! comparisons {
    ($($name:ident: $a:ident, $b:ident |$x:ident, $y:ident| $body:expr;)*) => {
        $(fn $name(call: &Call<'_>) -> ArrayRef {
            output::bits(zip2_bits(call.$a(0), call.$b(1), call.rows, |$x, $y| $body))
        })*
    };
}
/// For types without slices.
macro_rules! row_comparisons {
    ($($name:ident: $ty:ident |$x:ident, $y:ident| $body:expr;)*) => {
        $(fn $name(call: &Call<'_>) -> ArrayRef {
            let (a, b) = (call.$ty(0), call.$ty(1));
            output::bools(call.rows, |row| {
                let ($x, $y) = (a.get(row), b.get(row));
                $body
            })
        })*
    };
}

comparisons! {
    eq_ii: int, int |a, b| a == b;
    eq_if: int, float |a, b| a as f64 == b;
    eq_fi: float, int |a, b| a == b as f64;
    eq_ff: float, float |a, b| (a - b).abs() < f64::EPSILON;
    ne_ii: int, int |a, b| a != b;
    ne_if: int, float |a, b| a as f64 != b;
    ne_fi: float, int |a, b| a != b as f64;
    ne_ff: float, float |a, b| (a - b).abs() > f64::EPSILON;
    lt_ii: int, int |a, b| a < b;
    lt_ff: float, float |a, b| a < b;
    le_ii: int, int |a, b| a <= b;
    le_ff: float, float |a, b| a <= b;
    gt_ii: int, int |a, b| a > b;
    gt_ff: float, float |a, b| a > b;
    ge_ii: int, int |a, b| a >= b;
    ge_ff: float, float |a, b| a >= b;
}
row_comparisons! {
    eq_ss: str |a, b| a == b;
    ne_ss: str |a, b| a != b;
    lt_ss: str |a, b| a < b;
    le_ss: str |a, b| a <= b;
    gt_ss: str |a, b| a > b;
    ge_ss: str |a, b| a >= b;
    eq_uu: u128 |a, b| a == b;
    ne_uu: u128 |a, b| a != b;
}

fn eq_bb(call: &Call<'_>) -> ArrayRef {
    let differ = &call.bool(0).to_buffer(call.rows) ^ &call.bool(1).to_buffer(call.rows);
    output::bits(!&differ)
}
fn ne_bb(call: &Call<'_>) -> ArrayRef {
    output::bits(&call.bool(0).to_buffer(call.rows) ^ &call.bool(1).to_buffer(call.rows))
}

fn eq_bi(call: &Call<'_>) -> ArrayRef {
    bool_is_int(call, call.bool(0), call.int(1), true)
}
fn eq_ib(call: &Call<'_>) -> ArrayRef {
    bool_is_int(call, call.bool(1), call.int(0), true)
}
fn ne_bi(call: &Call<'_>) -> ArrayRef {
    bool_is_int(call, call.bool(0), call.int(1), false)
}
fn ne_ib(call: &Call<'_>) -> ArrayRef {
    bool_is_int(call, call.bool(1), call.int(0), false)
}
/// True counts as 1, false as 0.
fn bool_is_int(call: &Call<'_>, a: BoolCol<'_>, b: Prim<'_, i64>, wanted: bool) -> ArrayRef {
    output::bools(call.rows, |row| (i64::from(a.get(row)) == b.get(row)) == wanted)
}
