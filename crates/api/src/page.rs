//! Pages of lists.

use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

/// Which page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// At most this many, 1 to 200; 50 unless given.
    pub limit: Option<u32>,
}
