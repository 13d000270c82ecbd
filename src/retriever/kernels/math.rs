//! Exponential and what is made of it, free of branches and calls, so that the compiler turns a loop over them into
//! vector instructions. Each is within 1e-6 of the exact value, relative to it or to 1, whichever is larger.

/// a b + c: rounded once where the processor that is built for does that in one instruction.
#[inline(always)]
fn multiply_add(a: f32, b: f32, c: f32) -> f32 {
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}

/// The polynomial of these coefficients, the highest power's first.
#[inline(always)]
fn polynomial<const N: usize>(coefficients: [f32; N], x: f32) -> f32 {
    let mut value = coefficients[0];
    for coefficient in &coefficients[1..] {
        value = multiply_add(value, x, *coefficient);
    }
    value
}

/// e^x in f32: 2^n times a polynomial over half a power of two; 0 below -87 and about 1.6e38 from 88 on.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // ln 2 in two parts, the first with few enough bits that its product with n is exact.
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.3, 88.0);
    // Adding 1.5 * 2^23 rounds to the nearest whole number n, which is then in the last bits of the sum; a conversion to an
    // integer would take the loop apart.
    const ROUND: f32 = 12_582_912.0;
    let sum = multiply_add(x, std::f32::consts::LOG2_E, ROUND);
    let n = sum - ROUND;
    let r = multiply_add(-n, LOW, multiply_add(-n, HIGH, x));
    let p = polynomial([1.987_569_1e-4, 1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5], r);
    multiply_add(p * r, r, r + 1.0) * f32::from_bits((sum.to_bits() << 23).wrapping_add(127 << 23))
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Hyperbolic tangent.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + exp(2.0 * x))
}

/// The error function: Abramowitz and Stegun, 7.1.26 (absolute error below 2e-7).
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let p = polynomial([1.061_405_4, -1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6, 0.0], t);
    let y = 1.0 - p * exp(-a * a);
    y.copysign(x)
}

/// x Phi(x), by [`erf`].
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The derivative of [`gelu`]: Phi(x) + x phi(x).
#[inline(always)]
pub fn gelu_slope(x: f32) -> f32 {
    const ROOT: f32 = 0.398_942_3; // 1 / sqrt(2 pi)
    0.5 * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2)) + x * ROOT * exp(-0.5 * x * x)
}

/// GELU's approximation by the hyperbolic tangent.
#[inline(always)]
pub fn gelu_tanh(x: f32) -> f32 {
    const ROOT: f32 = 0.797_884_6; // sqrt(2 / pi)
    0.5 * x * (1.0 + tanh(ROOT * (x + 0.044_715 * x * x * x)))
}

/// x sigmoid(1.702 x).
#[inline(always)]
pub fn quick_gelu(x: f32) -> f32 {
    x * sigmoid(1.702 * x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worst(ours: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
        (-40_000..=40_000)
            .map(|i| i as f32 * 5e-4)
            .chain([-1e30, -100.0, -88.0, 88.0, 100.0, 1e30])
            .map(|x| {
                let exact = exact(f64::from(x));
                (f64::from(ours(x)) - exact).abs() / exact.abs().max(1.0)
            })
            .fold(0.0, f64::max)
    }

    /// The error function by its series, and far out by the asymptotic one of what is left to 1.
    fn exact_erf(x: f64) -> f64 {
        if x.abs() > 3.0 {
            let inverse = 1.0 / (2.0 * x * x);
            let tail = 1.0 - inverse + 3.0 * inverse.powi(2) - 15.0 * inverse.powi(3);
            return x.signum() - (-x * x).exp() / (x * std::f64::consts::PI.sqrt()) * tail;
        }
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI
    }

    #[test]
    fn each_is_near_the_exact_value_from_end_to_end() {
        let inside = |x: f32| x.clamp(-87.0, 87.0);
        assert!(worst(|x| exp(inside(x)), |x| x.clamp(-87.0, 87.0).exp()) < 1e-6);
        assert!(worst(sigmoid, |x| 1.0 / (1.0 + (-x).exp())) < 1e-6);
        assert!(worst(tanh, f64::tanh) < 1e-6);
        assert!(worst(erf, exact_erf) < 1e-6);
        let gelu_exact = |x: f64| 0.5 * x * (1.0 + exact_erf(x * std::f64::consts::FRAC_1_SQRT_2));
        assert!(worst(gelu, gelu_exact) < 1e-6);
        let slope = |x: f64| {
            let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            0.5 * (1.0 + exact_erf(x * std::f64::consts::FRAC_1_SQRT_2)) + x * density
        };
        assert!(worst(gelu_slope, slope) < 1e-6);
        let quick = |x: f64| x / (1.0 + (-1.702 * x).exp());
        assert!(worst(quick_gelu, quick) < 1e-6);
        let root = (2.0 / std::f64::consts::PI).sqrt();
        assert!(worst(gelu_tanh, |x| 0.5 * x * (1.0 + (root * (x + 0.044_715 * x.powi(3))).tanh())) < 1e-6);
    }

    #[test]
    fn what_is_no_number_stays_none() {
        assert!(
            [exp, sigmoid, tanh, erf, gelu, gelu_slope, gelu_tanh, quick_gelu].iter().all(|f| f(f32::NAN).is_nan())
        );
    }
}
