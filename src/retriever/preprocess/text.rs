//! A tokenizer with the model's limits.

use std::path::Path;

use candle_core::{Device, Tensor};
use tokenizers::{PaddingParams, PaddingStrategy, Tokenizer, TruncationParams};

use crate::retriever::backbone::TextBatch;
use crate::retriever::error::{Result, RetrieverError};

/// A tokenizer with the model's limits.
pub struct TextProcessor {
    tokenizer: Tokenizer,
    pad: u32,
}

impl TextProcessor {
    /// Reads `tokenizer.json`; longer texts will be cut to `max_tokens`, shorter ones padded to the longest of a batch.
    ///
    /// # Errors
    /// An unreadable file, or one that is no tokenizer.
    pub fn load(path: &Path, max_tokens: usize) -> Result<Self> {
        let read = |reason: String| RetrieverError::Read { path: path.to_owned(), reason };
        let bytes = fs_err::read(path).map_err(|e| RetrieverError::unreadable(path, &e))?;
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(|e| read(format!("not a tokenizer ({e})")))?;
        let truncation = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(|e| read(e.to_string()))?;
        let padding = tokenizer.get_padding().cloned().unwrap_or_default();
        let pad = padding.pad_id;
        let padding = PaddingParams { strategy: PaddingStrategy::BatchLongest, pad_to_multiple_of: None, ..padding };
        tokenizer.with_padding(Some(padding));
        Ok(Self { tokenizer, pad })
    }

    /// Tokens of a text that are not read, because it is longer than the model takes.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn beyond(&self, text: &str) -> Result<usize> {
        let encoding = self.tokenizer.encode(text, true).map_err(|e| RetrieverError::Tokenizer(e.to_string()))?;
        let own = |part: &tokenizers::Encoding| {
            part.get_special_tokens_mask().iter().filter(|special| **special == 0).count()
        };
        Ok(encoding.get_overflowing().iter().map(own).sum())
    }

    /// A batch of texts. A text of megabytes is cut before it is tokenised: no token is shorter than a byte of it.
    ///
    /// # Errors
    /// The tokenizer's own.
    pub fn batch(&self, texts: &[&str], device: &Device) -> Result<TextBatch> {
        const MOST_BYTES: usize = 1 << 16;
        let cut: Vec<&str> = texts.iter().map(|text| &text[..text.floor_char_boundary(MOST_BYTES)]).collect();
        let encodings = self.tokenizer.encode_batch(cut, true).map_err(|e| RetrieverError::Tokenizer(e.to_string()))?;
        let mut ids = Vec::new();
        let mut mask = Vec::new();
        // A tokenizer without special tokens makes nothing of some texts, such as control characters alone. A tower
        // needs something to look at: there, one token of padding that counts.
        let length = encodings.iter().map(|encoding| encoding.get_ids().len()).max().unwrap_or(0).max(1);
        for encoding in &encodings {
            let (own_ids, own_mask) = (encoding.get_ids(), encoding.get_attention_mask());
            ids.extend(own_ids.iter().copied().chain(std::iter::repeat(self.pad)).take(length));
            let at = mask.len();
            mask.extend(own_mask.iter().copied().chain(std::iter::repeat(0)).take(length));
            if !own_mask.contains(&1) {
                mask[at] = 1;
            }
        }
        let shape = (texts.len(), length);
        Ok(TextBatch {
            input_ids: Tensor::from_vec(ids, shape, device)?,
            attention_mask: Tensor::from_vec(mask, shape, device)?,
        })
    }
}
