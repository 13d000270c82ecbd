//! Looking inside a retriever: what its gates let through, layer by layer, and what each of its parts is worth (the
//! experiments of arXiv 2503.01980, section 4, and arXiv 2509.08897).

pub mod ablate;
pub mod gates;
mod plot;
pub mod variants;

pub use ablate::{AblateEvent, Ablation, ablate};
pub use gates::{GateStep, Gates, Given, Spread, gates};
pub use plot::svg;
pub use variants::{Variant, variants};
