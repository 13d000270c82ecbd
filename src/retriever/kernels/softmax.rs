//! The softmax of attention scores, in place.

use super::math::exp;
use super::norm::{largest, sum};
use super::vectorised;

/// Rows of `width` scores become weights that sum to 1.
pub fn softmax(xs: &mut [f32], width: usize) {
    vectorised(
        #[inline(always)]
        || {
            for xs in xs.chunks_mut(width.max(1)) {
                let most = largest(xs);
                for x in xs.iter_mut() {
                    *x = exp(*x - most);
                }
                let inverse = 1.0 / sum(xs, |x| x);
                for x in xs {
                    *x *= inverse;
                }
            }
        },
    );
}
