//! The terminal UI: asking about a picture, watching the evidence come, reading it.
//!
//! What happens is an [`event::Event`]; [`app::App::update`] takes it in and says what is to be done as [`event::Effect`]s,
//! without doing any of it itself; [`view::draw`] shows the state. The driver carries effects out and turns what comes of them
//! into events again. So all but the driver is tested without a terminal.
//!
//! | noun | promise |
//! | --- | --- |
//! | `app`, `turn` | the state: a session of turns, what is open over it, what is loading |
//! | `event` | what can happen, and what can be asked of the driver |
//! | `update/` | events to state and effects; no clock, no file, no terminal |
//! | `view/` | state to cells: every text goes through [`crate::text::sanitise`] |
//! | `keymap` | keys to actions, rebindable; hints and help are made from it |
//! | `composer`, `pasted` | the question being written; paths as terminals paste them |
//! | `session` | what is kept of a session, and its export |
//! | `gallery` | pictures made ready for the terminal, on a thread of their own |
//! | `store` | the one writer of sessions and of the history of questions |
//! | `terminal` | the screen taken and given back, whatever ends the program |
//! | `stop` | Ctrl-Z |
//! | `live` | long work of other commands on the whole screen |
//! | `driver` | the loop: events in, effects out, a frame when something changed |

pub mod app;
pub mod composer;
mod driver;
pub mod event;
pub mod gallery;
pub mod keymap;
pub mod live;
pub mod pasted;
pub mod session;
mod stop;
mod store;
mod terminal;
pub mod turn;
mod update;
pub mod view;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;

pub use driver::{Ended, Engines, Opened, Ui, run};
pub use event::{About, Choice, Choices, Named, Told};
pub use gallery::Means;
pub use keymap::KeyMap;
pub use live::Live;
pub use terminal::give_back;
pub use view::theme::Theme;
