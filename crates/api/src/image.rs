//! What sandboxes start from.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_types::ImageId;
use utoipa::ToSchema;

/// An image that is on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Image {
    /// New with each content.
    #[schema(schema_with = crate::schema::image_id)]
    pub id: ImageId,
    /// The name it is found under.
    pub reference: String,
    /// `host`, `oci` or `base`.
    pub kind: String,
    /// `sha256:…` of its content.
    pub digest: String,
    /// Bytes of file content.
    pub size_bytes: u64,
    /// When it came to this machine.
    pub created_at: Timestamp,
    /// The user its programs run as.
    pub user: String,
    /// Where its programs start.
    pub workdir: String,
}

/// The images on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImageList {
    /// The images, by name.
    pub images: Vec<Image>,
}

/// Gets an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PullImage {
    /// Its name: `base`, or a reference to a registry.
    pub reference: String,
    /// Who asks the registry; nobody in particular unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<RegistryLogin>,
}

/// A login at a registry. It serves one pull and is kept nowhere: not in the store, not in a log, not in an answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryLogin {
    /// The user; 1 to 256 bytes without a colon.
    pub username: String,
    /// The password, or what the registry takes for one; 1 to 16384 bytes.
    #[schema(format = Password, write_only)]
    pub password: String,
}

impl fmt::Debug for RegistryLogin {
    /// Secrets are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryLogin").finish_non_exhaustive()
    }
}

/// What a pull or an import reports, as the data of server-sent events: any number of `progress`, then `done` or `error`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum PullEvent {
    /// How far it has come.
    Progress {
        /// `resolving`, `downloading`, `unpacking`, `building` or `done`.
        phase: String,
        /// Bytes of this step that are done.
        done_bytes: u64,
        /// Bytes of this step in all; 0 when nobody knows.
        total_bytes: u64,
        /// A short line for a person.
        message: String,
    },
    /// The image can be used.
    Done {
        /// It.
        image: Image,
    },
}
