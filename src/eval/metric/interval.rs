//! How sure a number is: 95 % intervals of proportions, of means, and of the difference of two runs.

use serde::{Deserialize, Serialize};

/// Both ends of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// Two-sided 95 % quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// Wilson's 95 % interval of a proportion (Wilson 1927); `None` for no trials.
#[must_use]
pub fn wilson(successes: usize, trials: usize) -> Option<Interval> {
    if trials == 0 {
        return None;
    }
    let (n, p) = (trials as f64, successes.min(trials) as f64 / trials as f64);
    let centre = p + Z * Z / (2.0 * n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    // At 0 and at 1 rounding leaves a trace of what must be the bound itself.
    let low = if successes == 0 { 0.0 } else { (centre - half) / scale };
    let high = if successes >= trials { 1.0 } else { (centre + half) / scale };
    Some(Interval { low, high })
}

/// A mean with its 95 % bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Mean {
    /// The mean.
    pub mean: f64,
    /// Percentile interval.
    pub interval: Interval,
    /// Share of resamples on the side of zero that the mean is not on, doubled: small means the sign is sure.
    pub p: f64,
}

/// Bootstrap of a mean: `resamples` draws with replacement, the same for the same seed on every machine. `None` for no
/// values or no resamples.
#[must_use]
pub fn bootstrap(values: &[f64], resamples: usize, seed: u64) -> Option<Mean> {
    if values.is_empty() || resamples == 0 {
        return None;
    }
    let n = values.len();
    let mut random = SplitMix64(seed);
    let draw = |_| (0..n).map(|_| values[random.below(n)]).sum::<f64>() / n as f64;
    let mut means: Vec<f64> = (0..resamples).map(draw).collect();
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[((share * resamples as f64) as usize).min(resamples - 1)];
    let low = means.iter().filter(|m| **m <= 0.0).count();
    let high = means.iter().filter(|m| **m >= 0.0).count();
    Some(Mean {
        mean: values.iter().sum::<f64>() / n as f64,
        interval: Interval { low: at(0.025), high: at(0.975) },
        p: (2.0 * low.min(high) as f64 / resamples as f64).min(1.0),
    })
}

/// Paired bootstrap of `b - a`, value by value: does run `b` beat run `a` on the same questions? `None` where the runs
/// are of different length or empty.
#[must_use]
pub fn paired_bootstrap(a: &[f64], b: &[f64], resamples: usize, seed: u64) -> Option<Mean> {
    if a.len() != b.len() {
        return None;
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| b - a).collect();
    bootstrap(&differences, resamples, seed)
}

/// Steele, Lea and Flood's generator (2014): tiny, and the same in every version of everything.
struct SplitMix64(u64);

impl SplitMix64 {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((u128::from(z) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn close(found: Interval, low: f64, high: f64) {
        assert!((found.low - low).abs() < 5e-5 && (found.high - high).abs() < 5e-5, "{found:?}, not {low} to {high}");
    }

    #[test]
    fn wilson_agrees_with_published_values() {
        // Newcombe 1998, table I, method 3.
        close(wilson(81, 263).unwrap(), 0.2553, 0.3662);
        close(wilson(15, 148).unwrap(), 0.0624, 0.1605);
        close(wilson(0, 20).unwrap(), 0.0, 0.1611);
        close(wilson(1, 29).unwrap(), 0.0061, 0.1718);
        assert_eq!(wilson(7, 7).unwrap().high, 1.0);
        assert_eq!(wilson(0, 0), None);
    }

    #[test]
    fn the_bootstrap_of_a_proportion_is_near_wilson_and_repeats() {
        let values: Vec<f64> = (0..300).map(|i| f64::from(i % 10 < 4)).collect();
        let mean = bootstrap(&values, 2000, 1).unwrap();
        let exact = wilson(120, 300).unwrap();
        assert!((mean.mean - 0.4).abs() < 1e-12);
        assert!(
            (mean.interval.low - exact.low).abs() < 0.01 && (mean.interval.high - exact.high).abs() < 0.01,
            "{mean:?}"
        );
        assert_eq!(bootstrap(&values, 2000, 1), Some(mean));
        assert_ne!(bootstrap(&values, 2000, 2), Some(mean));
    }

    #[test]
    fn pairing_sees_a_small_steady_gain() {
        let a: Vec<f64> = (0..200).map(|i| f64::from(i % 2)).collect();
        let better: Vec<f64> = a.iter().enumerate().map(|(i, x)| if i % 20 == 0 { 1.0 } else { *x }).collect();
        let gain = paired_bootstrap(&a, &better, 1000, 7).unwrap();
        assert!((gain.mean - 0.05).abs() < 1e-12 && gain.interval.low > 0.0 && gain.p < 0.01, "{gain:?}");
        let same = paired_bootstrap(&a, &a, 1000, 7).unwrap();
        assert_eq!((same.mean, same.p), (0.0, 1.0));
        assert_eq!(paired_bootstrap(&a, &a[1..], 10, 7), None);
    }
}
