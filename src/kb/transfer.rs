//! Points on their way from one store into another, whatever holds either.

use uuid::Uuid;

use super::store::{Payload, Store, StoreConfig, StoreError, point_id};
use super::words::{words_of, words_of_part};

/// Points that are copied at once.
const AT_ONCE: usize = 256;

/// Copies every point from the id `next` on, in the order of their ids. Words are not kept as such, so they are put
/// together again. `seen` is told the points copied so far and says whether to go on; gives whether all are copied.
///
/// # Errors
/// Either engine's.
pub fn copy(
    from: &dyn Store,
    to: &dyn Store,
    config: &StoreConfig,
    mut next: Option<Uuid>,
    seen: &mut dyn FnMut(u64) -> bool,
) -> Result<bool, StoreError> {
    let mut copied = 0;
    loop {
        let (mut points, following) = from.scan(next, AT_ONCE)?;
        if config.words {
            let wholes: Vec<_> = points.iter().map(|point| point_id(point.payload.url())).collect();
            for (point, whole) in points.iter_mut().zip(from.get(&wholes)?) {
                let Some(Payload::Article(record)) = whole else { continue };
                let in_parts = record.parts > 0;
                let article = record.into_article();
                point.words = match &point.payload {
                    Payload::Part(part) => Some(words_of_part(&article, part)),
                    Payload::Article(_) if in_parts => None,
                    Payload::Article(_) => Some(words_of(&article)),
                };
            }
        }
        copied += points.len() as u64;
        to.upsert(points)?;
        next = following;
        if next.is_none() {
            return Ok(true);
        }
        if !seen(copied) {
            return Ok(false);
        }
    }
}

/// The last id of a store, and how many points it has: where a copy that was cut off goes on.
///
/// # Errors
/// The engine's.
pub fn last(store: &dyn Store) -> Result<(Option<Uuid>, u64), StoreError> {
    let (mut next, mut last, mut count) = (None, None, 0);
    loop {
        let (points, following) = store.scan(next, AT_ONCE)?;
        count += points.len() as u64;
        last = points.last().map(|point| point.id).or(last);
        match following {
            Some(following) => next = Some(following),
            None => return Ok((last, count)),
        }
    }
}
