//! A product of small matrices on the thread that asks for it: parts of tensors, read and written where they lie.

use gemm::{Parallelism, gemm};

/// A matrix in a slice.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    /// Numbers from one row to the next, and from one column to the next.
    strides: (usize, usize),
}

impl<'a> Matrix<'a> {
    /// `rows` rows of `columns` numbers side by side, `stride` from one row to the next.
    ///
    /// # Panics
    /// If the slice is too short for it.
    #[must_use]
    pub fn new(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        assert!(fits(data.len(), rows, columns, stride), "a matrix within its slice");
        Self { data, rows, columns, strides: (stride, 1) }
    }

    /// Its transpose.
    #[must_use]
    pub fn transposed(self) -> Self {
        let Self { data, rows, columns, strides: (row, column) } = self;
        Self { data, rows: columns, columns: rows, strides: (column, row) }
    }
}

/// Whether the last number of a matrix is within `len`.
fn fits(len: usize, rows: usize, columns: usize, stride: usize) -> bool {
    rows == 0 || columns == 0 || (columns <= stride && (rows - 1) * stride + columns <= len)
}

/// What becomes of the numbers that a product is written to.
#[derive(Debug, Clone, Copy)]
pub enum Write {
    /// They become the product times this.
    Set(f32),
    /// The product is added to them.
    Add,
}

/// `a b` into rows of `out` that are `stride` apart; what lies between them stays.
///
/// # Panics
/// If the shapes do not go together, or `out` is too short.
pub fn product(write: Write, out: &mut [f32], stride: usize, a: Matrix, b: Matrix) {
    assert!(a.columns == b.rows && fits(out.len(), a.rows, b.columns, stride), "shapes that go together");
    let (keep, factor) = match write {
        Write::Set(factor) => (false, factor),
        Write::Add => (true, 1.0),
    };
    // Every number that is read or written lies in its slice: that was seen above and when the matrices were made. `out` is
    // borrowed for this call alone.
    #[allow(unsafe_code)]
    unsafe {
        gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            stride as isize,
            keep,
            a.data.as_ptr(),
            a.strides.1 as isize,
            a.strides.0 as isize,
            b.data.as_ptr(),
            b.strides.1 as isize,
            b.strides.0 as isize,
            1.0,
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
        // Columns 1 and 2 of [[9, 1, 2], [9, 3, 4]], and [[1, 0, 2], [3, 1, 1]] or the transpose of [[1, 0], [2, 3], [1, 1]].
        let left = [9.0, 1.0, 2.0, 9.0, 3.0, 4.0];
        let right = [1.0, 0.0, 2.0, 3.0, 1.0, 1.0];
        let a = Matrix::new(&left[1..], 2, 2, 3);
        let mut out = [7.0; 8];
        product(Write::Set(2.0), &mut out, 4, a, Matrix::new(&right, 2, 3, 3));
        assert_eq!(out, [14.0, 4.0, 8.0, 7.0, 30.0, 8.0, 20.0, 7.0]);
        product(Write::Set(1.0), &mut out[1..], 4, a, Matrix::new(&right, 3, 2, 2).transposed());
        assert_eq!(out, [14.0, 1.0, 8.0, 3.0, 30.0, 3.0, 18.0, 7.0]);
        product(Write::Add, &mut out[1..], 4, a, Matrix::new(&right, 3, 2, 2).transposed());
        assert_eq!(out, [14.0, 2.0, 16.0, 6.0, 30.0, 6.0, 36.0, 14.0]);
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
        product(Write::Set(1.0), &mut [0.0; 3], 2, a, a);
    }
}
