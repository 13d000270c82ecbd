//! Collections, aliases and health of the double.

use qdrant_client::qdrant::collections_server::Collections;
use qdrant_client::qdrant::qdrant_server::Qdrant;
use qdrant_client::qdrant::{
    AliasDescription, ChangeAliases, CollectionClusterInfoRequest, CollectionClusterInfoResponse, CollectionConfig,
    CollectionDescription, CollectionExists, CollectionExistsRequest, CollectionExistsResponse, CollectionInfo,
    CollectionOperationResponse, CollectionParams, CollectionStatus, CreateCollection, CreateShardKeyRequest,
    CreateShardKeyResponse, DeleteCollection, DeleteShardKeyRequest, DeleteShardKeyResponse, GetCollectionInfoRequest,
    GetCollectionInfoResponse, HealthCheckReply, HealthCheckRequest, ListAliasesRequest, ListAliasesResponse,
    ListCollectionAliasesRequest, ListCollectionsRequest, ListCollectionsResponse, ListShardKeysRequest,
    ListShardKeysResponse, OptimizerStatus, OptimizersConfigDiff, UpdateCollection,
    UpdateCollectionClusterSetupRequest, UpdateCollectionClusterSetupResponse, alias_operations,
};
use tonic::{Request, Response, Status};

use super::{Handler, Held};

type Answer<T> = Result<Response<T>, Status>;

fn done(result: bool) -> Response<CollectionOperationResponse> {
    Response::new(CollectionOperationResponse { result, time: 0.0 })
}

#[tonic::async_trait]
impl Qdrant for Handler {
    async fn health_check(&self, request: Request<HealthCheckRequest>) -> Answer<HealthCheckReply> {
        self.gate("health", &request).await?;
        let version = self.with(|state| state.version.clone());
        Ok(Response::new(HealthCheckReply { title: "qdrant - vector search engine".to_owned(), version, commit: None }))
    }
}

/// The trait with the methods that are written out, and those that no store calls.
macro_rules! collections {
    ({ $($written:tt)* } $($name:ident($request:ty) -> $answer:ty;)*) => {
        #[tonic::async_trait]
        impl Collections for Handler {
            $($written)*
            $(
                async fn $name(&self, _: Request<$request>) -> Answer<$answer> {
                    Err(Status::unimplemented(stringify!($name)))
                }
            )*
        }
    };
}

