//! Arithmetic. INT64 wraps around; division is always in FLOAT64; times are numbers of nanoseconds
//! that may be moved and subtracted.

use super::{ScalarDef, def, number_kernels, number_kernels1, overloads};
use crate::operand::Call;
use crate::output;
use crate::semantic::{ADDABLE, AMOUNTS, SemanticRule};

pub(super) const DEFS: &[ScalarDef] = &[
    def(
        "add",
        overloads![
            I I => I, add_ii; F F => F, add_ff; F I => F, add_fi; I F => F, add_if;
            T I => T, add_ti; I T => T, add_ti; S S => S, concat
        ],
        &["a", "b"],
        "Sum of two numbers, a time moved by nanoseconds, or two texts joined; operator `+`",
        "df.total = df.req_size + df.resp_size",
    )
    .semantic(SemanticRule::Common(ADDABLE)),
    def(
        "subtract",
        overloads![
            I I => I, sub_ii; F F => F, sub_ff; F I => F, sub_fi; I F => F, sub_if;
            T T => I, sub_ii; T I => T, sub_ti; I T => I, sub_ii
        ],
        &["a", "b"],
        "Difference of two numbers, of two times in nanoseconds, or a time moved back; operator `-`",
        "df.age = px.now() - df.time_",
    )
    .semantic(SemanticRule::Common(ADDABLE)),
    def(
        "multiply",
        overloads![I I => I, mul_ii; F F => F, mul_ff; F I => F, mul_fi; I F => F, mul_if],
        &["a", "b"],
        "Product; operator `*`",
        "df.percent = df.rate * 100",
    ),
    def(
        "divide",
        overloads![I I => F, div_ii; I F => F, div_if; F I => F, div_fi; F F => F, div_ff],
        &["a", "b"],
        "Quotient in FLOAT64; x / 0 is an infinity or NaN; operator `/`",
        "df.rate = df.requests / px.DurationNanos(window)",
    )
    .semantic(SemanticRule::PerDuration),
    def(
        "modulo",
        overloads![I I => I, rem_ii; I T => I, rem_ii; T I => I, rem_ii; T T => I, rem_ii],
        &["a", "b"],
        "Remainder with the sign of the dividend, 0 for a divisor of 0; operator `%`",
        "df.shard = df.pid % 4",
    ),
    def(
        "negate",
        overloads![I => I, neg_i; F => F, neg_f],
        &["a"],
        "The number with its sign changed; unary operator `-`",
        "df.minus = -df.latency",
    ),
    def(
        "invert",
        overloads![I => I, invert_i],
        &["a"],
        "All bits flipped; unary operator `~`",
        "df.mask = ~df.flags",
    ),
    def(
        "pow",
        overloads![I I => F, pow_ii; I F => F, pow_if; F I => F, pow_fi; F F => F, pow_ff],
        &["base", "exponent"],
        "Base raised to the exponent",
        "df.square = px.pow(df.x, 2)",
    ),
    def(
        "log",
        overloads![I I => F, log_ii; I F => F, log_if; F I => F, log_fi; F F => F, log_ff],
        &["base", "value"],
        "Logarithm of the value to the base",
        "df.digits = px.log(10, df.x)",
    ),
    def(
        "ln",
        overloads![I => F, ln_i; F => F, ln_f],
        &["value"],
        "Natural logarithm",
        "df.l = px.ln(df.x)",
    ),
    def(
        "log2",
        overloads![I => F, log2_i; F => F, log2_f],
        &["value"],
        "Logarithm to base 2",
        "df.bits = px.log2(df.x)",
    ),
    def(
        "log10",
        overloads![I => F, log10_i; F => F, log10_f],
        &["value"],
        "Logarithm to base 10",
        "df.digits = px.log10(df.x)",
    ),
    def(
        "exp",
        overloads![I => F, exp_i; F => F, exp_f],
        &["value"],
        "e raised to the value",
        "df.e = px.exp(df.x)",
    ),
    def(
        "sqrt",
        overloads![I => F, sqrt_i; F => F, sqrt_f],
        &["value"],
        "Square root; NaN of a negative number",
        "df.root = px.sqrt(df.x)",
    ),
    def(
        "abs",
        overloads![I => I, abs_i; F => F, abs_f],
        &["value"],
        "The number without its sign",
        "df.size = px.abs(df.change)",
    )
    .semantic(SemanticRule::Keep(AMOUNTS)),
    def(
        "ceil",
        overloads![F => I, ceil_f],
        &["value"],
        "The smallest integer that is not below the value; NaN gives 0",
        "df.up = px.ceil(df.x)",
    ),
    def(
        "floor",
        overloads![F => I, floor_f],
        &["value"],
        "The greatest integer that is not above the value; NaN gives 0",
        "df.p99 = px.DurationNanos(px.floor(px.pluck_float64(df.q, 'p99')))",
    ),
    def(
        "round",
        overloads![F I => S, round_f],
        &["value", "decimals"],
        "The number as text with that many digits after the point",
        "df.text = px.round(df.x, 2)",
    ),
    def(
        "bin",
        overloads![
            I I => I, bin_ii; T T => T, bin_tt; I T => I, bin_ii; T I => T, bin_tt; F I => I, bin_fi
        ],
        &["value", "size"],
        "The value rounded towards zero to a multiple of the size; a size of 0 changes nothing",
        "df.timestamp = px.bin(df.time_, px.seconds(10))",
    ),
];

