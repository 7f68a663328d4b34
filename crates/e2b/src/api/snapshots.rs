//! Snapshots: taken, listed; removed as templates, which they are to these clients.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use skerry_control::{Attempt, Caller, Scope, Snapshot, SnapshotQuery, SnapshotRequest};
use skerry_http::{Answer, Json, Once, Path, Query};
use skerry_proto::node::MemoryWish;
use skerry_types::{SandboxId, SnapshotId};

use super::Api;
use super::id::{Named, plain_name};
use super::list::paged;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct NewSnapshot {
    name: Option<String>,
    memory: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Info {
    #[serde(rename = "snapshotID")]
    snapshot_id: String,
    names: Vec<String>,
}

impl From<Snapshot> for Info {
    fn from(snapshot: Snapshot) -> Self {
        Self {
            snapshot_id: snapshot.id.to_string(),
            names: snapshot.name.into_iter().collect(),
        }
    }
}

/// Takes one; a name goes over to the newest. Memory is taken along where the driver can, unless it is said to be needed or not.
pub(super) async fn take(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(Named(id)): Path<Named>,
    once: Once,
    body: Option<Json<NewSnapshot>>,
) -> Answer<Response> {
    let asked = body.unwrap_or_default().0;
    let work = {
        let (api, caller, asked) = (api.clone(), caller.clone(), asked.clone());
        move |attempt: Attempt| {
            async move {
                api.find(&caller, Scope::SandboxWrite, id).await?;
                let snapshot = SnapshotId::from_uuid(attempt.id);
                let (control, reference) = (api.control(), snapshot.to_string());
                let earlier = attempt.earlier(control.snapshot(&caller, &reference));
                let taken = if let Some(taken) = earlier.await? {
                    taken
                } else {
                    let request = asked.request(snapshot);
                    control.take_snapshot(&caller, id, request).await?
                };
                Ok((StatusCode::CREATED, Info::from(taken)))
            }
            .boxed()
        }
    };
    once.run(&api.app, &caller, &asked, work).await
}

impl NewSnapshot {
    fn request(self, id: SnapshotId) -> SnapshotRequest {
        let name = self.name.filter(|name| !name.is_empty());
        SnapshotRequest {
            id: Some(id),
            overwrite: name.is_some(),
            name: name.map(|name| plain_name(&name)),
            memory: match self.memory {
                Some(true) => MemoryWish::Required,
                Some(false) => MemoryWish::None,
                None => MemoryWish::Auto,
            },
            defaults: None,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Filter {
    #[serde(rename = "sandboxID")]
    sandbox_id: Option<String>,
    name: Option<String>,
    limit: Option<u32>,
    next_token: Option<String>,
}

pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Query(filter): Query<Filter>,
) -> Answer<Response> {
    caller.require(Scope::SandboxRead)?;
    let sandbox: Option<Named> = filter.sandbox_id.as_deref().map(str::parse).transpose()?;
    let sandbox: Option<SandboxId> = sandbox.map(|Named(id)| id);
    if let Some(name) = filter.name {
        // No two have the same.
        let found = api.control().snapshot(&caller, &plain_name(&name)).await;
        let found = found
            .ok()
            .filter(|s| sandbox.is_none_or(|id| s.sandbox_id == id));
        let found: Vec<_> = found.into_iter().map(Info::from).collect();
        return Ok(paged(Json(found), None));
    }
    let query = SnapshotQuery {
        sandbox,
        cursor: filter.next_token.filter(|token| !token.is_empty()),
        limit: filter.limit,
    };
    let page = api.control().snapshots(&caller, query).await?;
    let found: Vec<_> = page.snapshots.into_iter().map(Info::from).collect();
    Ok(paged(Json(found), page.next_cursor))
}
