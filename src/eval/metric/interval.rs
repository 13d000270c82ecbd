//! How sure a number is: 95 % intervals of proportions, of means, and of the difference of two runs; and the test of
//! whether two runs differ.

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

/// The probabilities of a binomial distribution that are not next to nothing.
struct Binomial {
    /// The number of successes of the first.
    first: usize,
    probabilities: Vec<f64>,
}

impl Binomial {
    /// Of `n` trials with probability `p`. From its peak outwards, since the factorials of thousands have no numbers.
    fn new(n: usize, p: f64) -> Self {
        const LEAST: f64 = 1e-300;
        let odds = p / (1.0 - p);
        let peak = ((n + 1) as f64 * p).floor().min(n as f64) as usize;
        let (mut below, mut above) = (Vec::new(), vec![1.0]);
        let (mut k, mut weight) = (peak, 1.0);
        while k > 0 {
            weight *= k as f64 / ((n - k + 1) as f64 * odds);
            if weight < LEAST {
                break;
            }
            k -= 1;
            below.push(weight);
        }
        (k, weight) = (peak, 1.0);
        while k < n {
            weight *= (n - k) as f64 / (k + 1) as f64 * odds;
            if weight < LEAST || weight.is_nan() {
                break;
            }
            k += 1;
            above.push(weight);
        }
        let first = peak - below.len();
        let mut probabilities: Vec<f64> = below.into_iter().rev().chain(above).collect();
        let sum: f64 = probabilities.iter().sum();
        probabilities.iter_mut().for_each(|p| *p /= sum);
        Self { first, probabilities }
    }

    /// The least number of successes that this share of outcomes does not exceed.
    fn quantile(&self, share: f64) -> usize {
        let mut sum = 0.0;
        let at = self.probabilities.iter().position(|p| {
            sum += p;
            sum >= share
        });
        self.first + at.unwrap_or(self.probabilities.len() - 1)
    }

    /// The probability of `k` successes at most.
    fn at_most(&self, k: usize) -> f64 {
        let count = (k + 1).saturating_sub(self.first).min(self.probabilities.len());
        self.probabilities[..count].iter().sum()
    }
}

/// The 95 % percentile interval of the bootstrap of a proportion. Drawing with replacement from right and wrong answers is
/// a binomial distribution, so nothing needs to be drawn. Of none or all right it has no width. `None` for no trials.
#[must_use]
pub fn bootstrap_proportion(successes: usize, trials: usize) -> Option<Interval> {
    if trials == 0 {
        return None;
    }
    let n = trials as f64;
    if successes == 0 || successes >= trials {
        let value = if successes == 0 { 0.0 } else { 1.0 };
        return Some(Interval { low: value, high: value });
    }
    let draws = Binomial::new(trials, successes as f64 / n);
    Some(Interval { low: draws.quantile(0.025) as f64 / n, high: draws.quantile(0.975) as f64 / n })
}

/// The 95 % percentile interval of the bootstrap of a figure of two proportions, each given as successes and trials and drawn
/// apart, the same for the same seed. `None` where either has no trials.
#[must_use]
pub fn bootstrap_of_two(
    proportions: [(usize, usize); 2],
    figure: impl Fn(f64, f64) -> f64,
    resamples: usize,
    seed: u64,
) -> Option<Interval> {
    if resamples == 0 || proportions.iter().any(|(_, n)| *n == 0) {
        return None;
    }
    let mut random = SplitMix64(seed);
    let draws = proportions.map(|(successes, n)| {
        let p = successes as f64 / n as f64;
        (0 < successes && successes < n).then(|| Binomial::new(n, p)).ok_or(p)
    });
    let mut figures: Vec<f64> = (0..resamples)
        .map(|_| {
            let mut draw = |which: usize| match &draws[which] {
                Ok(draws) => draws.quantile(random.share()) as f64 / proportions[which].1 as f64,
                Err(certain) => *certain,
            };
            let (a, b) = (draw(0), draw(1));
            figure(a, b)
        })
        .collect();
    figures.sort_by(f64::total_cmp);
    let at = |share: f64| figures[((share * resamples as f64) as usize).min(resamples - 1)];
    Some(Interval { low: at(0.025), high: at(0.975) })
}

