//! Forks of a running sandbox.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use skerry_control::{Attempt, Caller, ForkRequest, Sandbox, Scope};
use skerry_http::ports::Way;
use skerry_http::{Answer, Json, Once, Path};

use super::Api;
use super::id::Named;
use super::shape::Access;

/// Seconds that a fork lives unless asked otherwise.
const TIMEOUT: u64 = 15;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Fork {
    timeout: Option<u64>,
    count: Option<u32>,
}

/// How one of them went: one of the two is there.
#[derive(Debug, Serialize)]
struct Forked {
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<Access>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Wrong>,
}

#[derive(Debug, Serialize)]
struct Wrong {
    code: u16,
    message: String,
}

/// Forks of one instant, each with memory and processes where the driver can.
pub(super) async fn fork(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(Named(id)): Path<Named>,
    way: Way,
    once: Once,
    body: Option<Json<Fork>>,
) -> Answer<Response> {
    caller.require(Scope::SandboxCreate)?;
    let asked = body.unwrap_or_default().0;
    let work = {
        let (api, caller, asked) = (api.clone(), caller.clone(), asked.clone());
        move |attempt: Attempt| {
            async move {
                api.find(&caller, Scope::SandboxCreate, id).await?;
                let request = ForkRequest {
                    ttl_seconds: Some(asked.timeout.unwrap_or(TIMEOUT)),
                    ..ForkRequest::default()
                };
                let (control, count) = (api.control(), asked.count.unwrap_or(1));
                let forks = control.fork_many(&caller, id, count, request, attempt);
                let children = forks.await?.children.into_iter();
                let forked: Vec<_> = children
                    .map(|(_, made)| api.forked(&caller, made, &way))
                    .collect();
                Ok((StatusCode::CREATED, forked))
            }
            .boxed()
        }
    };
    once.run(&api.app, &caller, &asked, work).await
}

impl Api {
    fn forked(&self, caller: &Caller, made: skerry_types::Result<Sandbox>, way: &Way) -> Forked {
        match made {
            Ok(made) => Forked {
                sandbox: Some(self.access(caller, &made, way)),
                error: None,
            },
            Err(error) => Forked {
                sandbox: None,
                error: Some(Wrong {
                    code: error.code.status(),
                    message: error.message,
                }),
            },
        }
    }
}
