//! The settings of a collection.

use std::collections::HashMap;

use qdrant_client::qdrant::quantization_config::Quantization as Kind;
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    BinaryQuantization, CollectionInfo, CreateCollection, Distance, HnswConfigDiff, Modifier, MultiVectorComparator,
    MultiVectorConfig, OptimizersConfigDiff, QuantizationConfig, QuantizationType, ScalarQuantization,
    SparseVectorConfig, SparseVectorParams, UpdateCollection, VectorParams, VectorParamsMap, VectorsConfig,
};
use serde::{Deserialize, Serialize};

use crate::kb::store::tuning::{VECTOR, WORDS};
use crate::kb::store::{Quantization, StoreConfig};

/// Vectors of a segment, in KB, from which on it is indexed once everything is stored: any segment worth a graph.
pub(super) const INDEXED_FROM_KB: u64 = 1;

/// How a cluster spreads a collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerOptions {
    /// Parts that it is split into; the server decides where there is no number.
    pub shard_number: Option<u32>,
    /// Copies of each part.
    pub replication_factor: Option<u32>,
    /// Copies that must have stored a point before that is acknowledged.
    pub write_consistency_factor: Option<u32>,
    /// Whether articles are read from disk, instead of held in memory too.
    pub on_disk_payload: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self { shard_number: None, replication_factor: None, write_consistency_factor: None, on_disk_payload: true }
    }
}

impl ServerOptions {
    /// Says what is wrong with them, if anything.
    #[must_use]
    pub fn wrong(&self) -> Option<String> {
        let Self { shard_number, replication_factor, write_consistency_factor, .. } = *self;
        let numbers = [
            ("shard_number", shard_number),
            ("replication_factor", replication_factor),
            ("write_consistency_factor", write_consistency_factor),
        ];
        if let Some((name, _)) = numbers.into_iter().find(|(_, number)| *number == Some(0)) {
            return Some(format!("{name} is 0, expected at least 1"));
        }
        let (copies, agreed) = (replication_factor.unwrap_or(1), write_consistency_factor.unwrap_or(1));
        (replication_factor.is_some() && agreed > copies).then(|| {
            format!("write_consistency_factor is {agreed}, expected at most the {copies} of replication_factor")
        })
    }
}

/// The request that makes a collection. Nothing is indexed there before [`index_now`].
//
// The fields that replace the deprecated ones are new in 1.20, and older servers pass over them in silence.
#[allow(deprecated)]
pub(super) fn create(collection: &str, config: &StoreConfig, options: &ServerOptions) -> CreateCollection {
    let several = MultiVectorConfig { comparator: MultiVectorComparator::MaxSim.into() };
    let hnsw = HnswConfigDiff {
        m: Some(config.hnsw_m as u64),
        ef_construct: Some(config.hnsw_ef_construct as u64),
        on_disk: Some(config.on_disk),
        ..HnswConfigDiff::default()
    };
    let vector = VectorParams {
        size: config.dim as u64,
        distance: Distance::Dot.into(),
        hnsw_config: Some(hnsw),
        quantization_config: quantization(config.quantization),
        on_disk: Some(config.on_disk),
        multivector_config: (config.vectors > 1).then_some(several),
        ..VectorParams::default()
    };
    let map = HashMap::from([(VECTOR.to_owned(), vector)]);
    let words = SparseVectorParams { modifier: Some(Modifier::Idf.into()), ..SparseVectorParams::default() };
    CreateCollection {
        collection_name: collection.to_owned(),
        vectors_config: Some(VectorsConfig { config: Some(Config::ParamsMap(VectorParamsMap { map })) }),
        sparse_vectors_config: config
            .words
            .then(|| SparseVectorConfig { map: HashMap::from([(WORDS.to_owned(), words)]) }),
        optimizers_config: Some(optimizers(0)),
        shard_number: options.shard_number,
        replication_factor: options.replication_factor,
        write_consistency_factor: options.write_consistency_factor,
        on_disk_payload: Some(options.on_disk_payload),
        ..CreateCollection::default()
    }
}

/// The request that lets the server index what is stored.
pub(super) fn index_now(collection: &str) -> UpdateCollection {
    UpdateCollection {
        collection_name: collection.to_owned(),
        optimizers_config: Some(optimizers(INDEXED_FROM_KB)),
        ..UpdateCollection::default()
    }
}

