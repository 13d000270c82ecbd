//! What is done between a model's logits and its next token.
//!
//! The engine takes the likeliest token. Its hook for logits is where everything else is done: drawing by probability
//! with a seed of the request's own, which the engine has none of; counting tokens; stopping a request whose caller
//! has gone; and keeping to tokens that the engine's own code for Qwen's pictures survives.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use candle_core::Tensor;
use mistralrs::CustomLogitsProcessor;
use tokenizers::Tokenizer;

use crate::generator::Sampling;

/// One request's hook.
pub(super) struct Draw {
    sampling: Option<Sampling>,
    canonical: Option<Arc<Canonical>>,
    ends: Option<Ends>,
    steps: Mutex<Steps>,
    cancelled: AtomicBool,
}

/// Under a grammar, the one token that the grammar takes for an end stands for all that end this model's answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::generator) struct Ends {
    /// What grammars know.
    pub(in crate::generator) grammar: u32,
    /// What the model says.
    pub(in crate::generator) model: Vec<u32>,
    /// Tokens that the tokenizer knows. Models have more, for the sake of round numbers, and a grammar that is asked
    /// about one of those ends the answer there and then.
    pub(in crate::generator) known: usize,
}

#[derive(Default)]
struct Steps {
    taken: u64,
    /// Tokens before the one that is chosen, in the latest step.
    context: usize,
    /// Tokens of the prompt.
    prompt: usize,
    /// Logit of an end in the latest step, before any mask.
    end: f32,
}

impl Draw {
    pub(super) fn new(sampling: Option<Sampling>, canonical: Option<Arc<Canonical>>, ends: Option<Ends>) -> Self {
        Self { sampling, canonical, ends, steps: Mutex::default(), cancelled: AtomicBool::new(false) }
    }

    /// Ends the request at its next token.
    pub(super) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Tokens that were chosen so far.
    pub(super) fn tokens(&self) -> usize {
        usize::try_from(self.steps().taken).unwrap_or(usize::MAX)
    }

    /// Tokens of the prompt; of a prompt whose beginning was kept from an earlier one, only after the second token.
    pub(super) fn prompt(&self) -> usize {
        self.steps().prompt
    }

    fn steps(&self) -> MutexGuard<'_, Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of the step, the same where it is asked about again with what a grammar forbids at minus infinity.
    fn step(&self, values: &mut [f32], context: usize) -> u64 {
        let mut steps = self.steps();
        let again = steps.taken > 0 && steps.context == context;
        if !again {
            steps.taken += 1;
            steps.context = context;
            match steps.taken {
                1 => steps.prompt = context,
                2 => steps.prompt = context.saturating_sub(1),
                _ => {}
            }
        }
        let Some(ends) = &self.ends else { return steps.taken };
        if let Some(unknown) = values.get_mut(ends.known..) {
            unknown.fill(f32::NEG_INFINITY);
        }
        let at = |id: u32| usize::try_from(id).unwrap_or(usize::MAX);
        if !again {
            let known = ends.model.iter().chain([&ends.grammar]).filter_map(|id| values.get(at(*id)).copied());
            steps.end = known.fold(f32::NEG_INFINITY, f32::max);
        }
        if let Some(value) = values.get_mut(at(ends.grammar))
            && *value > f32::NEG_INFINITY
        {
            *value = steps.end;
        }
        steps.taken
    }
}

impl CustomLogitsProcessor for Draw {
    /// `logits`: `[vocabulary]`. Asked once a token, or twice where a grammar forbids what was likeliest at first.
    fn apply(&self, logits: &Tensor, context: &[u32]) -> candle_core::Result<Tensor> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(candle_core::Error::Msg("nobody waits for the answer".into()));
        }
        let mut values: Vec<f32> = logits.to_vec1()?;
        let step = self.step(&mut values, context.len());
        if let Some(sampling) = self.sampling {
            perturb(&mut values, sampling, step);
        }
        if let Some(canonical) = &self.canonical {
            canonical.choose(&mut values, context);
        }
        let length = values.len();
        Tensor::from_vec(values, length, logits.device())
    }
}

