//! Who asks, as these clients call it.

use axum::extract::Extension;
use serde::Serialize;
use skerry_control::Caller;
use skerry_http::Json;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Membership {
    #[serde(rename = "teamID")]
    team_id: String,
    name: String,
    api_key: &'static str,
    is_default: bool,
}

/// The one org that the key is of. No key is ever shown again.
pub(super) async fn teams(Extension(caller): Extension<Caller>) -> Json<Vec<Membership>> {
    let org = caller.tenant.org();
    Json(vec![Membership {
        team_id: org.uuid().to_string(),
        name: org.to_string(),
        api_key: "",
        is_default: true,
    }])
}
