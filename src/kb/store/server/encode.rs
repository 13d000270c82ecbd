//! Points as the server's messages, and back.

use std::collections::HashMap;

use qdrant_client::Payload as Fields;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::vector::Vector as Values;
use qdrant_client::qdrant::vectors::VectorsOptions;
use qdrant_client::qdrant::{
    DenseVector, MultiDenseVector, NamedVectors, PointId, PointStruct, RetrievedPoint, SparseVector, Value, Vector,
    Vectors, VectorsOutput, vector_output,
};
use uuid::Uuid;

use super::words::Words;
use crate::kb::store::tuning::{VECTOR, WORDS};
use crate::kb::store::{Payload, Point, StoreConfig, StoreError};

/// Bytes that a field or number costs beside its text.
const OVERHEAD: usize = 12;

pub(super) fn id(id: Uuid) -> PointId {
    PointId { point_id_options: Some(PointIdOptions::Uuid(id.to_string())) }
}

/// The id of a point, which is a UUID in every collection of ours.
pub(super) fn uuid(id: Option<PointId>) -> Result<Uuid, StoreError> {
    let bad = |found: String| {
        let reason = "its id is not a UUID; the collection was filled by something else".to_owned();
        Err(StoreError::BadPayload { id: found, reason })
    };
    match id.and_then(|id| id.point_id_options) {
        Some(PointIdOptions::Uuid(text)) => Uuid::parse_str(&text).or_else(|_| bad(text)),
        Some(PointIdOptions::Num(number)) => bad(number.to_string()),
        None => bad("none".to_owned()),
    }
}

/// One vector, or several of `dim` numbers each.
pub(super) fn values(vectors: &[f32], config: &StoreConfig) -> Values {
    if config.vectors == 1 {
        return Values::Dense(DenseVector { data: vectors.to_vec() });
    }
    let rows = vectors.chunks_exact(config.dim.max(1)).map(|row| DenseVector { data: row.to_vec() });
    Values::MultiDense(MultiDenseVector { vectors: rows.collect() })
}

/// The message for a point. One without vectors has an empty map of them: without the map the server refuses it.
pub(super) fn point(point: Point, config: &StoreConfig, model: Option<&Words>) -> Result<PointStruct, StoreError> {
    let Point { id: number, vectors, words, payload } = point;
    let bad = |reason: String| StoreError::BadPayload { id: number.to_string(), reason };
    let json = serde_json::to_value(payload).map_err(|e| bad(e.to_string()))?;
    let fields = Fields::try_from(json).map_err(|e| bad(e.to_string()))?;
    let mut named = HashMap::new();
    if !vectors.is_empty() {
        named.insert(VECTOR.to_owned(), vector(values(&vectors, config)));
    }
    if let (Some(model), Some(words)) = (model, words) {
        named.insert(WORDS.to_owned(), vector(Values::Sparse(model.document(&words))));
    }
    Ok(with_vectors(number, fields.into(), named))
}

/// A point of these fields and vectors.
pub(super) fn with_vectors(
    number: Uuid,
    payload: HashMap<String, Value>,
    vectors: HashMap<String, Vector>,
) -> PointStruct {
    let options = VectorsOptions::Vectors(NamedVectors { vectors });
    PointStruct { id: Some(id(number)), payload, vectors: Some(Vectors { vectors_options: Some(options) }) }
}

fn vector(values: Values) -> Vector {
    Vector { vector: Some(values), ..Vector::default() }
}

/// What a point stands for.
pub(super) fn payload(id: Uuid, fields: HashMap<String, Value>) -> Result<Payload, StoreError> {
    Payload::from_json(id, Fields::from(fields).into())
}

/// A point as a scan returns it: with its vectors, without its words.
pub(super) fn read(point: RetrievedPoint) -> Result<Point, StoreError> {
    let RetrievedPoint { id, payload: fields, vectors, .. } = point;
    let id = uuid(id)?;
    let vectors = match vectors.as_ref().and_then(|vectors: &VectorsOutput| vectors.get_vector_by_name(VECTOR)) {
        Some(vector_output::Vector::Dense(one)) => one.data,
        Some(vector_output::Vector::MultiDense(several)) => several.vectors.into_iter().flat_map(|v| v.data).collect(),
        Some(vector_output::Vector::Sparse(SparseVector { .. })) | None => Vec::new(),
    };
    Ok(Point { id, vectors, words: None, payload: payload(id, fields)? })
}

/// About how many bytes a point takes in a request: never much less than it does.
pub(super) fn size(point: &PointStruct) -> usize {
    let vectors = match point.vectors.as_ref().and_then(|vectors| vectors.vectors_options.as_ref()) {
        Some(VectorsOptions::Vectors(named)) => named.vectors.values().map(size_of_vector).sum(),
        _ => 0,
    };
    let fields: usize = point.payload.iter().map(|(key, value)| key.len() + size_of_value(value)).sum();
    64 + vectors + fields
}

fn size_of_vector(vector: &Vector) -> usize {
    let numbers = match &vector.vector {
        Some(Values::Dense(one)) => one.data.len(),
        Some(Values::MultiDense(several)) => several.vectors.iter().map(|v| v.data.len() + 2).sum(),
        // An index takes up to five bytes.
        Some(Values::Sparse(sparse)) => sparse.values.len() * 9 / 4 + 1,
        _ => 0,
    };
    numbers * 4 + OVERHEAD
}

fn size_of_value(value: &Value) -> usize {
    OVERHEAD
        + match &value.kind {
            Some(Kind::StringValue(text)) => text.len(),
            Some(Kind::ListValue(list)) => list.values.iter().map(size_of_value).sum(),
            Some(Kind::StructValue(fields)) => fields.fields.iter().map(|(k, v)| k.len() + size_of_value(v)).sum(),
            _ => 0,
        }
}