/// Divides by the temperature and adds Gumbel noise, after which the largest is an exact draw from the softmax (Gumbel
/// 1954; Maddison, Tarlow & Minka 2014, "A* sampling"). It is one also under a grammar, where the largest of what is
/// allowed is taken, since both questions of a step get the same noise.
fn perturb(values: &mut [f32], sampling: Sampling, step: u64) {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"token").update(&sampling.seed.to_le_bytes()).update(&step.to_le_bytes());
    let mut noise = hasher.finalize_xof();
    let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let temperature = f64::from(sampling.temperature).max(f64::from(f32::MIN_POSITIVE));
    let mut bytes = [0_u8; 4];
    for value in values {
        noise.fill(&mut bytes);
        let uniform = (f64::from(u32::from_le_bytes(bytes)) + 0.5) / (f64::from(u32::MAX) + 1.0);
        // Relative to the largest, so that a small temperature cannot overflow.
        let scaled = (f64::from(*value) - f64::from(largest)) / temperature;
        *value = (scaled - (-uniform.ln()).ln()) as f32;
    }
}

/// Answers that a tokenizer would cut as the model did.
///
/// For Qwen's models with pictures the engine writes the tokens of an answer as text after every token and cuts that
/// text anew. Where that gives another number of tokens (half a character, or two tokens that it would join) it fails
/// or computes positions that are wrong. So a token is chosen only if it comes back.
pub(super) struct Canonical {
    tokenizer: Tokenizer,
    specials: HashSet<u32>,
    /// Special tokens that stand for pictures.
    forbidden: HashSet<u32>,
}

impl Canonical {
    /// How many tokens of a step are tried; after that the likeliest is taken as it is.
    const TRIES: usize = 256;

    pub(super) fn new(tokenizer: &Tokenizer) -> Self {
        let added = tokenizer.get_added_tokens_decoder();
        let picture = |text: &str| ["vision", "image", "video"].iter().any(|word| text.contains(word));
        let forbidden = added.iter().filter(|(_, token)| picture(&token.content)).map(|(id, _)| *id).collect();
        Self { tokenizer: tokenizer.clone(), specials: added.into_keys().collect(), forbidden }
    }

