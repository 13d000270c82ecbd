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
    run: impl FnMut(Vec<T>) -> Result<Vec<R>, E>,
) -> Result<Vec<R>, E> {
    overlapped(items, most, length, Ok, run)
}

/// As [`in_batches`], in two halves: `start` begins the work on a part before `finish` waits for that on the part before
/// it. No more than two parts are at work.
///
/// # Errors
/// The first of either half's own.
pub fn overlapped<T, S, R, E>(
    items: Vec<T>,
    most: usize,
    length: impl Fn(&T) -> usize,
    mut start: impl FnMut(Vec<T>) -> Result<S, E>,
    mut finish: impl FnMut(S) -> Result<Vec<R>, E>,
) -> Result<Vec<R>, E> {
    let mut rest: Vec<(usize, T)> = items.into_iter().enumerate().collect();
    rest.sort_by_key(|(_, item)| length(item));
    let mut answers = Vec::with_capacity(rest.len());
    let mut settle = |begun: Option<(Vec<usize>, S)>| -> Result<(), E> {
        if let Some((rows, work)) = begun {
            answers.extend(rows.into_iter().zip(finish(work)?));
        }
        Ok(())
    };
    let mut begun = None;
    while !rest.is_empty() {
        let tail = rest.split_off(rest.len().min(most.max(1)));
        let (rows, part): (Vec<usize>, Vec<T>) = rest.into_iter().unzip();
        let next = (rows, start(part)?);
        settle(begun.replace(next))?;
        rest = tail;
    }
    settle(begun)?;
    answers.sort_by_key(|(row, _)| *row);
    Ok(answers.into_iter().map(|(_, answer)| answer).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::{in_batches, overlapped};

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

    #[test]
    fn a_part_is_begun_before_the_one_before_it_is_waited_for() {
        let told = std::cell::RefCell::new(Vec::new());
        let tell = |what: &str, part: &[u8]| told.borrow_mut().push(format!("{what} {part:?}"));
        let start = |part: Vec<u8>| {
            tell("start", &part);
            Ok::<_, ()>(part)
        };
        let finish = |part: Vec<u8>| {
            tell("finish", &part);
            Ok(part)
        };
        assert_eq!(overlapped(vec![1, 2, 3, 4, 5], 2, |_| 0, start, finish).unwrap(), [1, 2, 3, 4, 5]);
        let expected = ["start [1, 2]", "start [3, 4]", "finish [1, 2]", "start [5]", "finish [3, 4]", "finish [5]"];
        assert_eq!(told.into_inner(), expected);
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
