//! The order of work on many texts.

/// Runs `run` on parts of at most `most` items and gives the answers in the order of the items. Items of like length
/// share a part, since every text of a part is padded to its longest.
///
/// # Errors
/// The first of `run`'s own.
pub fn in_batches<T, R, E>(
    items: Vec<T>,
    most: usize,
    length: impl Fn(&T) -> usize,
    mut run: impl FnMut(Vec<T>) -> Result<Vec<R>, E>,
) -> Result<Vec<R>, E> {
    let mut rest: Vec<(usize, T)> = items.into_iter().enumerate().collect();
    rest.sort_by_key(|(_, item)| length(item));
    let mut answers = Vec::with_capacity(rest.len());
    while !rest.is_empty() {
        let tail = rest.split_off(rest.len().min(most.max(1)));
        let (rows, part): (Vec<usize>, Vec<T>) = rest.into_iter().unzip();
        answers.extend(rows.into_iter().zip(run(part)?));
        rest = tail;
    }
    answers.sort_by_key(|(row, _)| *row);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::in_batches;

    #[test]
    fn texts_of_like_length_share_a_part() {
        let texts = vec!["four", "1", "a very long one", "two", "2", "another long one"];
        let mut parts = Vec::new();
        let run = |part: Vec<&'static str>| {
            parts.push(part.clone());
            Ok::<_, ()>(part)
        };
        assert_eq!(in_batches(texts.clone(), 2, |text| text.len(), run).unwrap(), texts);
        assert_eq!(parts, [["1", "2"], ["two", "four"], ["a very long one", "another long one"]]);
    }

    proptest! {
        #[test]
        fn answers_come_in_the_order_of_the_items(items: Vec<u8>, most in 0usize..9) {
            let double = |part: Vec<u8>| {
                prop_assert!(part.len() <= most.max(1));
                Ok(part.into_iter().map(|item| u16::from(item) * 2).collect())
            };
            let answers = in_batches(items.clone(), most, |item| usize::from(*item), double)?;
            prop_assert_eq!(answers, items.into_iter().map(|item| u16::from(item) * 2).collect::<Vec<_>>());
        }
    }
}
