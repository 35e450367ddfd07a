//! K-means over embeddings (JSON arrays of numbers): what `_kmeans_fit` computes and
//! `_kmeans_inference` reads.
//!
//! The result depends on the set of points only, not on their order: points come in bytewise order
//! of their texts, the first centre is the heaviest point, each further one the point that weighs
//! and lies farthest from the centres so far, and sums run in that order. The work is bounded by
//! [`POINTS_MAX`], [`CENTERS_MAX`], [`ROUNDS_MAX`] and [`WORK_MAX`], whatever comes in.

use crate::cuts::{self, Cut};
use crate::json::{self, JsonKind};

/// More distinct points are thinned out evenly: each refresh of a changed group computes anew.
const POINTS_MAX: usize = 1024;
pub(crate) const CENTERS_MAX: i64 = 64;
/// Rounds of moving centres; centres rarely move after ten.
const ROUNDS_MAX: usize = 16;
/// Numbers of points that are looked at, each once a centre and round: some 20 ms. A thousand points of 128
/// numbers may have seven centres; with more centres or longer points there are fewer points.
const WORK_MAX: usize = 16_000_000;
/// Squares and sums of numbers up to this stay finite.
const NUMBER_MAX: f64 = 1e100;

/// A point and how often it occurs.
pub(crate) struct Weighted {
    pub(crate) point: Vec<f64>,
    pub(crate) weight: i64,
}

/// The numbers of a JSON array; `None` if it is empty or holds anything but numbers up to
/// [`NUMBER_MAX`].
pub(crate) fn read_point(text: &[u8]) -> Option<Vec<f64>> {
    let (mut point, mut all_numbers) = (Vec::new(), true);
    json::for_elements(text, |token| {
        let number = match token.kind {
            JsonKind::Integer | JsonKind::Double => {
                std::str::from_utf8(token.raw).ok().and_then(|text| text.parse::<f64>().ok())
            }
            _ => None,
        };
        all_numbers &= number.is_some_and(|number| number.abs() <= NUMBER_MAX);
        point.push(number.unwrap_or(0.0));
    })?;
    (all_numbers && !point.is_empty()).then_some(point)
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// The position of the nearest centre, the first of several; `None` without centres of the point's
/// length.
pub(crate) fn nearest(centers: &[Vec<f64>], point: &[f64]) -> Option<usize> {
    let fitting = centers.iter().enumerate().filter(|(_, center)| center.len() == point.len());
    let distances = fitting.map(|(idx, center)| (idx, distance(center, point)));
    distances.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(idx, _)| idx)
}

/// At most `count` centres of the points; points of another length than the first are left out.
pub(crate) fn fit(mut points: Vec<Weighted>, count: i64) -> Vec<Vec<f64>> {
    let Some(length) = points.first().map(|first| first.point.len()) else { return Vec::new() };
    points.retain(|weighted| weighted.point.len() == length);
    let count = usize::try_from(count.clamp(0, CENTERS_MAX)).unwrap_or(0);
    let point_work = length.saturating_mul(count.max(1) * (ROUNDS_MAX + 1));
    let points_max = POINTS_MAX.min(WORK_MAX / point_work).max(1);
    if points.len() > points_max {
        cuts::note(Cut::Values, points.len() - points_max);
        let (all, mut idx) = (points.len(), 0);
        points.retain(|_| {
            idx += 1;
            (idx - 1) * points_max / all != idx * points_max / all
        });
    }
    let mut centers = spread_out(&points, count);
    for _ in 0..ROUNDS_MAX {
        let moved = means(&points, &centers);
        if moved == centers {
            break;
        }
        centers = moved;
    }
    centers
}

/// First centres: fewer than `count` if there are fewer distinct points.
fn spread_out(points: &[Weighted], count: usize) -> Vec<Vec<f64>> {
    let mut centers: Vec<Vec<f64>> = Vec::with_capacity(count);
    let mut urgency: Vec<f64> = points.iter().map(|weighted| weighted.weight as f64).collect();
    let mut distances = vec![f64::INFINITY; points.len()];
    while centers.len() < count {
        // The first of several: `max_by` would take the last.
        let farthest = urgency.iter().enumerate().rev().max_by(|(_, a), (_, b)| a.total_cmp(b));
        let Some((idx, _)) = farthest.filter(|(_, urgency)| **urgency > 0.0) else { break };
        let center = points[idx].point.clone();
        for (at, weighted) in points.iter().enumerate() {
            distances[at] = distances[at].min(distance(&center, &weighted.point));
            urgency[at] = distances[at] * weighted.weight as f64;
        }
        centers.push(center);
    }
    centers
}

/// Each centre as the mean of the points nearest to it; one without points stays.
fn means(points: &[Weighted], centers: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let mut sums: Vec<(Vec<f64>, f64)> =
        centers.iter().map(|center| (vec![0.0; center.len()], 0.0)).collect();
    for Weighted { point, weight } in points {
        let Some(idx) = nearest(centers, point) else { continue };
        let (sum, total) = &mut sums[idx];
        *total += *weight as f64;
        for (sum, value) in sum.iter_mut().zip(point) {
            *sum += value * *weight as f64;
        }
    }
    let mean = |((mut sum, total), center): ((Vec<f64>, f64), &Vec<f64>)| {
        if total == 0.0 {
            return center.clone();
        }
        sum.iter_mut().for_each(|value| *value /= total);
        sum
    };
    sums.into_iter().zip(centers).map(mean).collect()
}

/// `{"centers":[[…],…]}`
pub(crate) fn push_model(out: &mut Vec<u8>, centers: &[Vec<f64>]) {
    out.extend_from_slice(b"{\"centers\":[");
    for (idx, center) in centers.iter().enumerate() {
        out.extend_from_slice(if idx == 0 { b"[" } else { b",[" });
        for (idx, value) in center.iter().enumerate() {
            if idx > 0 {
                out.push(b',');
            }
            json::push_double(out, *value);
        }
        out.push(b']');
    }
    out.extend_from_slice(b"]}");
}

/// `None` if the text is not what [`push_model`] writes.
pub(crate) fn read_model(text: &[u8]) -> Option<Vec<Vec<f64>>> {
    let (mut centers, mut all_points) = (Vec::new(), true);
    json::for_elements(json::member(text, b"centers")?.raw, |token| match read_point(token.raw) {
        Some(point) => centers.push(point),
        None => all_points = false,
    })?;
    all_points.then_some(centers)
}
