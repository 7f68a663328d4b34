//! Sandboxes frozen to disk.

use reqwest::Method;
use skerry_api::{RollBack, Sandbox as Record, Snapshot, SnapshotPage, TakeSnapshot};

use crate::client::Client;
use crate::error::Result;
use crate::retry::Repeat;
use crate::sandbox::{PageQuery, Sandbox};

impl Client {
    /// Every snapshot, newest first.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>> {
        all(self, &["snapshots"]).await
    }

    /// One, by id or name.
    pub async fn snapshot(&self, reference: &str) -> Result<Snapshot> {
        self.get(&["snapshots", reference], &()).await
    }

    /// Removes one, by id or name. What was made from it lives on.
    pub async fn remove_snapshot(&self, reference: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &["snapshots", reference]);
        self.answer(request, Repeat::IfRefused).await
    }
}

impl Sandbox {
    /// Takes a snapshot of it. It runs on.
    pub async fn take_snapshot(&self, request: &TakeSnapshot) -> Result<Snapshot> {
        let route = self.below(&["snapshots"]);
        self.client().post_once(&route, request).await
    }

    /// Its snapshots, newest first.
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>> {
        all(self.client(), &self.below(&["snapshots"])).await
    }

    /// Puts it back to one of its own snapshots.
    pub async fn roll_back(&self, snapshot: &str) -> Result<Record> {
        let request = RollBack {
            snapshot: snapshot.to_owned(),
        };
        let route = self.below(&["rollback"]);
        self.client()
            .post(&route, &request, Repeat::IfRefused)
            .await
    }
}

async fn all(client: &Client, route: &[&str]) -> Result<Vec<Snapshot>> {
    let mut all = Vec::new();
    let mut cursor = None;
    loop {
        let query = PageQuery {
            cursor: cursor.as_deref(),
            limit: skerry_types::limits::MAX_PAGE,
        };
        let page: SnapshotPage = client.get(route, &query).await?;
        all.extend(page.snapshots);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(all);
        }
    }
}
