//! Files in a sandbox. Paths are absolute.

use bytes::Bytes;
use reqwest::{Body, Method, Response};
use serde::Serialize;
use skerry_api::{FileEntry, FilePage, FileWritten, MakeDir, MoveFile, WatchEvent};

use crate::error::Result;
use crate::retry::Repeat;
use crate::sandbox::Sandbox;
use crate::send::broken;
use crate::sse::Stream;

/// Bytes on their way here.
#[derive(Debug)]
pub struct Download {
    response: Response,
}

impl Download {
    pub(crate) fn new(response: Response) -> Self {
        Self { response }
    }

    /// Bytes of the file when it was opened, where it has a size. It may have changed since.
    pub fn size(&self) -> Option<u64> {
        let value = self.response.headers().get("x-file-size")?;
        value.to_str().ok()?.parse().ok()
    }

    /// The next bytes; `None` at the end. An error when they are not all that there are.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        self.response.chunk().await.map_err(broken)
    }

    /// All of them, in memory.
    pub async fn bytes(self) -> Result<Bytes> {
        self.response.bytes().await.map_err(broken)
    }
}

#[derive(Default, Serialize)]
struct Query<'a> {
    path: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    batch: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    list: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    exclude: String,
}

impl Sandbox {
    /// A file's content.
    pub async fn read_file(&self, path: &str) -> Result<Download> {
        self.download(&Query {
            path,
            ..Query::default()
        })
        .await
    }

    /// A tree as a tar archive, with names relative to `path`, without what a pattern of `exclude` means. No pattern can have a comma in it.
    pub async fn read_tar(&self, path: &str, exclude: &[String]) -> Result<Download> {
        self.download(&Query {
            path,
            batch: true,
            exclude: exclude.join(","),
            ..Query::default()
        })
        .await
    }

    async fn download(&self, query: &Query<'_>) -> Result<Download> {
        let request = self.client().request(Method::GET, &self.below(&["files"]));
        let response = self.client().send(request.query(query), Repeat::Safe);
        Ok(Download::new(response.await?))
    }

    /// Writes a file, which appears whole or not at all. `mode`: its permission bits.
    pub async fn write_file(
        &self,
        path: &str,
        mode: Option<u32>,
        content: impl Into<Body>,
    ) -> Result<FileWritten> {
        let query = Query {
            path,
            mode: mode.map(|mode| format!("{:o}", mode & 0o7777)),
            ..Query::default()
        };
        self.upload(&query, content.into()).await
    }

    /// Unpacks a tar archive below `path`.
    pub async fn write_tar(&self, path: &str, archive: impl Into<Body>) -> Result<FileWritten> {
        let query = Query {
            path,
            batch: true,
            ..Query::default()
        };
        self.upload(&query, archive.into()).await
    }

    async fn upload(&self, query: &Query<'_>, content: Body) -> Result<FileWritten> {
        let request = self.client().request(Method::PUT, &self.below(&["files"]));
        let request = request
            .query(query)
            .header("content-type", "application/octet-stream")
            .body(content);
        self.client().answer(request, Repeat::Safe).await
    }

    /// What is at a path: a link itself, not its target.
    pub async fn stat(&self, path: &str) -> Result<FileEntry> {
        let query = Query {
            path,
            ..Query::default()
        };
        self.client()
            .get(&self.below(&["files", "stat"]), &query)
            .await
    }

    /// A page of a directory's entries, by path.
    pub async fn list_files(&self, path: &str, cursor: Option<&str>) -> Result<FilePage> {
        let query = Query {
            path,
            list: true,
            cursor,
            ..Query::default()
        };
        self.client().get(&self.below(&["files"]), &query).await
    }

    /// Makes a directory with its parents.
    pub async fn make_dir(&self, path: &str) -> Result<()> {
        let body = MakeDir {
            path: path.to_owned(),
            user: None,
        };
        let route = self.below(&["files", "mkdir"]);
        self.client().post(&route, &body, Repeat::Safe).await
    }

    /// Renames a file or directory.
    pub async fn move_file(&self, from: &str, to: &str) -> Result<()> {
        let body = MoveFile {
            from: from.to_owned(),
            to: to.to_owned(),
        };
        let route = self.below(&["files", "move"]);
        self.client().post(&route, &body, Repeat::IfRefused).await
    }

    /// Removes a file, or a directory with all in it.
    pub async fn remove_file(&self, path: &str) -> Result<()> {
        let query = Query {
            path,
            ..Query::default()
        };
        let request = self
            .client()
            .request(Method::DELETE, &self.below(&["files"]));
        let client = self.client();
        client
            .answer(request.query(&query), Repeat::IfRefused)
            .await
    }

    /// Changes below a directory, from now on. Changes while a connection is broken are not seen.
    pub async fn watch(&self, path: &str) -> Result<Stream<WatchEvent>> {
        let query = Query {
            path,
            ..Query::default()
        };
        let route = self.below(&["files", "watch"]);
        let request = self.client().request(Method::GET, &route).query(&query);
        let response = self.client().send(request, Repeat::Safe).await?;
        Ok(Stream::new(response))
    }
}
