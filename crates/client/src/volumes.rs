//! Volumes, and what is in them.

use reqwest::{Body, Method};
use serde::Serialize;
use skerry_api::{
    CreateVolume, FileEntry, FilePage, FileWritten, MakeVolumeDir, Volume, VolumePage,
};

use crate::client::Client;
use crate::error::Result;
use crate::files::Download;
use crate::retry::Repeat;
use crate::sandbox::PageQuery;

#[derive(Serialize)]
struct At<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    list: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
}

impl<'a> At<'a> {
    fn path(path: &'a str) -> Self {
        Self {
            path,
            list: false,
            mode: None,
            cursor: None,
        }
    }
}

/// Volumes go by id or name; paths in one are absolute from its root.
impl Client {
    /// Makes one.
    pub async fn create_volume(&self, request: &CreateVolume) -> Result<Volume> {
        self.post_once(&["volumes"], request).await
    }

    /// Every one, newest first.
    pub async fn volumes(&self) -> Result<Vec<Volume>> {
        let mut all = Vec::new();
        let mut cursor = None;
        loop {
            let query = PageQuery {
                cursor: cursor.as_deref(),
                limit: skerry_types::limits::MAX_PAGE,
            };
            let page: VolumePage = self.get(&["volumes"], &query).await?;
            all.extend(page.volumes);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    /// One, with what it takes on disk.
    pub async fn volume(&self, reference: &str) -> Result<Volume> {
        self.get(&["volumes", reference], &()).await
    }

    /// Removes one that no sandbox has.
    pub async fn remove_volume(&self, reference: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &["volumes", reference]);
        self.answer(request, Repeat::IfRefused).await
    }

    /// What a file in one holds.
    pub async fn read_volume_file(&self, reference: &str, path: &str) -> Result<Download> {
        let request = self.request(Method::GET, &["volumes", reference, "files"]);
        let response = self.send(request.query(&At::path(path)), Repeat::Safe);
        Ok(Download::new(response.await?))
    }

    /// Writes a file in one, with the directories on the way. `mode`: its permission bits.
    pub async fn write_volume_file(
        &self,
        reference: &str,
        path: &str,
        mode: Option<u32>,
        content: impl Into<Body>,
    ) -> Result<FileWritten> {
        let request = self.request(Method::PUT, &["volumes", reference, "files"]);
        let query = At {
            mode: mode.map(|mode| format!("{:o}", mode & 0o7777)),
            ..At::path(path)
        };
        let request = request
            .query(&query)
            .header("content-type", "application/octet-stream")
            .body(content.into());
        self.answer(request, Repeat::Safe).await
    }

    /// A page of a directory's entries, by path.
    pub async fn list_volume_files(
        &self,
        reference: &str,
        path: &str,
        cursor: Option<&str>,
    ) -> Result<FilePage> {
        let query = At {
            list: true,
            cursor,
            ..At::path(path)
        };
        self.get(&["volumes", reference, "files"], &query).await
    }

    /// What is at a path in one: a link itself, not its target.
    pub async fn stat_volume_file(&self, reference: &str, path: &str) -> Result<FileEntry> {
        let route = ["volumes", reference, "files", "stat"];
        self.get(&route, &At::path(path)).await
    }

    /// Makes a directory in one, with its parents.
    pub async fn make_volume_dir(&self, reference: &str, path: &str) -> Result<()> {
        let body = MakeVolumeDir {
            path: path.to_owned(),
        };
        let route = ["volumes", reference, "files", "mkdir"];
        self.post(&route, &body, Repeat::Safe).await
    }

    /// Removes a file in one, or a directory with all in it.
    pub async fn remove_volume_file(&self, reference: &str, path: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &["volumes", reference, "files"]);
        let request = request.query(&At::path(path));
        self.answer(request, Repeat::IfRefused).await
    }
}
