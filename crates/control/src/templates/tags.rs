//! More names for what was built.

use skerry_store::Build;
use skerry_types::{Error, ErrorCode, Result};

use super::Reference;
use super::build::MAX_TAGS;
use crate::{Caller, Control};

impl Control {
    /// Lets these tags stand for the build that `name:tag` stands for.
    pub async fn tag_template(
        &self,
        caller: &Caller,
        target: &str,
        tags: &[String],
    ) -> Result<Build> {
        let Reference { name, tag } = Reference::of(target);
        let template = self.template(caller, name).await?;
        let all = Reference::of(target).with(tags)?;
        let is_new = |tag: &&String| !template.tags.iter().any(|known| known.tag == **tag);
        if template.tags.len() + all.iter().filter(is_new).count() > MAX_TAGS {
            let text = format!("a template has at most {MAX_TAGS} tags");
            return Err(Error::new(ErrorCode::QuotaExceeded, text));
        }
        let store = &self.0.store;
        let build = store.tagged(&caller.tenant, &template.template.name, tag);
        let build = build
            .await?
            .ok_or_else(|| Error::not_found(format!("template {name}:{tag}")))?;
        store
            .put_tags(&caller.tenant, &build, tags, self.now())
            .await?;
        Ok(build)
    }

    /// Takes tags away from a template; not found if it has none of them.
    pub async fn untag_template(&self, caller: &Caller, name: &str, tags: &[String]) -> Result<()> {
        let template = self.template(caller, name).await?.template;
        let store = &self.0.store;
        let removed = store.remove_tags(&caller.tenant, template.id, tags).await?;
        if removed == 0 {
            return Err(Error::not_found(format!(
                "tag of template {}",
                template.name
            )));
        }
        Ok(())
    }
}
