//! A quantile sketch in the making, for values that are only added: a few as they came, then an array
//! of counts around them. It is put in order once, when it is done, and is then what a [`Sketch`] is
//! that got the values one by one.

use super::sketch::{Sketch, bucket_of_f64, bucket_of_i64};

/// Values that wait before they are counted in an array, which so costs at most 32 bytes for each.
const FEW_MAX: usize = 128;
/// Buckets of the array, 16 octaves: 4 KiB. What lies outside is rare, and counted in a sketch.
const DENSE_BUCKETS: usize = 1024;

/// Values of one group.
#[derive(Clone, Debug, Default)]
pub struct SketchBuilder {
    few: Vec<i32>,
    /// The bucket of `counts[0]`.
    base: i32,
    counts: Vec<u32>,
    /// What lies outside of the array, or is more than it can count.
    rest: Sketch,
}

impl SketchBuilder {
    #[inline]
    pub fn add_i64(&mut self, value: i64) {
        self.add_bucket(bucket_of_i64(value));
    }

    #[inline]
    pub fn add_f64(&mut self, value: f64) {
        if let Some(bucket) = bucket_of_f64(value) {
            self.add_bucket(bucket);
        }
    }

    #[inline]
    fn add_bucket(&mut self, bucket: i32) {
        let at = i64::from(bucket) - i64::from(self.base);
        match usize::try_from(at).ok().and_then(|at| self.counts.get_mut(at)) {
            Some(count) if *count < u32::MAX => *count += 1,
            _ => self.add_elsewhere(bucket),
        }
    }

    fn add_elsewhere(&mut self, bucket: i32) {
        if !self.counts.is_empty() {
            self.rest.add_bucket(bucket, 1);
        } else if self.few.len() < FEW_MAX {
            self.few.push(bucket);
        } else {
            self.spread();
            self.add_bucket(bucket);
        }
    }

    /// Makes the array, with the median of what there is in its middle.
    fn spread(&mut self) {
        let mut few = std::mem::take(&mut self.few);
        let middle = few.len() / 2;
        let median = *few.select_nth_unstable(middle).1;
        self.base = median.saturating_sub(DENSE_BUCKETS as i32 / 2);
        self.counts = vec![0; DENSE_BUCKETS];
        for bucket in few {
            self.add_bucket(bucket);
        }
    }

    #[must_use]
    pub fn finish(mut self) -> Sketch {
        if self.counts.is_empty() {
            self.few.sort_unstable();
            let runs = || self.few.chunk_by(|left, right| left == right);
            let mut buckets = Vec::with_capacity(runs().count());
            buckets.extend(runs().map(|run| (run[0], run.len() as i64)));
            return Sketch::of_buckets(buckets);
        }
        let counted = || (self.base..).zip(&self.counts).filter(|(_, count)| **count != 0);
        let mut buckets = Vec::with_capacity(counted().count());
        buckets.extend(counted().map(|(bucket, &count)| (bucket, i64::from(count))));
        let mut sketch = Sketch::of_buckets(buckets);
        sketch.combine(&self.rest, false);
        sketch
    }

    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        4 * (self.few.capacity() + self.counts.capacity()) + self.rest.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A builder gives what adding one by one gives: catches values lost on the way from few to
        /// many, wrong ends of the array, and what lies outside of it.
        #[test]
        fn counts_as_one_by_one(
            near in vec(-900i64..900, 0..300),
            wide in vec(any::<i64>(), 0..300),
            ends in vec(prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0]), 0..200),
            order in 0..3usize,
        ) {
            let mut builder = SketchBuilder::default();
            let mut sketch = Sketch::default();
            for part in [order, order + 1, order + 2] {
                match part % 3 {
                    0 => near.iter().for_each(|&value| {
                        builder.add_i64(value);
                        sketch.add_i64(value, 1);
                    }),
                    1 => wide.iter().for_each(|&value| {
                        builder.add_i64(value);
                        sketch.add_i64(value, 1);
                    }),
                    _ => ends.iter().for_each(|&value| {
                        builder.add_f64(value);
                        sketch.add_f64(value, 1);
                    }),
                }
            }
            prop_assert_eq!(builder.finish(), sketch);
        }
    }

    /// A bucket fuller than the array counts: the rest is counted beside it.
    #[test]
    fn overflows_into_the_rest() {
        let mut builder = SketchBuilder::default();
        (0..=FEW_MAX).for_each(|_| builder.add_i64(7));
        let at = (bucket_of_i64(7) - builder.base) as usize;
        builder.counts[at] = u32::MAX - 1;
        (0..3).for_each(|_| builder.add_i64(7));
        assert_eq!(builder.finish().count(), i64::from(u32::MAX) + 2);
    }
}
