//! Points of the double: held in memory, compared one by one.

use std::collections::HashMap;

use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::points_server::Points;
use qdrant_client::qdrant::query::Variant;
use qdrant_client::qdrant::vector::Vector as Values;
use qdrant_client::qdrant::vector_input::Variant as Input;
use qdrant_client::qdrant::vectors::VectorsOptions;
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::with_vectors_selector::SelectorOptions;
use qdrant_client::qdrant::{
    ClearPayloadPoints, CountPoints, CountResponse, CountResult, CreateFieldIndexCollection, CreateVectorNameRequest,
    DeleteFieldIndexCollection, DeletePayloadPoints, DeletePointVectors, DeletePoints, DeleteVectorNameRequest,
    DenseVector, DiscoverBatchPoints, DiscoverBatchResponse, DiscoverPoints, DiscoverResponse, FacetCounts,
    FacetResponse, Filter, GetPoints, GetResponse, NamedVectorsOutput, PointId, PointStruct, PointsOperationResponse,
    Query, QueryBatchPoints, QueryBatchResponse, QueryGroupsResponse, QueryPointGroups, QueryPoints, QueryResponse,
    RecommendBatchPoints, RecommendBatchResponse, RecommendGroupsResponse, RecommendPointGroups, RecommendPoints,
    RecommendResponse, RetrievedPoint, ScoredPoint, ScrollPoints, ScrollResponse, SearchBatchPoints,
    SearchBatchResponse, SearchGroupsResponse, SearchMatrixOffsetsResponse, SearchMatrixPairsResponse,
    SearchMatrixPoints, SearchPointGroups, SearchPoints, SearchResponse, SetPayloadPoints, SparseVector,
    UpdateBatchPoints, UpdateBatchResponse, UpdatePointVectors, UpdateResult, UpdateStatus, UpsertPoints, Vector,
    VectorOutput, VectorsOutput, WithVectorsSelector, vector_output, vectors_output,
};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Fault, Handler, Held};

type Answer<T> = Result<Response<T>, Status>;

fn updated(status: UpdateStatus) -> Response<PointsOperationResponse> {
    let result = UpdateResult { operation_id: Some(1), status: status.into() };
    Response::new(PointsOperationResponse { result: Some(result), time: 0.0, usage: None })
}

fn key(id: Option<&PointId>) -> Result<Uuid, Status> {
    match id.and_then(|id| id.point_id_options.as_ref()) {
        Some(PointIdOptions::Uuid(text)) => Uuid::parse_str(text).map_err(|e| Status::invalid_argument(e.to_string())),
        _ => Err(Status::invalid_argument("Empty ID is not allowed")),
    }
}

/// Vectors of a point by name.
pub fn named(point: &PointStruct) -> &HashMap<String, Vector> {
    match point.vectors.as_ref().and_then(|vectors| vectors.vectors_options.as_ref()) {
        Some(VectorsOptions::Vectors(named)) => &named.vectors,
        _ => panic!("checked when it was stored"),
    }
}

/// Refuses what Qdrant refuses.
fn check(point: &PointStruct, held: &Held) -> Result<(), Status> {
    key(point.id.as_ref())?;
    let Some(VectorsOptions::Vectors(given)) = point.vectors.as_ref().and_then(|v| v.vectors_options.as_ref()) else {
        return Err(Status::invalid_argument("Expected some vectors"));
    };
    let Some(Config::ParamsMap(dense)) = held.config.vectors_config.as_ref().and_then(|v| v.config.as_ref()) else {
        return Err(Status::invalid_argument("no named vectors"));
    };
    let sparse = held.config.sparse_vectors_config.as_ref();
    for (name, vector) in &given.vectors {
        let size = dense.map.get(name).map(|params| params.size as usize);
        let fits = match (&vector.vector, size) {
            (Some(Values::Dense(one)), Some(size)) => one.data.len() == size,
            (Some(Values::MultiDense(several)), Some(size)) => several.vectors.iter().all(|v| v.data.len() == size),
            (Some(Values::Sparse(_)), None) => sparse.is_some_and(|sparse| sparse.map.contains_key(name)),
            _ => false,
        };
        if !fits {
            return Err(Status::invalid_argument(format!("Wrong input: Vector {name} does not fit")));
        }
    }
    Ok(())
}

