//! Colours, of the sixteen that every terminal has, so that its own choice of them holds.

use std::str::FromStr;

use ratatui::style::{Color, Modifier, Style};

/// What colours are chosen for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Theme {
    /// A dark ground.
    #[default]
    Dark,
    /// A light one.
    Light,
    /// No colours at all.
    Mono,
}

impl FromStr for Theme {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "dark" => Ok(Self::Dark),
            "light" => Ok(Self::Light),
            "mono" => Ok(Self::Mono),
            other => Err(format!("{other:?} is no theme; expected dark, light or mono")),
        }
    }
}

impl Theme {
    /// By what the terminal's environment says: `NO_COLOR`, and `COLORFGBG` where the ground is its last number.
    #[must_use]
    pub fn of_environment(no_color: bool, colorfgbg: Option<&str>) -> Self {
        let ground = colorfgbg.and_then(|value| value.rsplit(';').next()?.parse::<u8>().ok());
        match ground {
            _ if no_color => Self::Mono,
            Some(7 | 9..=15) => Self::Light,
            _ => Self::Dark,
        }
    }

    /// Of the terminal that this process writes to.
    #[must_use]
    pub fn here() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::of_environment(variable("NO_COLOR").is_some(), variable("COLORFGBG").as_deref())
    }

    fn coloured(self, dark: Color, light: Color) -> Style {
        match self {
            Self::Dark => Style::new().fg(dark),
            Self::Light => Style::new().fg(light),
            Self::Mono => Style::new(),
        }
    }

    /// Running text.
    #[must_use]
    pub fn text(self) -> Style {
        Style::new()
    }

    /// What may be overlooked.
    #[must_use]
    pub fn dim(self) -> Style {
        match self {
            Self::Mono => Style::new().add_modifier(Modifier::DIM),
            _ => Style::new().fg(Color::DarkGray),
        }
    }

    /// The program's own colour: questions, the frame that has the keys.
    #[must_use]
    pub fn accent(self) -> Style {
        self.coloured(Color::Cyan, Color::Blue)
    }

    /// Headings.
    #[must_use]
    pub fn heading(self) -> Style {
        self.accent().add_modifier(Modifier::BOLD)
    }

    /// Numbers of sources.
    #[must_use]
    pub fn cite(self) -> Style {
        self.coloured(Color::Yellow, Color::Magenta).add_modifier(Modifier::BOLD)
    }

    /// What is well.
    #[must_use]
    pub fn good(self) -> Style {
        self.coloured(Color::Green, Color::Green)
    }

    /// What wants attention.
    #[must_use]
    pub fn warn(self) -> Style {
        self.coloured(Color::Yellow, Color::Magenta).add_modifier(Modifier::BOLD)
    }

    /// What went wrong.
    #[must_use]
    pub fn bad(self) -> Style {
        self.coloured(Color::Red, Color::Red).add_modifier(Modifier::BOLD)
    }

    /// What is selected.
    #[must_use]
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// A frame, with or without the keys.
    #[must_use]
    pub fn frame(self, focused: bool) -> Style {
        if focused { self.accent() } else { self.dim() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ground_is_read_from_the_environment() {
        for (no_color, colorfgbg, theme) in [
            (false, None, Theme::Dark),
            (false, Some("15;0"), Theme::Dark),
            (false, Some("0;15"), Theme::Light),
            (false, Some("0;default;7"), Theme::Light),
            (false, Some("0;8"), Theme::Dark),
            (false, Some("x"), Theme::Dark),
            (true, Some("0;15"), Theme::Mono),
        ] {
            assert_eq!(Theme::of_environment(no_color, colorfgbg), theme, "{colorfgbg:?}");
        }
    }

    #[test]
    fn mono_has_no_colours() {
        let all = [
            Theme::text,
            Theme::dim,
            Theme::accent,
            Theme::heading,
            Theme::cite,
            Theme::good,
            Theme::warn,
            Theme::bad,
            Theme::selected,
        ];
        for style in all.map(|style| style(Theme::Mono)) {
            assert_eq!((style.fg, style.bg), (None, None));
        }
    }
}
