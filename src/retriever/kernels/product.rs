//! A product of small matrices on the thread that asks for it: parts of tensors, read and written where they lie.

use gemm::{Parallelism, gemm};

/// A matrix in a slice: `rows` rows of `columns` numbers, `stride` from one row to the next.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<'a> Matrix<'a> {
    /// # Panics
    /// If the slice is too short for it.
    #[must_use]
    pub fn new(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, stride), "a matrix within its slice");
        Self { data, rows, columns, stride }
    }
}

/// Whether the last number of a matrix is within `len`.
fn fits(len: usize, rows: usize, columns: usize, stride: usize) -> bool {
    rows == 0 || columns == 0 || (columns <= stride && (rows - 1) * stride + columns <= len)
}

/// `out = factor a b`, or with `transposed` `factor a bᵀ`; rows of `out` are `stride` apart, and what lies between them
/// stays.
///
/// # Panics
/// If the shapes do not go together, or `out` is too short.
pub fn product(out: &mut [f32], stride: usize, a: Matrix, b: Matrix, transposed: bool, factor: f32) {
    let (inner, columns) = if transposed { (b.columns, b.rows) } else { (b.rows, b.columns) };
    assert!(a.columns == inner && fits(out.len(), a.rows, columns, stride), "shapes that go together");
    let (b_column, b_row) = if transposed { (b.stride, 1) } else { (1, b.stride) };
    // Every number that is read or written is at `row * stride + column` of its slice, which was seen to be within it
    // above and when the matrices were made; `out` is borrowed for this call alone.
    #[allow(unsafe_code)]
    unsafe {
        gemm(
            a.rows,
            columns,
            inner,
            out.as_mut_ptr(),
            1,
            stride as isize,
            false,
            a.data.as_ptr(),
            1,
            a.stride as isize,
            b.data.as_ptr(),
            b_column as isize,
            b_row as isize,
            0.0,
            factor,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_larger_matrices_are_multiplied_in_place() {
        // Columns 1 and 2 of [[9, 1, 2], [9, 3, 4]], and [[1, 0, 2], [3, 1, 1]] or its transpose.
        let left = [9.0, 1.0, 2.0, 9.0, 3.0, 4.0];
        let right = [1.0, 0.0, 2.0, 3.0, 1.0, 1.0];
        let a = Matrix::new(&left[1..], 2, 2, 3);
        let mut out = [7.0; 8];
        product(&mut out, 4, a, Matrix::new(&right, 2, 3, 3), false, 2.0);
        assert_eq!(out, [14.0, 4.0, 8.0, 7.0, 30.0, 8.0, 20.0, 7.0]);
        product(&mut out[1..], 4, a, Matrix::new(&right, 3, 2, 2), true, 1.0);
        assert_eq!(out, [14.0, 1.0, 8.0, 3.0, 30.0, 3.0, 18.0, 7.0]);
    }

    #[test]
    #[should_panic(expected = "within its slice")]
    fn a_slice_that_is_too_short_is_refused() {
        let _ = Matrix::new(&[0.0; 7], 2, 4, 4);
    }

    #[test]
    #[should_panic(expected = "go together")]
    fn so_is_a_result_that_is() {
        let numbers = [0.0; 4];
        let a = Matrix::new(&numbers, 2, 2, 2);
        product(&mut [0.0; 3], 2, a, a, false, 1.0);
    }
}
