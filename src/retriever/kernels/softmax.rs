//! The softmax of attention scores, in place.

use super::math::exp;
use super::norm::{largest, sum};

/// A row of scores becomes weights that sum to 1.
pub fn softmax(xs: &mut [f32]) {
    let most = largest(xs);
    for x in xs.iter_mut() {
        *x = exp(*x - most);
    }
    let inverse = 1.0 / sum(xs, |x| x);
    for x in xs {
        *x *= inverse;
    }
}
