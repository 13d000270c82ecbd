//! From pictures to pixels and from texts to tokens, as Hugging Face's processors and tokenizers do it.
//!
//! | file | what |
//! | --- | --- |
//! | `image` | `preprocessor_config.json`, and the pixels it asks for |
//! | `resize` | resizing as Pillow does it |
//! | `text` | a tokenizer with the model's limits |

pub mod image;
pub mod resize;
#[cfg(test)]
mod tests;
pub mod text;
#[cfg(test)]
mod text_tests;

pub use self::image::{Fixed, ImageProcessor, Size};
pub use self::text::TextProcessor;
