//! A retriever with one thing about it changed.

use crate::retriever::config::RetConfig;

/// State tokens that are tried.
const TOKENS: [usize; 4] = [1, 4, 8, 32];
/// Most numbers of each vector where there are several: late interaction keeps them short, as ReT does.
const SHORT: usize = 128;
/// What forget gates are multiplied by; 1 is how they were learned.
const FORGET: [f32; 4] = [0.0, 0.5, 0.9, 1.1];

/// Name of the retriever as it is.
pub const BASE: &str = "base";

/// A retriever to compare.
#[derive(Debug, Clone, PartialEq)]
pub struct Variant {
    /// Short, and good for a folder's name.
    pub name: String,
    /// What is different, in words.
    pub about: String,
    /// Its architecture.
    pub config: RetConfig,
    /// Name and architecture of the variant whose weights it has, where they are not its own.
    pub weights_of: Option<(String, RetConfig)>,
}

/// `base` as it is, then each of its variants: without global injection (or with it, where it has none), over one sampled
/// layer alone, with other numbers of state tokens, and with its forget gates scaled.
#[must_use]
pub fn variants(base: &RetConfig) -> Vec<Variant> {
    let trained = |name: String, about: String, config: RetConfig| Variant { name, about, config, weights_of: None };
    let mut all = vec![trained(BASE.into(), "as it is".into(), base.clone())];
    let (name, about) = match base.global_injection {
        true => ("no-global", "without global injection"),
        false => ("global", "with global injection"),
    };
    let config = RetConfig { global_injection: !base.global_injection, ..base.clone() };
    all.push(trained(name.into(), about.into(), config));
    let steps = base.text_layers.len();
    for (at, (text, vision)) in base.text_layers.iter().zip(&base.vision_layers).enumerate().filter(|_| steps > 1) {
        let last = at + 1 == steps;
        let name = if last { "last-layer".to_owned() } else { format!("layer-{}", at + 1) };
        let which = if last { "the last sampled layer" } else { "one layer" };
        let about = format!("{which} only, block {text} of the text tower and {vision} of the picture tower");
        let config = RetConfig { text_layers: vec![*text], vision_layers: vec![*vision], ..base.clone() };
        all.push(trained(name, about, config));
    }
    for tokens in TOKENS.into_iter().filter(|tokens| *tokens != base.state_tokens) {
        let output_dim = if tokens == 1 { base.output_dim } else { base.output_dim.min(SHORT) };
        let about = match tokens {
            1 => format!("1 state token, a vector of {output_dim}"),
            _ => format!("{tokens} state tokens, vectors of {output_dim} compared by MaxSim"),
        };
        let config = RetConfig { state_tokens: tokens, output_dim, ..base.clone() };
        all.push(trained(format!("tokens-{tokens}"), about, config));
    }
    for scale in FORGET {
        all.push(Variant {
            name: format!("forget-{scale}"),
            about: format!("forget gates times {scale}, not trained anew"),
            config: RetConfig { forget_gate_scale: base.forget_gate_scale * scale, ..base.clone() },
            weights_of: Some((BASE.into(), base.clone())),
        });
    }
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::path::Path;

    use super::*;

    fn starter() -> RetConfig {
        RetConfig::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data/starter/ret2-starter.json")).unwrap()
    }

    fn names(base: &RetConfig) -> String {
        variants(base).into_iter().map(|variant| variant.name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_variant_changes_one_thing() {
        let base = starter();
        assert_eq!(
            names(&base),
            "base no-global layer-1 layer-2 last-layer tokens-4 tokens-8 tokens-32 forget-0 forget-0.5 forget-0.9 \
             forget-1.1"
        );
        let all = variants(&base);
        let one = |name: &str| all.iter().find(|variant| variant.name == name).unwrap();
        assert_eq!(one("base").config, base);
        assert!(!one("no-global").config.global_injection);
        assert_eq!(
            (&one("layer-2").config.text_layers[..], &one("layer-2").config.vision_layers[..]),
            (&[2][..], &[10][..])
        );
        assert_eq!((one("tokens-32").config.state_tokens, one("tokens-32").config.output_dim), (32, 128));
        assert_eq!(one("forget-0.5").config.forget_gate_scale, 0.5);
        assert!(all.iter().all(|variant| variant.weights_of.is_some() == variant.name.starts_with("forget")));
        assert_eq!(one("forget-0").weights_of, Some(("base".into(), base)));
    }

    #[test]
    fn a_retriever_of_many_tokens_one_layer_and_no_injection_has_other_variants() {
        let base = RetConfig {
            state_tokens: 8,
            global_injection: false,
            text_layers: vec![5],
            vision_layers: vec![15],
            ..starter()
        };
        assert_eq!(names(&base), "base global tokens-1 tokens-4 tokens-32 forget-0 forget-0.5 forget-0.9 forget-1.1");
    }
}
