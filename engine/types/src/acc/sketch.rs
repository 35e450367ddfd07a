//! The quantile sketch: counts per bucket, where a bucket is a value's sign and the top bits of its
//! magnitude (64 sub-buckets an octave, error ≤ 0.8 %). Counts are i64, so that sketches subtract
//! exactly. Any INT64 or FLOAT64 value has a bucket; NaN is left out, infinities rank at the ends.
//!
//! The value reported for a bucket is its midpoint: of the interval for floats, of the integers in
//! it for integers (so that integers up to 128 come back exactly).

use serde::{Deserialize, Serialize};

/// Bits of the mantissa that stay: 64 sub-buckets an octave.
const SUB_BITS: u32 = 6;
const DROPPED_BITS: u32 = 52 - SUB_BITS;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sketch {
    /// (bucket, count), ascending, no zero counts. Bucket order is value order.
    buckets: Vec<(i32, i64)>,
}

/// Below every finite bucket, above every finite bucket.
const BUCKET_NEG_INFINITY: i32 = i32::MIN;
const BUCKET_INFINITY: i32 = i32::MAX;

fn bucket_of_magnitude(magnitude: f64) -> i32 {
    (magnitude.to_bits() >> DROPPED_BITS) as i32
}

/// The bucket of a float; `None` for NaN. −0 and 0 share bucket 0.
#[must_use]
pub fn bucket_of_f64(value: f64) -> Option<i32> {
    if value.is_nan() {
        None
    } else if value == f64::INFINITY {
        Some(BUCKET_INFINITY)
    } else if value == f64::NEG_INFINITY {
        Some(BUCKET_NEG_INFINITY)
    } else if value < 0.0 {
        // One below the mirror image, so that bucket 0 belongs to zero and tiny positives only.
        Some(-bucket_of_magnitude(-value) - 1)
    } else {
        Some(bucket_of_magnitude(value + 0.0))
    }
}

/// The bucket of an integer, by truncation: no rounding across a bucket's edge.
#[must_use]
pub fn bucket_of_i64(value: i64) -> i32 {
    let magnitude = value.unsigned_abs();
    if magnitude == 0 {
        return 0;
    }
    let octave = 63 - magnitude.leading_zeros();
    let kept = if octave >= SUB_BITS {
        magnitude >> (octave - SUB_BITS)
    } else {
        magnitude << (SUB_BITS - octave)
    };
    let sub = (kept & ((1 << SUB_BITS) - 1)) as i32;
    let bucket = ((1023 + octave as i32) << SUB_BITS) | sub;
    if value < 0 { -bucket - 1 } else { bucket }
}

fn magnitude_bounds(bucket: i32) -> (f64, f64) {
    let low = f64::from_bits((bucket as u64) << DROPPED_BITS);
    let high = f64::from_bits(((bucket as u64) + 1) << DROPPED_BITS);
    (low, high)
}

/// The midpoint of a bucket. `integers`: of the integers in it.
#[must_use]
pub fn bucket_midpoint(bucket: i32, integers: bool) -> f64 {
    match bucket {
        BUCKET_INFINITY => return f64::MAX,
        BUCKET_NEG_INFINITY => return f64::MIN,
        0 => return 0.0,
        _ => {}
    }
    let negative = bucket < 0;
    let (low, high) = magnitude_bounds(if negative { -bucket - 1 } else { bucket });
    let magnitude = if integers {
        let (first, last) = (low.ceil(), (high.ceil() - 1.0).max(low.ceil()));
        first + (last - first) / 2.0
    } else if high.is_finite() {
        low + (high - low) / 2.0
    } else {
        low
    };
    if negative { -magnitude } else { magnitude }
}

impl Sketch {
    pub fn add_f64(&mut self, value: f64, times: i64) {
        if let Some(bucket) = bucket_of_f64(value) {
            self.add_bucket(bucket, times);
        }
    }
    pub fn add_i64(&mut self, value: i64, times: i64) {
        self.add_bucket(bucket_of_i64(value), times);
    }

    /// Of (bucket, count), ascending, no zero counts.
    pub(super) fn of_buckets(buckets: Vec<(i32, i64)>) -> Sketch {
        Sketch { buckets }
    }

    pub(super) fn add_bucket(&mut self, bucket: i32, times: i64) {
        match self.buckets.binary_search_by_key(&bucket, |entry| entry.0) {
            Ok(idx) => {
                self.buckets[idx].1 += times;
                if self.buckets[idx].1 == 0 {
                    self.buckets.remove(idx);
                }
            }
            Err(idx) if times != 0 => self.buckets.insert(idx, (bucket, times)),
            Err(_) => {}
        }
    }

