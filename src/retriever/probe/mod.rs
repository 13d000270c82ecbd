//! Looking inside a retriever: what its gates let through, layer by layer (the experiments of arXiv 2503.01980, section 4,
//! and arXiv 2509.08897).

pub mod gates;
mod plot;

pub use gates::{GateStep, Gates, Given, Spread, gates};
pub use plot::svg;
