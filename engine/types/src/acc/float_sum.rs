//! The exact sum of FLOAT64 values, rounded once when it is read: order-free, so that partial sums
//! of many nodes agree to the bit with a sum in any other order, and an expired value leaves no
//! trace.
//!
//! A finite double is m · 2^(p − 1074) with a 53-bit m and 0 ≤ p ≤ 2045. The sum is kept as sparse
//! digits of base 2^32 in i64, so that 2^30 additions fit between two carries. NaNs and infinities
//! are counted apart and can leave again.

use serde::{Deserialize, Serialize};

const DIGIT_BITS: u32 = 32;
const DIGIT_BASE: i64 = 1 << DIGIT_BITS;
/// Additions before carries must be passed on: 2^30 · (2^32 − 1) < 2^63.
const ADDS_MAX: u32 = 1 << 30;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FloatSum {
    /// (digit position, digit), ascending, digits of any sign.
    digits: Vec<(u8, i64)>,
    adds: u32,
    nans: i64,
    infinities: i64,
    neg_infinities: i64,
}

impl FloatSum {
    pub fn add(&mut self, value: f64) {
        self.add_times(value, 1);
    }

    /// Adds `value` `times` times (negative: takes it away).
    pub fn add_times(&mut self, value: f64, times: i64) {
        if value.is_nan() {
            self.nans += times;
        } else if value == f64::INFINITY {
            self.infinities += times;
        } else if value == f64::NEG_INFINITY {
            self.neg_infinities += times;
        } else if times == 1 || times == -1 {
            self.add_finite(value, times < 0);
        } else {
            for _ in 0..times.unsigned_abs() {
                self.add_finite(value, times < 0);
            }
        }
    }

    fn add_finite(&mut self, value: f64, take: bool) {
        let bits = value.to_bits();
        let exponent = ((bits >> 52) & 0x7FF) as u32;
        let fraction = bits & ((1 << 52) - 1);
        let (mantissa, position) =
            if exponent == 0 { (fraction, 0) } else { (fraction | (1 << 52), exponent - 1) };
        if mantissa == 0 {
            return;
        }
        let negative = (bits >> 63 == 1) != take;
        let mut wide = u128::from(mantissa) << (position % DIGIT_BITS);
        let mut at = (position / DIGIT_BITS) as u8;
        while wide != 0 {
            let digit = (wide & 0xFFFF_FFFF) as i64;
            self.add_digit(at, if negative { -digit } else { digit });
            wide >>= DIGIT_BITS;
            at += 1;
        }
        self.count_adds(1);
    }

    fn add_digit(&mut self, at: u8, digit: i64) {
        if digit == 0 {
            return;
        }
        match self.digits.binary_search_by_key(&at, |entry| entry.0) {
            Ok(idx) => self.digits[idx].1 += digit,
            Err(idx) => self.digits.insert(idx, (at, digit)),
        }
    }

    fn count_adds(&mut self, adds: u32) {
        self.adds = self.adds.saturating_add(adds);
        if self.adds >= ADDS_MAX / 2 {
            self.carry();
        }
    }

    /// Passes carries on: digits end within (−2^32, 2^32) and zeros go.
    fn carry(&mut self) {
        let mut out: Vec<(u8, i64)> = Vec::with_capacity(self.digits.len() + 1);
        let mut pending: Option<(u8, i64)> = None;
        let mut input = std::mem::take(&mut self.digits).into_iter().peekable();
        loop {
            let (at, digit) = match (pending, input.peek().copied()) {
                (None, None) => break,
                (Some(carry), Some(next)) if next.0 == carry.0 => {
                    input.next();
                    (carry.0, carry.1 + next.1)
                }
                (Some(carry), _) => carry,
                (None, Some(next)) => {
                    input.next();
                    next
                }
            };
            let (rest, carry) = (digit % DIGIT_BASE, digit / DIGIT_BASE);
            if rest != 0 {
                out.push((at, rest));
            }
            pending = (carry != 0).then_some((at + 1, carry));
        }
        self.digits = out;
        self.adds = 1;
    }

    pub(super) fn combine(&mut self, other: &FloatSum, take: bool) {
        let sign = if take { -1 } else { 1 };
        self.nans += sign * other.nans;
        self.infinities += sign * other.infinities;
        self.neg_infinities += sign * other.neg_infinities;
        if self.adds.saturating_add(other.adds) >= ADDS_MAX {
            self.carry();
        }
        for &(at, digit) in &other.digits {
            self.add_digit(at, sign * digit);
        }
        self.count_adds(other.adds.max(1));
        if take {
            self.digits.retain(|entry| entry.1 != 0);
        }
    }

    /// The sum, rounded once to nearest even. NaN if a NaN, or infinities of both signs, are in it.
    #[must_use]
    pub fn value(&self) -> f64 {
        match (self.nans != 0, self.infinities != 0, self.neg_infinities != 0) {
            (true, _, _) | (false, true, true) => f64::NAN,
            (false, true, false) => f64::INFINITY,
            (false, false, true) => f64::NEG_INFINITY,
            (false, false, false) => self.finite_value(),
        }
    }

