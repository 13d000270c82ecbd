//! A terminal's screen as an SVG, for people who read about it.

use std::fmt::Write;

use vt100::{Color, Screen};

/// Size of a cell, and of the letters in it.
const CELL: (f32, f32) = (8.4, 17.0);

/// What the sixteen colours, the ground and the letters look like.
pub struct Palette {
    pub ground: &'static str,
    pub letters: &'static str,
    pub colours: [&'static str; 16],
}

pub const DARK: Palette = Palette {
    ground: "#16181d",
    letters: "#d7dae0",
    colours: [
        "#22252c", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#abb2bf", "#7d8594", "#e06c75",
        "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#ffffff",
    ],
};

pub const LIGHT: Palette = Palette {
    ground: "#fbfaf7",
    letters: "#2b2d33",
    colours: [
        "#2b2d33", "#b3261e", "#2f7d32", "#8a6100", "#1f5fbf", "#8e3b9b", "#0b7285", "#c9c7c1", "#77757c", "#b3261e",
        "#2f7d32", "#8a6100", "#1f5fbf", "#8e3b9b", "#0b7285", "#ffffff",
    ],
};

impl Palette {
    fn of(&self, colour: Color, otherwise: &str) -> String {
        match colour {
            Color::Default => otherwise.to_owned(),
            Color::Rgb(r, g, b) => format!("#{r:02x}{g:02x}{b:02x}"),
            Color::Idx(n @ 0..16) => self.colours[usize::from(n)].to_owned(),
            Color::Idx(n @ 16..232) => {
                let step = |value: u8| if value == 0 { 0 } else { 55 + 40 * value };
                let n = n - 16;
                format!("#{:02x}{:02x}{:02x}", step(n / 36), step(n / 6 % 6), step(n % 6))
            }
            Color::Idx(n) => format!("#{0:02x}{0:02x}{0:02x}", 8 + 10 * (n - 232)),
        }
    }
}

/// The screen as an SVG.
pub fn svg(screen: &Screen, palette: &Palette) -> String {
    let (rows, columns) = screen.size();
    let (rows, columns) = (rows.get(), columns.get());
    let (wide, high) = (f32::from(columns) * CELL.0 + 24.0, f32::from(rows) * CELL.1 + 24.0);
    let mut out = String::new();
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {wide:.0} {high:.0}\" width=\"{wide:.0}\" height=\"{high:.0}\" \
         font-family=\"ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{}\"/>",
        palette.ground
    )
    .unwrap();
    for row in 0..rows {
        let y = 12.0 + f32::from(row) * CELL.1;
        let mut column = 0;
        while column < columns {
            // Cells of one look together.
            let look = look(screen, row, column, palette);
            let mut text = String::new();
            let begin = column;
            while column < columns && self::look(screen, row, column, palette) == look {
                let cell = screen.cell(row, column).unwrap();
                if !cell.is_wide_continuation() {
                    text.push_str(if cell.has_contents() { cell.contents() } else { " " });
                }
                column += 1;
            }
            let (x, width) = (12.0 + f32::from(begin) * CELL.0, f32::from(column - begin) * CELL.0);
            let (letters, ground, bold) = look;
            if ground != palette.ground {
                writeln!(
                    out,
                    "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{ground}\"/>",
                    CELL.1
                )
                .unwrap();
            }
            // Half of a cell is drawn, not written: letters of a font leave seams.
            if !text.is_empty() && text.chars().all(|c| c == '▀' || c == '▄') {
                let below = if text.starts_with('▄') { CELL.1 / 2.0 } else { 0.0 };
                writeln!(
                    out,
                    "<rect x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{letters}\"/>",
                    y + below,
                    CELL.1 / 2.0
                )
                .unwrap();
            } else if !text.trim().is_empty() {
                let weight = if bold { " font-weight=\"bold\"" } else { "" };
                let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                writeln!(
                    out,
                    "<text x=\"{x:.1}\" y=\"{:.1}\" textLength=\"{width:.1}\" lengthAdjust=\"spacingAndGlyphs\" xml:space=\"preserve\" \
                     fill=\"{letters}\"{weight}>{text}</text>",
                    y + 13.0
                )
                .unwrap();
            }
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Letters, ground, and whether they are bold.
fn look(screen: &Screen, row: u16, column: u16, palette: &Palette) -> (String, String, bool) {
    let cell = screen.cell(row, column).unwrap();
    let letters = palette.of(cell.fgcolor(), palette.letters);
    let ground = palette.of(cell.bgcolor(), palette.ground);
    let cursor = !screen.hide_cursor() && screen.cursor_position() == (row, column);
    if cell.inverse() != cursor { (ground, letters, cell.bold()) } else { (letters, ground, cell.bold()) }
}
