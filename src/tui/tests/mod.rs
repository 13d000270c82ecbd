//! The terminal UI without a terminal: what happens and what is to be done, the screens, and whatever may come.

mod asking;
mod opened;
mod screens;
mod whatever;
pub mod world;
