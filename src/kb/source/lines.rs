//! Lines of an input, each within a bound.

use std::io;

use super::Position;
use super::frames::Frame;
use super::input::Input;

/// Byte order mark, which some editors put before the first line.
pub(super) const MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads the next line that is not blank into `buffer`; `None` at the end. Blank lines are counted.
///
/// # Errors
/// The input's.
pub(super) fn next(
    input: &mut Input,
    position: &mut Position,
    buffer: &mut Vec<u8>,
    max: usize,
) -> io::Result<Option<Frame>> {
    loop {
        let start = position.end;
        let length = read_line(input, buffer, max)?;
        if length == 0 {
            return Ok(None);
        }
        *position = Position { record: position.record + 1, end: start + length as u64 };
        if length > max {
            return Ok(Some(Frame::TooLong));
        }
        let mark = if start == 0 && buffer.starts_with(MARK) { MARK.len() } else { 0 };
        if !buffer[mark..].iter().all(u8::is_ascii_whitespace) {
            buffer.drain(..mark);
            return Ok(Some(Frame::Whole { start: start + mark as u64 }));
        }
    }
}

/// Length of the next line, its newline too; one longer than `max` is not kept.
fn read_line(input: &mut Input, buffer: &mut Vec<u8>, max: usize) -> io::Result<usize> {
    buffer.clear();
    let (mut length, mut ended) = (0_usize, false);
    while !ended {
        let piece = input.fill()?;
        if piece.is_empty() {
            break;
        }
        let taken = match memchr::memchr(b'\n', piece) {
            Some(at) => {
                ended = true;
                at + 1
            }
            None => piece.len(),
        };
        length += taken;
        if length <= max {
            buffer.extend_from_slice(&piece[..taken]);
        }
        input.consume(taken);
    }
    Ok(length)
}
