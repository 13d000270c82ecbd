//! Amounts as people say them.

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things, by their plural.
    Things(&'static str),
    /// Bytes.
    Bytes,
}

impl Unit {
    /// So many of it, without its name.
    #[must_use]
    pub fn amount(self, n: u64) -> String {
        match self {
            Self::Bytes => bytes(n),
            Self::Things(_) => grouped(n),
        }
    }

    /// A blank and its name; nothing for bytes, whose amount says it, and for what has none.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Things(things) if !things.is_empty() => format!(" {things}"),
            _ => String::new(),
        }
    }
}

/// Bytes for people: `1.5 MB`.
#[must_use]
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    let mut value = n as f64;
    let mut unit = "B";
    for next in UNITS {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    if unit == "B" { format!("{n} B") } else { format!("{value:.1} {unit}") }
}

/// A number for people: `1,234,567`.
#[must_use]
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time for people, in seconds, minutes, or hours and minutes: `40 s`, `63 min`, `2 h 5 min`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match seconds {
        s if s < 100.0 => format!("{s:.0} s"),
        _ if minutes < 100 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_said_in_three_or_four_digits() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(98_400_000), "98.4 MB");
        assert_eq!(bytes(u64::MAX), "18446744.1 TB");
    }

    #[test]
    fn numbers_and_times_are_said_as_people_say_them() {
        let numbers = [0, 999, 1000, 12_000, 100_000, 1_234_567].map(grouped);
        assert_eq!(numbers, ["0", "999", "1,000", "12,000", "100,000", "1,234,567"]);
        let times = [0.2, 99.4, 100.0, 3780.0, 7500.0, 360_000.0].map(duration);
        assert_eq!(times, ["0 s", "99 s", "2 min", "63 min", "2 h 5 min", "100 h 0 min"]);
    }
}
