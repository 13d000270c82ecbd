//! The entries of one large JSON object, `{ "key": {…}, "key": {…}, … }`, without ever holding more than one of them.
//!
//! Only the framing is looked at: strings, escapes, and how deep brackets nest. What an entry is, its reader decides,
//! so that one entry of the wrong content spoils no other. Blanks and line breaks may stand anywhere.

use std::io;

use memchr::{memchr, memchr2, memmem};

use super::Position;
use super::frames::Frame;
use super::input::Input;
use super::lines::MARK;

/// What of a string or value is kept.
struct Kept<'a> {
    bytes: &'a mut Vec<u8>,
    /// Length of the whole.
    length: usize,
    /// Where keeping ends; the length is counted on.
    max: usize,
}

impl<'a> Kept<'a> {
    fn new(bytes: &'a mut Vec<u8>, max: usize) -> Self {
        bytes.clear();
        Self { bytes, length: 0, max }
    }

    fn push(&mut self, piece: &[u8]) {
        self.length += piece.len();
        if self.length <= self.max {
            self.bytes.extend_from_slice(piece);
        }
    }
}

/// Reads the next entry: its key, quotes and all, into `key`, its value into `buffer`. `None` at the object's end.
///
/// # Errors
/// The input's, [`io::ErrorKind::UnexpectedEof`] where the object does not end, and [`io::ErrorKind::InvalidData`]
/// where something else stands between two entries: from there on nothing can be told apart.
pub(super) fn next(
    input: &mut Input,
    position: &mut Position,
    key: &mut Vec<u8>,
    buffer: &mut Vec<u8>,
    max: usize,
) -> io::Result<Option<Frame>> {
    let record = position.record;
    let mut found;
    if record == 0 {
        skip_mark(input)?;
        found = step(input)?;
        if found != Some(b'{') {
            return Err(unexpected(input, found, "at the beginning", "`{`"));
        }
        input.consume(1);
        found = step(input)?;
    } else {
        found = step(input)?;
        if found == Some(b',') {
            input.consume(1);
            found = step(input)?;
            if found != Some(b'"') {
                return Err(unexpected(input, found, &format!("behind entry {record}"), "a key in quotes"));
            }
        } else if found != Some(b'}') {
            return Err(unexpected(input, found, &format!("behind entry {record}"), "`,` or `}`"));
        }
    }
    match found {
        Some(b'"') => {}
        Some(b'}') => {
            input.consume(1);
            return match step(input)? {
                None => Ok(None),
                found => Err(unexpected(input, found, "behind the object", "nothing more")),
            };
        }
        found => return Err(unexpected(input, found, "at the beginning of the object", "a key in quotes")),
    }
    let whole_key = value(input, &mut Kept::new(key, max), false)?;
    found = step(input)?;
    if !whole_key || found != Some(b':') {
        return Err(unexpected(input, found, &format!("behind the key of entry {}", record + 1), "`:`"));
    }
    input.consume(1);
    step(input)?;
    let start = input.offset();
    let mut kept = Kept::new(buffer, max);
    if !value(input, &mut kept, false)? {
        return Err(unexpected(input, None, "", ""));
    }
    let too_long = kept.length > max || key.len() > max;
    *position = Position { record: record + 1, end: input.offset() };
    Ok(Some(if too_long { Frame::TooLong } else { Frame::Whole { start } }))
}