fn passes(filter: Option<&Filter>, id: Uuid, point: &PointStruct) -> bool {
    let Some(filter) = filter else { return true };
    let holds = |condition: &qdrant_client::qdrant::Condition| match &condition.condition_one_of {
        Some(ConditionOneOf::HasId(ids)) => ids.has_id.iter().any(|has| key(Some(has)).is_ok_and(|has| has == id)),
        Some(ConditionOneOf::HasVector(has)) => named(point).contains_key(&has.has_vector),
        other => panic!("{other:?} is not asked for"),
    };
    filter.must.iter().all(holds) && !filter.must_not.iter().any(holds)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn score(query: &Input, vector: &Vector) -> Option<f32> {
    match (query, vector.vector.as_ref()?) {
        (Input::Dense(query), Values::Dense(own)) => Some(dot(&query.data, &own.data)),
        (Input::MultiDense(query), Values::MultiDense(own)) => {
            let best = |row: &DenseVector| {
                own.vectors.iter().map(|own| dot(&row.data, &own.data)).fold(f32::NEG_INFINITY, f32::max)
            };
            Some(query.vectors.iter().map(best).sum())
        }
        (Input::Sparse(query), Values::Sparse(own)) => {
            let own: HashMap<u32, f32> = own.indices.iter().copied().zip(own.values.iter().copied()).collect();
            let shared = query.indices.iter().zip(&query.values).filter_map(|(i, v)| Some(own.get(i)? * v));
            let shared: Vec<f32> = shared.collect();
            (!shared.is_empty()).then(|| shared.iter().sum())
        }
        _ => None,
    }
}

/// Ids by score, best first.
fn ranked(held: &Held, query: Option<&Query>, using: Option<&str>, limit: u64) -> Result<Vec<(Uuid, f32)>, Status> {
    let Some(Variant::Nearest(input)) = query.and_then(|query| query.variant.as_ref()) else {
        return Err(Status::unimplemented("a query by something else than vectors"));
    };
    let input = input.variant.as_ref().ok_or_else(|| Status::invalid_argument("an empty query"))?;
    let using = using.unwrap_or_default();
    let scored = held.points.iter().filter_map(|(id, point)| Some((*id, score(input, named(point).get(using)?)?)));
    let mut scored: Vec<(Uuid, f32)> = scored.collect();
    scored.sort_by(|a, b| b.1.total_cmp(&a.1));
    scored.truncate(limit as usize);
    Ok(scored)
}

fn search(held: &Held, request: &QueryPoints) -> Result<Vec<(Uuid, f32)>, Status> {
    let limit = request.limit.unwrap_or(10);
    if limit == 0 {
        return Err(Status::invalid_argument("limit: must be 1 or larger"));
    }
    let Some(Variant::Rrf(rrf)) = request.query.as_ref().and_then(|query| query.variant.as_ref()) else {
        return ranked(held, request.query.as_ref(), request.using.as_deref(), limit);
    };
    let mut fused: HashMap<Uuid, f32> = HashMap::new();
    for prefetch in &request.prefetch {
        let limit = prefetch.limit.unwrap_or(10);
        let found = ranked(held, prefetch.query.as_ref(), prefetch.using.as_deref(), limit)?;
        for (rank, (id, _)) in found.into_iter().enumerate() {
            *fused.entry(id).or_default() += 1.0 / (rank as f32 + rrf.k.unwrap_or(2) as f32);
        }
    }
    let mut fused: Vec<(Uuid, f32)> = fused.into_iter().collect();
    fused.sort_by(|a, b| b.1.total_cmp(&a.1));
    fused.truncate(limit as usize);
    Ok(fused)
}

fn output(vector: &Vector) -> VectorOutput {
    let vector = match vector.vector.clone() {
        Some(Values::Dense(one)) => vector_output::Vector::Dense(one),
        Some(Values::MultiDense(several)) => vector_output::Vector::MultiDense(several),
        Some(Values::Sparse(sparse)) => vector_output::Vector::Sparse(sparse),
        _ => vector_output::Vector::Sparse(SparseVector::default()),
    };
    VectorOutput { vector: Some(vector), ..VectorOutput::default() }
}

fn retrieved(point: &PointStruct, with: Option<&WithVectorsSelector>) -> RetrievedPoint {
    let vectors = match with.and_then(|with| with.selector_options.as_ref()) {
        Some(SelectorOptions::Include(names)) => {
            let chosen = named(point).iter().filter(|(name, _)| names.names.contains(name));
            let vectors = chosen.map(|(name, vector)| (name.clone(), output(vector))).collect();
            let options = vectors_output::VectorsOptions::Vectors(NamedVectorsOutput { vectors });
            Some(VectorsOutput { vectors_options: Some(options) })
        }
        _ => None,
    };
    RetrievedPoint { id: point.id.clone(), payload: point.payload.clone(), vectors, ..RetrievedPoint::default() }
}

/// The trait with the methods that are written out, and those that no store calls.
macro_rules! points {
    ({ $($written:tt)* } $($name:ident($request:ty) -> $answer:ty;)*) => {
        #[tonic::async_trait]
        impl Points for Handler {
            $($written)*
            $(
                async fn $name(&self, _: Request<$request>) -> Answer<$answer> {
                    Err(Status::unimplemented(stringify!($name)))
                }
            )*
        }
    };
}

points! {
    {
        async fn upsert(&self, request: Request<UpsertPoints>) -> Answer<PointsOperationResponse> {
            let fault = self.gate("upsert", &request).await?;
            if fault == Some(Fault::Acknowledge) {
                return Ok(updated(UpdateStatus::Acknowledged));
            }
            let request = request.into_inner();
            if request.wait != Some(true) {
                return Err(Status::invalid_argument("a store waits"));
            }
            self.with(|state| {
                state.note(&request);
                let held = state.held(&request.collection_name)?;
                request.points.iter().try_for_each(|point| check(point, held))?;
                for point in request.points {
                    held.points.insert(key(point.id.as_ref())?, point);
                }
                Ok::<_, Status>(())
            })?;
            self.after(fault).await;
            Ok(updated(UpdateStatus::Completed))
        }

        async fn delete(&self, request: Request<DeletePoints>) -> Answer<PointsOperationResponse> {
            let fault = self.gate("delete", &request).await?;
            let request = request.into_inner();
            let Some(PointsSelectorOneOf::Points(list)) = request.points.and_then(|p| p.points_selector_one_of) else {
                return Err(Status::unimplemented("deletion by filter"));
            };
            self.with(|state| {
                let held = state.held(&request.collection_name)?;
                for id in &list.ids {
                    held.points.remove(&key(Some(id))?);
                }
                Ok::<_, Status>(())
            })?;
            self.after(fault).await;
            Ok(updated(UpdateStatus::Completed))
        }

        async fn get(&self, request: Request<GetPoints>) -> Answer<GetResponse> {
            self.gate("get", &request).await?;
            let request = request.into_inner();
            self.with(|state| {
                let held = state.held(&request.collection_name)?;
                let mut result = Vec::new();
                // In no order that a caller could rely on.
                for id in request.ids.iter().rev() {
                    result.extend(held.points.get(&key(Some(id))?).map(|point| retrieved(point, None)));
                }
                Ok(Response::new(GetResponse { result, time: 0.0, usage: None }))
            })
        }

        async fn scroll(&self, request: Request<ScrollPoints>) -> Answer<ScrollResponse> {
            self.gate("scroll", &request).await?;
            let request = request.into_inner();
            let limit = request.limit.unwrap_or(10) as usize;
            if limit == 0 {
                return Err(Status::invalid_argument("limit: must be 1 or larger"));
            }
            let from = request.offset.as_ref().map(|id| key(Some(id))).transpose()?.unwrap_or(Uuid::nil());
            self.with(|state| {
                let held = state.held(&request.collection_name)?;
                let mut rest = held.points.range(from..);
                let mut rest = rest.by_ref().filter(|(id, point)| passes(request.filter.as_ref(), **id, point));
                let page = rest.by_ref().take(limit);
                let result = page.map(|(_, point)| retrieved(point, request.with_vectors.as_ref())).collect();
                let next_page_offset = rest.next().and_then(|(_, point)| point.id.clone());
                Ok(Response::new(ScrollResponse { next_page_offset, result, time: 0.0, usage: None }))
            })
        }

        async fn count(&self, request: Request<CountPoints>) -> Answer<CountResponse> {
            self.gate("count", &request).await?;
            let request = request.into_inner();
            self.with(|state| {
                let held = state.held(&request.collection_name)?;
                let passing = held.points.iter().filter(|(id, point)| passes(request.filter.as_ref(), **id, point));
                let result = Some(CountResult { count: passing.count() as u64 });
                Ok(Response::new(CountResponse { result, time: 0.0, usage: None }))
            })
        }

        async fn query(&self, request: Request<QueryPoints>) -> Answer<QueryResponse> {
            self.gate("query", &request).await?;
            let request = request.into_inner();
            self.with(|state| {
                state.query = Some(request.clone());
                let held = state.held(&request.collection_name)?;
                let found = search(held, &request)?;
                let scored = found.into_iter().map(|(id, score)| {
                    let point = &held.points[&id];
                    let payload = point.payload.clone();
                    ScoredPoint { id: point.id.clone(), payload, score, ..ScoredPoint::default() }
                });
                Ok(Response::new(QueryResponse { result: scored.collect(), time: 0.0, usage: None }))
            })
        }
    }
    update_vectors(UpdatePointVectors) -> PointsOperationResponse;
    delete_vectors(DeletePointVectors) -> PointsOperationResponse;
    set_payload(SetPayloadPoints) -> PointsOperationResponse;
    overwrite_payload(SetPayloadPoints) -> PointsOperationResponse;
    delete_payload(DeletePayloadPoints) -> PointsOperationResponse;
    clear_payload(ClearPayloadPoints) -> PointsOperationResponse;
    create_field_index(CreateFieldIndexCollection) -> PointsOperationResponse;
    delete_field_index(DeleteFieldIndexCollection) -> PointsOperationResponse;
    create_vector_name(CreateVectorNameRequest) -> PointsOperationResponse;
    delete_vector_name(DeleteVectorNameRequest) -> PointsOperationResponse;
    search(SearchPoints) -> SearchResponse;
    search_batch(SearchBatchPoints) -> SearchBatchResponse;
    search_groups(SearchPointGroups) -> SearchGroupsResponse;
    recommend(RecommendPoints) -> RecommendResponse;
    recommend_batch(RecommendBatchPoints) -> RecommendBatchResponse;
    recommend_groups(RecommendPointGroups) -> RecommendGroupsResponse;
    discover(DiscoverPoints) -> DiscoverResponse;
    discover_batch(DiscoverBatchPoints) -> DiscoverBatchResponse;
    update_batch(UpdateBatchPoints) -> UpdateBatchResponse;
    query_batch(QueryBatchPoints) -> QueryBatchResponse;
    query_groups(QueryPointGroups) -> QueryGroupsResponse;
    facet(FacetCounts) -> FacetResponse;
    search_matrix_pairs(SearchMatrixPoints) -> SearchMatrixPairsResponse;
    search_matrix_offsets(SearchMatrixPoints) -> SearchMatrixOffsetsResponse;
}
