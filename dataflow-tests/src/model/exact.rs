//! The exact sum of doubles, by schoolbook arithmetic: every finite double is an integer multiple of
//! 2^-1074, so the sum is one wide integer in two's complement, rounded when it is read.
//!
//! On purpose it shares nothing with `weir_types::acc::FloatSum`, whose results it judges.

/// 2^-1074 · (2^53 · 2^2045) needs 2,098 bits; the rest is room for counts and the sign.
const LIMBS: usize = 36;

/// A wide integer, least significant limb first, in units of 2^-1074.
#[derive(Clone, Copy)]
struct Wide([u64; LIMBS]);

impl Wide {
    fn zero() -> Wide {
        Wide([0; LIMBS])
    }

    fn add(&mut self, other: &Wide) {
        let mut carry = false;
        for (limb, add) in self.0.iter_mut().zip(other.0) {
            let (once, first) = limb.overflowing_add(add);
            let (twice, second) = once.overflowing_add(u64::from(carry));
            *limb = twice;
            carry = first || second;
        }
    }

    fn negated(&self) -> Wide {
        let mut out = Wide::zero();
        for (limb, have) in out.0.iter_mut().zip(self.0) {
            *limb = !have;
        }
        let mut one = Wide::zero();
        one.0[0] = 1;
        out.add(&one);
        out
    }

    fn is_negative(&self) -> bool {
        self.0[LIMBS - 1] >> 63 == 1
    }

    fn bit(&self, at: usize) -> bool {
        self.0[at / 64] >> (at % 64) & 1 == 1
    }

    fn top_bit(&self) -> Option<usize> {
        (0..LIMBS * 64).rev().find(|&at| self.bit(at))
    }

    /// A finite double in units of 2^-1074.
    fn of(value: f64) -> Wide {
        let bits = value.to_bits();
        let biased = (bits >> 52 & 0x7FF) as usize;
        let fraction = bits & ((1 << 52) - 1);
        let (mantissa, shift) =
            if biased == 0 { (fraction, 0) } else { (fraction + (1 << 52), biased - 1) };
        let mut out = Wide::zero();
        for at in (0..53).filter(|at| mantissa >> at & 1 == 1) {
            out.0[(at + shift) / 64] |= 1 << ((at + shift) % 64);
        }
        if bits >> 63 == 1 { out.negated() } else { out }
    }

    /// To the nearest double, ties to even.
    fn rounded(&self) -> f64 {
        if self.is_negative() {
            return -self.negated().rounded();
        }
        let Some(top) = self.top_bit() else { return 0.0 };
        if top < 53 {
            // Subnormal, or the lowest normal octave: the integer is the bit pattern itself.
            return f64::from_bits(self.0[0]);
        }
        let lowest = top - 52;
        let mut mantissa = 0u64;
        for at in (lowest..=top).rev() {
            mantissa = mantissa << 1 | u64::from(self.bit(at));
        }
        let half = self.bit(lowest - 1);
        let below = (0..lowest - 1).any(|at| self.bit(at));
        let up = half && (below || mantissa & 1 == 1);
        // A carry out of the mantissa moves into the exponent by itself, up to infinity.
        let exponent = lowest as u64 + 1;
        if exponent >= 0x7FF {
            return f64::INFINITY;
        }
        f64::from_bits((exponent << 52) + (mantissa - (1 << 52)) + u64::from(up))
    }
}

/// The sum of all values, rounded once. NaN with a NaN or with infinities of both signs.
#[must_use]
pub(super) fn sum(values: &[f64]) -> f64 {
    let has = |wanted: f64| values.contains(&wanted);
    if values.iter().any(|value| value.is_nan()) || (has(f64::INFINITY) && has(f64::NEG_INFINITY)) {
        return f64::NAN;
    }
    if has(f64::INFINITY) {
        return f64::INFINITY;
    }
    if has(f64::NEG_INFINITY) {
        return f64::NEG_INFINITY;
    }
    let mut total = Wide::zero();
    for &value in values {
        total.add(&Wide::of(value));
    }
    total.rounded()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any as anything, prop_assert, prop_assert_eq, proptest};
    use weir_types::acc::FloatSum;

    use super::*;

    /// Sums whose naive evaluation is wrong: the judge itself must not be.
    #[test]
    fn known_sums() {
        assert_eq!(sum(&[]).to_bits(), 0);
        assert_eq!(sum(&[-0.0]).to_bits(), 0);
        assert_eq!(sum(&[1e308, 1.0, -1e308]), 1.0);
        assert_eq!(sum(&[0.1; 10]), 1.0);
        assert_eq!(sum(&[f64::MAX, f64::MAX]), f64::INFINITY);
        assert_eq!(sum(&[f64::MAX, f64::MAX, -f64::MAX]), f64::MAX);
        assert_eq!(sum(&[-5e-324, -5e-324]), -1e-323);
        assert_eq!(sum(&[1.0, 2f64.powi(-53)]), 1.0);
        assert_eq!(sum(&[1.0, 2f64.powi(-53), 5e-324]), 1.0 + f64::EPSILON);
        assert_eq!(sum(&[f64::INFINITY, 1.0]), f64::INFINITY);
        assert!(sum(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
        assert!(sum(&[1.0, f64::NAN]).is_nan());
    }

    proptest! {
        /// Two values round as the hardware rounds, and the engine's accumulator agrees to the bit.
        #[test]
        fn agrees_with_hardware_and_accumulator(values in proptest::collection::vec(anything::<f64>(), 0..20)) {
            if let [a, b, ..] = values[..] && (a + b).is_finite() {
                prop_assert_eq!(sum(&[a, b]), a + b);
            }
            let mut accumulator = FloatSum::default();
            values.iter().for_each(|&value| accumulator.add(value));
            let (ours, theirs) = (sum(&values), accumulator.value());
            prop_assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()));
        }
    }
}
