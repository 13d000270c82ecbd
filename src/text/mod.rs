//! Text that is safe to show: what comes from a knowledge base, a file or a model can neither steer the terminal nor
//! reorder what is read.

mod amount;
mod sanitise;
mod wrap;

pub use amount::{Unit, bytes, duration, grouped};
pub use sanitise::{sanitise, sanitise_line};
pub use wrap::{width, wrap};