    pub(super) fn combine(&mut self, other: &Sketch, take: bool) {
        let sign = if take { -1 } else { 1 };
        // Few new entries into many: insert one by one; else merge both lists.
        if other.buckets.len() * 8 < self.buckets.len() {
            for &(bucket, count) in &other.buckets {
                self.add_bucket(bucket, sign * count);
            }
            return;
        }
        let mut out = Vec::with_capacity(self.buckets.len() + other.buckets.len());
        let (mut left, mut right) =
            (self.buckets.iter().peekable(), other.buckets.iter().peekable());
        loop {
            let (bucket, count) = match (left.peek(), right.peek()) {
                (None, None) => break,
                (Some(&&(bucket, count)), other) if other.is_none_or(|&&(b, _)| bucket < b) => {
                    left.next();
                    (bucket, count)
                }
                (Some(&&(bucket, count)), Some(&&(b, c))) if bucket == b => {
                    left.next();
                    right.next();
                    (bucket, count + sign * c)
                }
                (_, Some(&&(bucket, count))) => {
                    right.next();
                    (bucket, sign * count)
                }
                (Some(_), None) => break,
            };
            if count != 0 {
                out.push((bucket, count));
            }
        }
        self.buckets = out;
    }

    /// Values in it.
    #[must_use]
    pub fn count(&self) -> i64 {
        self.buckets.iter().map(|entry| entry.1).sum()
    }

    /// The midpoints at nearest ranks ⌈q·n⌉ for ascending `quantiles`; `None` if it is empty.
    #[must_use]
    pub fn quantiles<const N: usize>(
        &self,
        quantiles: [f64; N],
        integers: bool,
    ) -> Option<[f64; N]> {
        let count = self.count();
        if count <= 0 {
            return None;
        }
        let mut out = [0.0; N];
        let mut entries = self.buckets.iter();
        let (mut bucket, mut seen) = (0, 0);
        for (slot, quantile) in out.iter_mut().zip(quantiles) {
            let rank = ((quantile * count as f64).ceil() as i64).clamp(1, count);
            while seen < rank {
                let Some(entry) = entries.next() else { break };
                bucket = entry.0;
                seen += entry.1;
            }
            *slot = bucket_midpoint(bucket, integers);
        }
        Some(out)
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<(i32, i64)>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A bucket's midpoint is within 0.8 % of every value in it, and buckets keep the order of
        /// values: catches a wrong shift, a wrong sign and an unordered negative side.
        #[test]
        fn buckets_are_close_and_ordered(a in any::<i64>(), b in any::<i64>()) {
            let close = |value: f64, mid: f64| (value - mid).abs() <= value.abs() * 0.008;
            prop_assert!(close(a as f64, bucket_midpoint(bucket_of_i64(a), true)));
            let x = a as f64 / 1e9;
            let mid = bucket_midpoint(bucket_of_f64(x).unwrap(), false);
            prop_assert!(close(x, mid), "{} {}", x, mid);
            if a < b {
                prop_assert!(bucket_of_i64(a) <= bucket_of_i64(b));
            }
        }

        /// Merging and taking away again leaves exactly what was there.
        #[test]
        fn combines_as_a_group(a in proptest::collection::vec(any::<i32>(), 0..40), b in proptest::collection::vec(any::<i32>(), 0..40)) {
            let of = |values: &[i32]| {
                let mut sketch = Sketch::default();
                values.iter().for_each(|&value| sketch.add_i64(value.into(), 1));
                sketch
            };
            let mut both = of(&a);
            both.combine(&of(&b), false);
            let together: Vec<i32> = a.iter().chain(&b).copied().collect();
            prop_assert_eq!(&both, &of(&together));
            both.combine(&of(&b), true);
            prop_assert_eq!(both, of(&a));
        }
    }

    /// Nearest rank, exact small integers, and the ends.
    #[test]
    fn ranks() {
        let mut sketch = Sketch::default();
        (1..=100).for_each(|value| sketch.add_i64(value, 1));
        assert_eq!(sketch.quantiles([0.01, 0.5, 0.99], true), Some([1.0, 50.0, 99.0]));
        let mut ends = Sketch::default();
        ends.add_f64(f64::NAN, 1);
        assert_eq!(ends.quantiles([0.5], false), None);
        ends.add_f64(f64::INFINITY, 1);
        ends.add_f64(0.0, 1);
        assert_eq!(ends.quantiles([0.5, 0.99], false), Some([0.0, f64::MAX]));
    }
}