    fn finite_value(&self) -> f64 {
        let (negative, digits) = self.magnitude();
        let Some(top) = digits.iter().rposition(|&digit| digit != 0) else {
            return 0.0;
        };
        // The three highest digits hold at least 65 significant bits; the rest only breaks ties.
        let low = top.saturating_sub(2);
        let mut wide = 0u128;
        for &digit in digits[low..=top].iter().rev() {
            wide = (wide << DIGIT_BITS) | u128::from(digit);
        }
        let sticky = digits[..low].iter().any(|&digit| digit != 0);
        let magnitude = round(wide, sticky, low as u32 * DIGIT_BITS);
        if negative { -magnitude } else { magnitude }
    }

    /// Sign and dense digits in 0..2^32.
    fn magnitude(&self) -> (bool, Vec<u32>) {
        let mut dense = vec![0i64; self.digits.last().map_or(0, |entry| entry.0 as usize) + 3];
        for &(at, digit) in &self.digits {
            dense[at as usize] = digit;
        }
        let negative = propagate(&mut dense) < 0;
        if negative {
            for digit in &mut dense {
                *digit = -*digit;
            }
            propagate(&mut dense);
        }
        (negative, dense.into_iter().map(|digit| digit as u32).collect())
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.digits.capacity() * size_of::<(u8, i64)>()
    }
}

/// Brings all digits but the last into 0..2^32 and leaves the sign in the last; returns it.
fn propagate(dense: &mut [i64]) -> i64 {
    let mut carry = 0;
    let last = dense.len() - 1;
    for digit in &mut dense[..last] {
        let sum = *digit + carry;
        *digit = sum.rem_euclid(DIGIT_BASE);
        carry = sum.div_euclid(DIGIT_BASE);
    }
    dense[last] += carry;
    dense[last]
}

/// `wide · 2^(position − 1074)` to nearest even; `sticky`: there is something below `wide`.
fn round(wide: u128, sticky: bool, position: u32) -> f64 {
    let top_bit = 127 - wide.leading_zeros();
    if position == 0 && top_bit <= 52 {
        return f64::from_bits(wide as u64);
    }
    // With position > 0 three digits were taken, so at least 65 bits stand above the point.
    let drop_bits = top_bit - 52;
    let mut quotient = (wide >> drop_bits) as u64;
    let rest = wide & ((1 << drop_bits) - 1);
    let half = 1u128 << (drop_bits - 1);
    if rest > half || (rest == half && (sticky || quotient & 1 == 1)) {
        quotient += 1;
    }
    let mut shift = drop_bits + position;
    if quotient >> 53 == 1 {
        quotient >>= 1;
        shift += 1;
    }
    if shift + 1 >= 0x7FF {
        return f64::INFINITY;
    }
    f64::from_bits((u64::from(shift + 1) << 52) | (quotient & ((1 << 52) - 1)))
}

/// Equal if every later sum would be equal: the same value, exactly.
impl PartialEq for FloatSum {
    fn eq(&self, other: &FloatSum) -> bool {
        let mut difference = self.clone();
        difference.combine(other, true);
        difference.carry();
        difference.nans == 0
            && difference.infinities == 0
            && difference.neg_infinities == 0
            && difference.magnitude().1.iter().all(|&digit| digit == 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum_of(values: &[f64]) -> FloatSum {
        let mut sum = FloatSum::default();
        values.iter().for_each(|&value| sum.add(value));
        sum
    }

    /// Cases whose naive sum is wrong: catches lost low bits, bad carries and bad rounding.
    #[test]
    fn known_sums() {
        assert_eq!(sum_of(&[1e308, 1.0, -1e308]).value(), 1.0);
        assert_eq!(sum_of(&[0.1; 10]).value(), 1.0);
        assert_eq!(sum_of(&[f64::MAX, f64::MAX]).value(), f64::INFINITY);
        assert_eq!(sum_of(&[5e-324, 5e-324]).value(), 1e-323);
        assert_eq!(sum_of(&[]).value().to_bits(), 0);
        assert_eq!(sum_of(&[1.0, 2f64.powi(-53)]).value(), 1.0);
        assert_eq!(sum_of(&[1.0, 2f64.powi(-53), 5e-324]).value(), 1.0 + f64::EPSILON);
        assert!(sum_of(&[f64::INFINITY, f64::NEG_INFINITY]).value().is_nan());
        let mut sum = sum_of(&[2.5, f64::NAN]);
        sum.add_times(f64::NAN, -1);
        assert_eq!(sum.value(), 2.5);
    }

    proptest! {
        /// One value comes back to the bit, two values round like the hardware (whose + rounds
        /// once), and order, splitting and taking back change nothing.
        #[test]
        fn is_exact(a in any::<f64>(), b in any::<f64>(), rest in proptest::collection::vec(any::<f64>(), 0..20)) {
            prop_assert_eq!(sum_of(&[a]).value(), a + 0.0);
            let hardware = a + b;
            if hardware.is_finite() {
                prop_assert_eq!(sum_of(&[a, b]).value(), hardware);
            }
            let mut reversed = rest.clone();
            reversed.reverse();
            prop_assert_eq!(sum_of(&rest), sum_of(&reversed));
            let mut all = sum_of(&rest);
            all.combine(&sum_of(&[a, b]), false);
            all.combine(&sum_of(&[b, a]), true);
            prop_assert_eq!(all.value().to_bits(), sum_of(&rest).value().to_bits());
        }
    }
}