/// Whether the content is one large object of objects, rather than lines: behind its first entry comes another, or
/// that entry takes several lines, or there is no end to it. Reads no more than the first entry.
///
/// # Errors
/// The input's.
pub(super) fn sniff(input: &mut Input, max: usize) -> io::Result<bool> {
    let (mut bytes, mut broken) = (Vec::new(), false);
    skip_mark(input)?;
    if step_over(input, &mut broken)? != Some(b'{') {
        return Ok(false);
    }
    input.consume(1);
    if step_over(input, &mut broken)? != Some(b'"') || !value(input, &mut Kept::new(&mut bytes, max), true)? {
        return Ok(false);
    }
    if step_over(input, &mut broken)? != Some(b':') {
        return Ok(false);
    }
    input.consume(1);
    if step_over(input, &mut broken)? != Some(b'{') {
        return Ok(false);
    }
    let mut kept = Kept::new(&mut bytes, max);
    let whole = value(input, &mut kept, true)?;
    if kept.length > max {
        return Ok(false);
    }
    if !whole {
        // Lines of which the first is torn look as if they had no end; in an object a comma would stand there.
        let lines = [&b"}\n{"[..], b"}\r\n{"].iter().any(|mark| memmem::find(&bytes, mark).is_some());
        return Ok(!lines);
    }
    broken |= memchr(b'\n', &bytes).is_some();
    Ok(match step_over(input, &mut broken)? {
        Some(b',') | None => true,
        Some(b'}') => broken,
        Some(_) => false,
    })
}

fn skip_mark(input: &mut Input) -> io::Result<()> {
    if input.fill()?.starts_with(MARK) {
        input.consume(MARK.len());
    }
    Ok(())
}

/// Steps over blanks; the byte behind them.
fn step(input: &mut Input) -> io::Result<Option<u8>> {
    step_over(input, &mut false)
}

/// The same, and whether there was a line break among them.
fn step_over(input: &mut Input, broken: &mut bool) -> io::Result<Option<u8>> {
    loop {
        let piece = input.fill()?;
        if piece.is_empty() {
            return Ok(None);
        }
        let blanks = piece.iter().position(|b| !b.is_ascii_whitespace());
        *broken |= piece[..blanks.unwrap_or(piece.len())].contains(&b'\n');
        let (taken, found) = (blanks.unwrap_or(piece.len()), blanks.map(|at| piece[at]));
        input.consume(taken);
        if found.is_some() {
            return Ok(found);
        }
    }
}

/// Reads a value of any kind; a number or word ends before what cannot be part of it. `false` where the input ends
/// inside it, and, with `give_up`, where it has become longer than what is kept.
fn value(input: &mut Input, kept: &mut Kept<'_>, give_up: bool) -> io::Result<bool> {
    let (mut depth, mut string, mut escaped, mut done) = (0_usize, false, false, false);
    while !done {
        let piece = input.fill()?;
        if piece.is_empty() || (give_up && kept.length > kept.max) {
            return Ok(false);
        }
        let mut at = 0;
        while at < piece.len() && !done {
            if escaped {
                escaped = false;
                at += 1;
            } else if string {
                match memchr2(b'"', b'\\', &piece[at..]) {
                    None => at = piece.len(),
                    Some(n) => {
                        at += n + 1;
                        escaped = piece[at - 1] == b'\\';
                        string = escaped;
                        done = !string && depth == 0;
                    }
                }
            } else {
                match piece[at] {
                    b'"' => string = true,
                    b'{' | b'[' => depth += 1,
                    b'}' | b']' if depth > 0 => {
                        depth -= 1;
                        done = depth == 0;
                    }
                    // Not part of this value.
                    b'}' | b']' | b',' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => {
                        done = true;
                        continue;
                    }
                    _ => {}
                }
                at += 1;
            }
        }
        kept.push(&piece[..at]);
        input.consume(at);
    }
    Ok(true)
}

fn unexpected(input: &Input, found: Option<u8>, place: &str, expected: &str) -> io::Error {
    let at = input.offset();
    match found {
        None => {
            let reason = format!("it ends inside the object (byte {at}); the download is not complete");
            io::Error::new(io::ErrorKind::UnexpectedEof, reason)
        }
        Some(byte) => {
            let reason = format!(
                "byte {at}: found `{}` {place}, expected {expected}; the file is damaged, or is not one JSON object",
                byte.escape_ascii()
            );
            io::Error::new(io::ErrorKind::InvalidData, reason)
        }
    }
}