collections! {
    {
        async fn get(&self, request: Request<GetCollectionInfoRequest>) -> Answer<GetCollectionInfoResponse> {
            self.gate("info", &request).await?;
            let name = request.into_inner().collection_name;
            self.with(|state| {
                let (stuck, pending, broken) = (state.stuck, state.pending, state.broken.clone());
                let mut result = info(state.held(&name)?, stuck, broken);
                if pending {
                    result.set_status(CollectionStatus::Grey);
                }
                let result = Some(result);
                Ok(Response::new(GetCollectionInfoResponse { result, time: 0.0 }))
            })
        }

        async fn list(&self, request: Request<ListCollectionsRequest>) -> Answer<ListCollectionsResponse> {
            self.gate("list", &request).await?;
            let describe = |name: &String| CollectionDescription { name: name.clone() };
            let collections = self.with(|state| state.collections.keys().map(describe).collect());
            Ok(Response::new(ListCollectionsResponse { collections, time: 0.0 }))
        }

        async fn create(&self, request: Request<CreateCollection>) -> Answer<CollectionOperationResponse> {
            let fault = self.gate("create", &request).await?;
            let config = request.into_inner();
            self.with(|state| {
                let name = config.collection_name.clone();
                if state.collections.contains_key(&name) {
                    return Err(Status::already_exists(format!("Wrong input: Collection `{name}` already exists!")));
                }
                let threshold = config.optimizers_config.and_then(|o| o.indexing_threshold).unwrap_or(10_000);
                state.collections.insert(name, Held { config, points: Default::default(), threshold, looks: 0 });
                Ok(())
            })?;
            self.after(fault).await;
            Ok(done(true))
        }

        async fn update(&self, request: Request<UpdateCollection>) -> Answer<CollectionOperationResponse> {
            self.gate("update", &request).await?;
            let request = request.into_inner();
            self.with(|state| {
                let looks = state.looks;
                state.pending = false;
                let held = state.held(&request.collection_name)?;
                if let Some(threshold) = request.optimizers_config.and_then(|o| o.indexing_threshold) {
                    held.threshold = threshold;
                    held.looks = looks;
                }
                Ok(done(true))
            })
        }

        async fn delete(&self, request: Request<DeleteCollection>) -> Answer<CollectionOperationResponse> {
            let fault = self.gate("drop", &request).await?;
            let name = request.into_inner().collection_name;
            let found = self.with(|state| {
                state.aliases.retain(|_, collection| *collection != name);
                state.collections.remove(&name).is_some()
            });
            self.after(fault).await;
            Ok(done(found))
        }

        async fn update_aliases(&self, request: Request<ChangeAliases>) -> Answer<CollectionOperationResponse> {
            self.gate("alias", &request).await?;
            let actions = request.into_inner().actions;
            self.with(|state| {
                for action in actions.into_iter().filter_map(|a| a.action) {
                    match action {
                        alias_operations::Action::CreateAlias(create) => {
                            state.held(&create.collection_name)?;
                            state.aliases.insert(create.alias_name, create.collection_name);
                        }
                        alias_operations::Action::DeleteAlias(delete) => {
                            state.aliases.remove(&delete.alias_name);
                        }
                        alias_operations::Action::RenameAlias(_) => return Err(Status::unimplemented("rename")),
                    }
                }
                Ok(done(true))
            })
        }

        async fn list_aliases(&self, request: Request<ListAliasesRequest>) -> Answer<ListAliasesResponse> {
            self.gate("aliases", &request).await?;
            let aliases = self.with(|state| {
                let describe = |(alias, collection): (&String, &String)| AliasDescription {
                    alias_name: alias.clone(),
                    collection_name: collection.clone(),
                };
                state.aliases.iter().map(describe).collect()
            });
            Ok(Response::new(ListAliasesResponse { aliases, time: 0.0 }))
        }

        async fn collection_exists(
            &self,
            request: Request<CollectionExistsRequest>,
        ) -> Answer<CollectionExistsResponse> {
            self.gate("exists", &request).await?;
            let exists = self.with(|state| state.held(&request.get_ref().collection_name).is_ok());
            Ok(Response::new(CollectionExistsResponse { result: Some(CollectionExists { exists }), time: 0.0 }))
        }
    }
    list_collection_aliases(ListCollectionAliasesRequest) -> ListAliasesResponse;
    collection_cluster_info(CollectionClusterInfoRequest) -> CollectionClusterInfoResponse;
    update_collection_cluster_setup(UpdateCollectionClusterSetupRequest) -> UpdateCollectionClusterSetupResponse;
    create_shard_key(CreateShardKeyRequest) -> CreateShardKeyResponse;
    delete_shard_key(DeleteShardKeyRequest) -> DeleteShardKeyResponse;
    list_shard_keys(ListShardKeysRequest) -> ListShardKeysResponse;
}

fn info(held: &mut Held, stuck: bool, broken: Option<String>) -> CollectionInfo {
    let at_work = stuck || held.looks > 0;
    held.looks = held.looks.saturating_sub(1);
    let vectors: usize = held.points.values().map(|point| super::points::named(point).len()).sum();
    let indexed = if held.threshold == 0 || at_work { 0 } else { vectors as u64 };
    let params = CollectionParams {
        vectors_config: held.config.vectors_config.clone(),
        sparse_vectors_config: held.config.sparse_vectors_config.clone(),
        shard_number: held.config.shard_number.unwrap_or(1),
        ..CollectionParams::default()
    };
    CollectionInfo {
        status: if at_work { CollectionStatus::Yellow } else { CollectionStatus::Green }.into(),
        optimizer_status: Some(OptimizerStatus { ok: broken.is_none(), error: broken.unwrap_or_default() }),
        segments_count: 2,
        config: Some(CollectionConfig {
            params: Some(params),
            optimizer_config: Some(OptimizersConfigDiff {
                indexing_threshold: Some(held.threshold),
                ..OptimizersConfigDiff::default()
            }),
            ..CollectionConfig::default()
        }),
        points_count: Some(held.points.len() as u64),
        indexed_vectors_count: Some(indexed),
        ..CollectionInfo::default()
    }
}
