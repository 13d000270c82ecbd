//! The end of an answer: stop strings, which the engine leaves in what it streams.

/// Cuts a stream at the first stop string, which may come in pieces.
pub(super) struct StopCutter {
    stops: Vec<String>,
    held: String,
    stopped: bool,
    started: bool,
}

impl StopCutter {
    pub(super) fn new(stops: Vec<String>) -> Self {
        Self { stops, held: String::new(), stopped: false, started: false }
    }

    /// Whether a stop string came.
    pub(super) fn stopped(&self) -> bool {
        self.stopped
    }

    /// What can be shown of all that came so far. White space before the first word is dropped, so that a stop string
    /// of line feeds ends an answer and does not prevent it.
    pub(super) fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        if !self.started {
            self.held = self.held.trim_start().to_owned();
            self.started = !self.held.is_empty();
        }
        if let Some(at) = self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min() {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let open = (0..self.held.len())
            .filter(|&at| self.held.is_char_boundary(at))
            .find(|&at| self.stops.iter().any(|stop| stop.starts_with(&self.held[at..])))
            .unwrap_or(self.held.len());
        let rest = self.held.split_off(open);
        std::mem::replace(&mut self.held, rest)
    }

    /// What was held back for a stop string that never came whole.
    pub(super) fn finish(&mut self) -> String {
        if self.stopped { String::new() } else { std::mem::take(&mut self.held) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(pieces: &[&str], stops: &[&str]) -> String {
        let mut cutter = StopCutter::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let mut out: String = pieces.iter().map(|piece| cutter.push(piece)).collect();
        out.push_str(&cutter.finish());
        out
    }

    #[test]
    fn a_stream_is_cut_at_a_stop_string_that_comes_in_pieces() {
        assert_eq!(cut(&["\n", "Oran", "jestad\n", "\nQuestion"], &["\n\n"]), "Oranjestad");
        assert_eq!(cut(&["a\n", "b\n"], &["\n\n"]), "a\nb\n");
        assert_eq!(cut(&["a", "b"], &[]), "ab");
    }

    proptest! {
        #[test]
        fn cutting_does_not_depend_on_the_pieces(text in "[ab\n]{0,20}", size in 1_usize..5) {
            let bytes: Vec<String> = text.as_bytes().chunks(size).map(|c| String::from_utf8(c.to_vec()).unwrap()).collect();
            let pieces: Vec<&str> = bytes.iter().map(String::as_str).collect();
            let whole = text.trim_start();
            let expected = whole.find("ab\n").map_or(whole, |at| &whole[..at]);
            prop_assert_eq!(cut(&pieces, &["ab\n"]), expected);
        }
    }
}