    /// Puts at minus infinity what is likeliest and would not come back, until the likeliest does.
    fn choose(&self, values: &mut [f32], context: &[u32]) {
        for &id in &self.forbidden {
            if let Some(value) = usize::try_from(id).ok().and_then(|at| values.get_mut(at)) {
                *value = f32::NEG_INFINITY;
            }
        }
        let start = context.iter().rposition(|id| self.specials.contains(id)).map_or(0, |at| at + 1);
        let tail = &context[start..];
        let mut refused = Vec::new();
        for _ in 0..Self::TRIES {
            let best = (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b]));
            let Some(at) = best.filter(|&at| values[at] > f32::NEG_INFINITY) else { break };
            if u32::try_from(at).is_ok_and(|id| self.comes_back(tail, id)) {
                return;
            }
            refused.push((at, values[at]));
            values[at] = f32::NEG_INFINITY;
        }
        if let Some(&(at, value)) = refused.first() {
            values[at] = value;
        }
    }

    /// Whether `tail`, which holds no special token, and then `id` is how the text of both is cut.
    fn comes_back(&self, tail: &[u32], id: u32) -> bool {
        if self.specials.contains(&id) {
            return true;
        }
        let ids: Vec<u32> = tail.iter().copied().chain([id]).collect();
        let text = self.tokenizer.decode(&ids, false);
        text.is_ok_and(|text| self.tokenizer.encode_fast(text, false).is_ok_and(|cut| cut.get_ids() == ids))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::generator::mistral::tiny::Vocabulary;

    fn largest(draw: &Draw, logits: &[f32], context: &[u32]) -> usize {
        let logits = Tensor::from_slice(logits, logits.len(), &Device::Cpu).unwrap();
        let values: Vec<f32> = draw.apply(&logits, context).unwrap().to_vec1().unwrap();
        (0..values.len()).max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap()
    }

    #[test]
    fn draws_follow_the_softmax_at_the_temperature() {
        let logits = [0.0_f32, 1.0, 2.0, f32::NEG_INFINITY];
        let temperature = 2.0_f32;
        let rounds = 20_000;
        let mut counts = [0_u32; 4];
        for seed in 0..rounds {
            let draw = Draw::new(Some(Sampling { temperature, seed }), None, None);
            counts[largest(&draw, &logits, &[1, 2])] += 1;
        }
        let weights: Vec<f64> = logits.iter().map(|l| f64::from(l / temperature).exp()).collect();
        let sum: f64 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(weights) {
            // Four standard deviations of a proportion at 20,000 draws are below 0.015.
            assert!((f64::from(*count) / rounds as f64 - weight / sum).abs() < 0.015, "{counts:?}");
        }
        assert_eq!(counts[3], 0);
    }

    #[test]
    fn a_step_has_its_own_noise_and_the_same_when_it_is_asked_about_again() {
        let logits = [0.0_f32; 64];
        let draw = Draw::new(Some(Sampling { temperature: 1.0, seed: 3 }), None, None);
        let first = largest(&draw, &logits, &[1, 2]);
        assert_eq!(largest(&draw, &logits, &[1, 2]), first);
        let later: Vec<usize> = (3..9).map(|len| largest(&draw, &logits, &vec![1; len])).collect();
        assert!(later.iter().any(|token| *token != first), "{first} {later:?}");
        assert_eq!((draw.tokens(), draw.prompt()), (7, 2));
    }

    #[test]
    fn a_tiny_temperature_takes_the_likeliest_and_cannot_overflow() {
        for temperature in [1e-3_f32, 1e-30, f32::MIN_POSITIVE, 0.0] {
            for seed in 0..50 {
                let draw = Draw::new(Some(Sampling { temperature, seed }), None, None);
                assert_eq!(largest(&draw, &[-3.0, 8.5, 8.0, -1e30], &[1]), 1, "{temperature}");
            }
        }
    }

    #[test]
    fn a_cancelled_request_ends_at_its_next_token() {
        let draw = Draw::new(None, None, None);
        let logits = Tensor::zeros(4, candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(draw.apply(&logits, &[1]).is_ok());
        draw.cancel();
        assert!(draw.apply(&logits, &[1, 2]).is_err());
    }

    #[test]
    fn under_a_grammar_one_end_stands_for_all() {
        let ends = Ends { grammar: 0, model: vec![2], known: 3 };
        let draw = Draw::new(None, None, Some(ends));
        let apply = |values: &[f32], context: &[u32]| -> Vec<f32> {
            let logits = Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
            draw.apply(&logits, context).unwrap().to_vec1().unwrap()
        };
        let never = f32::NEG_INFINITY;
        assert_eq!(apply(&[-9.0, 1.0, 5.0, 7.0], &[1]), [5.0, 1.0, 5.0, never], "the last is known to no tokenizer");
        // Asked again with all but the grammar's end and one token forbidden: the model's wish to end is remembered.
        assert_eq!(apply(&[-9.0, 1.0, never], &[1]), [5.0, 1.0, never]);
        // Where the grammar forbids the end it stays forbidden.
        assert_eq!(apply(&[-9.0, 1.0, 4.0], &[1, 1]), [4.0, 1.0, 4.0]);
        assert_eq!(apply(&[never, 1.0, never], &[1, 1]), [never, 1.0, never]);
    }

    #[test]
    fn only_tokens_that_come_back_are_chosen() {
        let words = Vocabulary::new(&["<|im_end|>", "<|vision_start|>"]);
        let tokenizer = words.tokenizer();
        let canonical = Arc::new(Canonical::new(&tokenizer));
        let id = |text: &str| tokenizer.token_to_id(text).unwrap();
        let choose = |context: &[u32], wishes: &[&str]| {
            let mut logits = vec![-50.0_f32; tokenizer.get_vocab_size(true)];
            for (rank, wish) in wishes.iter().enumerate() {
                logits[id(wish) as usize] = 10.0 - rank as f32;
            }
            let draw = Draw::new(None, Some(Arc::clone(&canonical)), None);
            tokenizer.id_to_token(largest(&draw, &logits, context) as u32).unwrap()
        };
        // After `t`, an `h` would be joined to it; after a special token nothing is.
        assert_eq!(choose(&[id("t")], &["h", "!"]), "!");
        assert_eq!(choose(&[id("t"), id("<|im_end|>")], &["h", "!"]), "h");
        assert_eq!(choose(&[id("t")], &["<|im_end|>"]), "<|im_end|>");
        assert_eq!(choose(&[id("t")], &["<|vision_start|>", "!"]), "!");
        // Half a character would come back as another one.
        let half = words.byte(0xC3);
        assert_eq!(choose(&[], &[&half, "!"]), "!");
    }
}