number_kernels! {
    add_ii: int, int => ints |a, b| a.wrapping_add(b);
    add_ti: int, int => times |a, b| a.wrapping_add(b);
    add_ff: float, float => floats |a, b| a + b;
    add_fi: float, int => floats |a, b| a + b as f64;
    add_if: int, float => floats |a, b| a as f64 + b;
    sub_ii: int, int => ints |a, b| a.wrapping_sub(b);
    sub_ti: int, int => times |a, b| a.wrapping_sub(b);
    sub_ff: float, float => floats |a, b| a - b;
    sub_fi: float, int => floats |a, b| a - b as f64;
    sub_if: int, float => floats |a, b| a as f64 - b;
    mul_ii: int, int => ints |a, b| a.wrapping_mul(b);
    mul_ff: float, float => floats |a, b| a * b;
    mul_fi: float, int => floats |a, b| a * b as f64;
    mul_if: int, float => floats |a, b| a as f64 * b;
    div_ii: int, int => floats |a, b| a as f64 / b as f64;
    div_if: int, float => floats |a, b| a as f64 / b;
    div_fi: float, int => floats |a, b| a / b as f64;
    div_ff: float, float => floats |a, b| a / b;
    rem_ii: int, int => ints |a, b| remainder(a, b);
    pow_ii: int, int => floats |a, b| (a as f64).powf(b as f64);
    pow_if: int, float => floats |a, b| (a as f64).powf(b);
    pow_fi: float, int => floats |a, b| a.powf(b as f64);
    pow_ff: float, float => floats |a, b| a.powf(b);
    log_ii: int, int => floats |base, v| (v as f64).ln() / (base as f64).ln();
    log_if: int, float => floats |base, v| v.ln() / (base as f64).ln();
    log_fi: float, int => floats |base, v| (v as f64).ln() / base.ln();
    log_ff: float, float => floats |base, v| v.ln() / base.ln();
    bin_ii: int, int => ints |v, size| v.wrapping_sub(remainder(v, size));
    bin_tt: int, int => times |v, size| v.wrapping_sub(remainder(v, size));
    bin_fi: float, int => ints |v, size| (v as i64).wrapping_sub(remainder(v as i64, size));
}

number_kernels1! {
    neg_i: int => ints |a| a.wrapping_neg();
    neg_f: float => floats |a| -a;
    invert_i: int => ints |a| !a;
    ln_i: int => floats |a| (a as f64).ln();
    ln_f: float => floats |a| a.ln();
    log2_i: int => floats |a| (a as f64).log2();
    log2_f: float => floats |a| a.log2();
    log10_i: int => floats |a| (a as f64).log10();
    log10_f: float => floats |a| a.log10();
    exp_i: int => floats |a| (a as f64).exp();
    exp_f: float => floats |a| a.exp();
    sqrt_i: int => floats |a| (a as f64).sqrt();
    sqrt_f: float => floats |a| a.sqrt();
    abs_i: int => ints |a| a.wrapping_abs();
    abs_f: float => floats |a| a.abs();
    ceil_f: float => ints |a| a.ceil() as i64;
    floor_f: float => ints |a| a.floor() as i64;
}

#[inline]
fn remainder(a: i64, b: i64) -> i64 {
    if b == 0 { 0 } else { a.wrapping_rem(b) }
}

fn concat(call: &Call<'_>) -> arrow_array::ArrayRef {
    let (a, b) = (call.str(0), call.str(1));
    output::strings(call.rows, |row, out| {
        out.extend_from_slice(a.get(row));
        out.extend_from_slice(b.get(row));
    })
}

/// A double has at most 1,074 digits after the point; more would be zeros without end.
const DECIMALS_MAX: i64 = 1100;
/// What C's formatting takes for a negative number of digits.
const DECIMALS_DEFAULT: i64 = 6;

fn round_f(call: &Call<'_>) -> arrow_array::ArrayRef {
    use std::io::Write;
    let (value, decimals) = (call.float(0), call.int(1));
    output::strings(call.rows, |row, out| {
        let decimals = match decimals.get(row) {
            ..0 => DECIMALS_DEFAULT,
            decimals => decimals.min(DECIMALS_MAX),
        };
        let value = value.get(row);
        let written = if value.is_nan() {
            out.write_all(b"nan")
        } else {
            write!(out, "{value:.*}", decimals as usize)
        };
        written.expect("writing to memory cannot fail");
    })
}
