//! Templates and their builds.

use reqwest::{Body, Method};
use skerry_api::{Build, BuildList, BuildLogLine, StartBuild, Template, TemplatePage, Upload};
use skerry_types::BuildId;

use crate::client::Client;
use crate::error::Result;
use crate::follow::Follow;
use crate::retry::Repeat;

impl Client {
    /// Every template, newest first.
    pub async fn templates(&self) -> Result<Vec<Template>> {
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let query = [("cursor", cursor.take())];
            let page: TemplatePage = self.get(&["templates"], &query).await?;
            all.extend(page.templates);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }

    /// One, by id or name.
    pub async fn template(&self, reference: &str) -> Result<Template> {
        self.get(&["templates", reference], &()).await
    }

    /// Removes one with all its tags, by id or name.
    pub async fn remove_template(&self, reference: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &["templates", reference]);
        self.answer(request, Repeat::IfRefused).await
    }

    /// Begins to build one, `name` or `name:tag`.
    pub async fn start_build(&self, reference: &str, request: &StartBuild) -> Result<Build> {
        self.post_once(&["templates", reference, "builds"], request)
            .await
    }

    /// Its latest builds, newest first.
    pub async fn builds(&self, reference: &str) -> Result<Vec<Build>> {
        let list: BuildList = self.get(&["templates", reference, "builds"], &()).await?;
        Ok(list.builds)
    }

    /// One build.
    pub async fn build(&self, reference: &str, id: BuildId) -> Result<Build> {
        let id = id.to_string();
        self.get(&["templates", reference, "builds", &id], &())
            .await
    }

    /// Calls a build off; answers when it has ended.
    pub async fn cancel_build(&self, reference: &str, id: BuildId) -> Result<Build> {
        let id = id.to_string();
        let route = ["templates", reference, "builds", &id, "cancel"];
        self.tell(&route, Repeat::Safe).await
    }

    /// The lines of a build's log after the one with this number, to its end.
    pub fn follow_build(&self, reference: &str, id: BuildId, after: u64) -> Follow<BuildLogLine> {
        let id = id.to_string();
        let url = self.route(&["templates", reference, "builds", &id, "logs"]);
        Follow::new(self.clone(), url, after, |line| line.level == "end")
    }

    /// Whether an archive is there under the SHA-256 of its bytes.
    pub async fn has_upload(&self, hash: &str) -> Result<bool> {
        let upload: Upload = self.get(&["uploads", hash], &()).await?;
        Ok(upload.present)
    }

    /// Uploads an archive that builds copy from.
    pub async fn upload(&self, hash: &str, archive: impl Into<Body>) -> Result<()> {
        let request = self.request(Method::PUT, &["uploads", hash]);
        self.answer(request.body(archive), Repeat::IfRefused).await
    }
}