/// Points that are not indexed yet must be there all the same, whatever the server's own default: a count compares
/// what is there with what was stored.
fn optimizers(indexed_from_kb: u64) -> OptimizersConfigDiff {
    OptimizersConfigDiff {
        indexing_threshold: Some(indexed_from_kb),
        prevent_unoptimized: Some(false),
        ..OptimizersConfigDiff::default()
    }
}

#[allow(deprecated)]
fn quantization(kind: Quantization) -> Option<QuantizationConfig> {
    let kind = match kind {
        Quantization::None => return None,
        Quantization::Int8 => Kind::Scalar(ScalarQuantization {
            r#type: QuantizationType::Int8.into(),
            always_ram: Some(true),
            ..ScalarQuantization::default()
        }),
        Quantization::Binary => {
            Kind::Binary(BinaryQuantization { always_ram: Some(true), ..BinaryQuantization::default() })
        }
    };
    Some(QuantizationConfig { quantization: Some(kind) })
}

/// Says in what a collection is not one of `config`, if in anything that search depends on.
pub(super) fn differs(info: &CollectionInfo, config: &StoreConfig) -> Option<String> {
    let params = info.config.as_ref().and_then(|config| config.params.as_ref());
    let vectors = params.and_then(|params| params.vectors_config.as_ref()).and_then(|vectors| vectors.config.as_ref());
    let Some(Config::ParamsMap(vectors)) = vectors else {
        return Some(format!("it has no vectors named {VECTOR:?}"));
    };
    let Some(vector) = vectors.map.get(VECTOR) else {
        return Some(format!("it has no vectors named {VECTOR:?}"));
    };
    if vector.size != config.dim as u64 {
        return Some(format!("vectors of {} numbers, expected {}", vector.size, config.dim));
    }
    if vector.distance != i32::from(Distance::Dot) {
        let found = vector.distance().as_str_name();
        return Some(format!("distance {found}, expected {}", Distance::Dot.as_str_name()));
    }
    match (vector.multivector_config.is_some(), config.vectors > 1) {
        (true, false) => return Some("several vectors for each point, expected one".to_owned()),
        (false, true) => return Some(format!("one vector for each point, expected {}", config.vectors)),
        _ => {}
    }
    let sparse = params.and_then(|params| params.sparse_vectors_config.as_ref());
    let words = sparse.is_some_and(|sparse| sparse.map.contains_key(WORDS));
    (config.words && !words).then(|| "no words, expected them to be indexed".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, deprecated)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_is_made_as_the_store_is_described() {
        let config = StoreConfig {
            words: true,
            quantization: Quantization::Int8,
            on_disk: true,
            hnsw_m: 24,
            ..StoreConfig::new(96, 4)
        };
        let options = ServerOptions { shard_number: Some(6), ..ServerOptions::default() };
        let made = create("c", &config, &options);
        let Some(Config::ParamsMap(map)) = made.vectors_config.unwrap().config else { panic!("named") };
        let vector = &map.map[VECTOR];
        assert_eq!((vector.size, vector.distance(), vector.on_disk), (96, Distance::Dot, Some(true)));
        assert_eq!(vector.hnsw_config.unwrap().m, Some(24));
        assert!(vector.multivector_config.is_some());
        let Some(Kind::Scalar(scalar)) = vector.quantization_config.unwrap().quantization else { panic!("int8") };
        assert_eq!((scalar.r#type(), scalar.always_ram), (QuantizationType::Int8, Some(true)));
        assert_eq!(made.sparse_vectors_config.unwrap().map[WORDS].modifier(), Modifier::Idf);
        assert_eq!(made.optimizers_config.unwrap().indexing_threshold, Some(0));
        assert_eq!((made.shard_number, made.on_disk_payload), (Some(6), Some(true)));
        assert!(index_now("c").optimizers_config.unwrap().indexing_threshold > Some(0));
    }

    #[test]
    fn options_that_no_cluster_can_follow_are_told() {
        let options = |copies, agreed| ServerOptions {
            replication_factor: copies,
            write_consistency_factor: agreed,
            ..ServerOptions::default()
        };
        assert_eq!(options(Some(3), Some(2)).wrong(), None);
        assert!(options(Some(0), None).wrong().unwrap().contains("replication_factor is 0"));
        assert!(options(Some(1), Some(2)).wrong().unwrap().contains("at most the 1"));
    }
}
