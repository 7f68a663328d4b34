//! `base`: a Debian root file system built on this machine from its own package sources.
//!
//! A tool makes the tree and writes it as an archive, which is unpacked like any other.

mod recipe;
mod tool;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use skerry_sys::idmap::Ids;

use crate::error::Result;
use crate::host;
use crate::image::{Image, Kind};
use crate::job::Job;
use crate::progress::{Phase, Progress};
use crate::reference::BASE;
use crate::store::Images;

use recipe::{Recipe, TOOL};
use tool::Tool;

/// Packages come over the network, perhaps a slow one.
const TIMEOUT: Duration = Duration::from_mins(30);

/// Why the Debian root file system could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// The tool that builds it is not installed.
    #[error("`{tool}` is not installed")]
    NoTool {
        /// The tool, which is the name of its package too.
        tool: &'static str,
    },
    /// An ordinary user has no ids to give to the system it would build, nor the tools to do without.
    #[error("an ordinary user needs a range of ids, or the programs fakechroot and fakeroot")]
    NoIds,
    /// This is no Debian or a relative of it.
    #[error("this machine does not say which Debian release it is")]
    NoRelease,
    /// The machine's package sources name nothing of its own release.
    #[error("the package sources of this machine have nothing for `{release}`")]
    NoSources {
        /// The code name of the release.
        release: String,
    },
    /// The tool could not be started.
    #[error("cannot start `{tool}`")]
    Start {
        /// The tool.
        tool: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The tool gave up.
    #[error("`{tool}` failed: {log}")]
    Failed {
        /// The tool.
        tool: &'static str,
        /// The end of what it said.
        log: String,
    },
    /// The tool did not finish.
    #[error("`{tool}` did not finish within {} minutes", TIMEOUT.as_secs() / 60)]
    TimedOut {
        /// The tool.
        tool: &'static str,
    },
}

impl BaseError {
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NoTool { tool } => Some(format!("`apt-get install {tool}`, or use another image")),
            Self::NoIds => Some(
                "`apt-get install fakechroot fakeroot`; or `apt-get install uidmap` and a line for this user \
                 in /etc/subuid and /etc/subgid"
                    .to_owned(),
            ),
            Self::NoRelease | Self::NoSources { .. } => {
                Some("use `host`, or pull an image from a registry".to_owned())
            }
            Self::Failed { .. } | Self::TimedOut { .. } => {
                Some("`apt-get update` shows whether the package sources can be reached".to_owned())
            }
            Self::Start { .. } => None,
        }
    }
}

impl Images {
    /// Builds `base`, unless it has been built from the same packages and sources before.
    ///
    /// Takes half a minute and a network; dropping the future kills the tool and leaves nothing.
    pub async fn build_base(&self, progress: Progress) -> Result<Arc<Image>> {
        let inner = &self.inner;
        let _turn = inner.turns.take(BASE).await;
        let recipe = Recipe::of_this_machine(inner.ids != Ids::One)?;
        if let Ok(image) = self.resolve(BASE)
            && image.digest == recipe.digest()
        {
            return Ok(image);
        }
        progress.report(Phase::Building, 0, 0, "building the Debian base");
        let tool = Tool::start(&recipe, inner, progress.clone())?;
        let (tree, layer) = tokio::time::timeout(TIMEOUT, tool.unpack(inner.clone()))
            .await
            .map_err(|_| BaseError::TimedOut { tool: TOOL })??;
        let job = Job::new(inner.clone(), BASE, vec![layer.clone()], 0, progress)?;
        inner.folders.keep(tree, &layer)?;
        let config = host::config(inner.ids);
        job.enter(BASE.to_owned(), recipe.digest(), Kind::Base, config)
            .await
    }
}
