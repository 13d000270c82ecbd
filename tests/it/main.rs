//! What a user sees, of the real program. One binary, so that the heavy engines are linked once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answering;
mod cli;
mod evaluating;
mod kb;
mod killed;
mod probing;
mod published;
mod screen_svg;
mod starter;
mod support;
mod terminal_ui;
mod training;