/// McNemar's exact two-sided test (McNemar 1947): the probability of questions being gained and lost as unevenly as this, or
/// more, where both runs are equally good. 1 where nothing differs.
#[must_use]
pub fn mcnemar(gained: usize, lost: usize) -> f64 {
    match gained + lost {
        0 => 1.0,
        n => (2.0 * Binomial::new(n, 0.5).at_most(gained.min(lost))).min(1.0),
    }
}

/// The `p`-th percentile (0 to 100) by linear interpolation between the nearest ranks; `None` without values.
#[must_use]
pub fn percentile(values: &[f64], p: f64) -> Option<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    let at = (p / 100.0).clamp(0.0, 1.0) * last as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(below + (above - below) * at.fract())
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
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// A number from 0 to 1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
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
    fn the_bootstrap_of_a_proportion_is_what_drawing_gives() {
        for (successes, n) in [(120, 300), (3, 40), (39_500, 73_620), (1, 2)] {
            let exact = bootstrap_proportion(successes, n).unwrap();
            let p = successes as f64 / n as f64;
            let sd = (p * (1.0 - p) / n as f64).sqrt();
            assert!(
                exact.low <= p && p <= exact.high && exact.high - exact.low < 4.2 * sd + 1.5 / n as f64,
                "{exact:?}"
            );
            if n <= 300 && n > 2 {
                let values: Vec<f64> = (0..n).map(|i| f64::from(u8::from(i < successes))).collect();
                let drawn = bootstrap(&values, 20_000, 5).unwrap().interval;
                let near = |a: f64, b: f64| (a - b).abs() <= 1.01 / n as f64;
                assert!(near(drawn.low, exact.low) && near(drawn.high, exact.high), "{drawn:?} {exact:?}");
            }
        }
        assert_eq!(bootstrap_proportion(7, 7), Some(Interval { low: 1.0, high: 1.0 }));
        assert_eq!((bootstrap_proportion(0, 0), bootstrap_proportion(0, 3).unwrap().high), (None, 0.0));
        let both = bootstrap_of_two([(120, 300), (0, 10)], |a, b| a + b, 2000, 3).unwrap();
        let one = bootstrap_proportion(120, 300).unwrap();
        assert!((both.low - one.low).abs() < 0.01 && (both.high - one.high).abs() < 0.01, "{both:?} {one:?}");
        assert_eq!(bootstrap_of_two([(1, 2), (0, 0)], |a, b| a + b, 100, 3), None);
    }

    #[test]
    fn mcnemar_is_the_exact_binomial_test() {
        // scipy.stats.binomtest(k, n, 0.5).pvalue
        for (gained, lost, p) in [(1, 7, 0.0703125), (10, 10, 1.0), (0, 5, 0.0625), (20, 41, 0.009_853_448)] {
            assert!((mcnemar(gained, lost) - p).abs() < 1e-6, "{} {p}", mcnemar(gained, lost));
        }
        assert_eq!(mcnemar(0, 0), 1.0);
        assert!(mcnemar(1000, 3000) < 1e-200 && mcnemar(20_000, 20_050) > 0.7);
    }

    #[test]
    fn the_bootstrap_of_a_mean_is_near_wilson_and_repeats() {
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
    fn percentiles_lie_between_ranks() {
        assert_eq!(percentile(&[], 50.0), None);
        assert_eq!(percentile(&[3.0], 95.0), Some(3.0));
        assert_eq!(percentile(&[4.0, 1.0, 2.0, 3.0], 50.0), Some(2.5));
        assert_eq!(percentile(&[1.0, 2.0, f64::NAN], 100.0), Some(2.0));
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
