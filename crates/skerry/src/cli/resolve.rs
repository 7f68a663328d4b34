//! Which sandbox, exec or session is meant: an id in any spelling, a name, or the first letters of an id.

use skerry_api::{Exec, Sandbox as Record};
use skerry_client::{ListSandboxes, Sandbox};
use skerry_types::{ExecId, SandboxId, SandboxState};

use super::Context;
use super::failure::Failure;

/// Fewer letters of an id than this mean too many sandboxes by chance.
const FEWEST_LETTERS: usize = 4;

impl Context {
    /// The sandbox that is meant. An id is taken as it is, without asking the server.
    pub(crate) async fn sandbox(&self, text: &str) -> anyhow::Result<Sandbox> {
        if let Ok(id) = text.parse() {
            return Ok(self.client.sandbox(id));
        }
        let all = SandboxState::ALL.map(SandboxState::as_str).join(",");
        let named = ListSandboxes {
            name: Some(text.to_owned()),
            status: Some(all),
            ..ListSandboxes::default()
        };
        let mut found = the_one(text, &self.client.list_all(named).await?)?;
        if found.is_none() && text.len() >= FEWEST_LETTERS {
            let mut all = self.client.list_all(ListSandboxes::default()).await?;
            all.retain(|sandbox| begins(sandbox.sandbox_id, text));
            found = the_one(text, &all)?;
        }
        let id = found.ok_or_else(|| {
            Failure::not_found(format!("there is no sandbox `{text}`"))
                .hint("`skerry ls --all` shows which there are")
        })?;
        Ok(self.client.sandbox(id))
    }

    /// The exec that is meant: an id, its first letters, or its number in the sandbox.
    pub(crate) async fn exec(&self, sandbox: &Sandbox, text: &str) -> anyhow::Result<ExecId> {
        if let Ok(id) = text.parse() {
            return Ok(id);
        }
        let execs = self.execs(sandbox).await?;
        let number = text.parse::<u64>().ok();
        let is_meant = |exec: &&Exec| {
            Some(exec.number) == number
                || (text.len() >= FEWEST_LETTERS && exec.exec_id.to_string().starts_with(text))
        };
        let mut meant = execs.iter().filter(is_meant);
        match (meant.next(), meant.next()) {
            (Some(exec), None) => Ok(exec.exec_id),
            (Some(_), Some(_)) => {
                Err(Failure::usage(format!("`{text}` means several execs")).into())
            }
            (None, _) => Err(Failure::not_found(format!("there is no exec `{text}`"))
                .hint(format!(
                    "`skerry execs {}` shows which there are",
                    sandbox.id()
                ))
                .into()),
        }
    }

    /// All execs of a sandbox.
    pub(crate) async fn execs(&self, sandbox: &Sandbox) -> anyhow::Result<Vec<Exec>> {
        let mut all = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let page = sandbox.execs(cursor.as_deref()).await?;
            all.extend(page.execs);
            cursor = page.next_cursor;
            if cursor.is_none() {
                return Ok(all);
            }
        }
    }
}

/// The only one, or the only one that has not ended, or the only one that is not deleted.
fn the_one(text: &str, found: &[Record]) -> Result<Option<SandboxId>, Failure> {
    let lives: [fn(SandboxState) -> bool; 3] =
        [|s| !s.is_ended(), |s| s != SandboxState::Deleted, |_| true];
    let mut meant = lives.iter().map(|counts| {
        let ids = found.iter().filter(|s| counts(s.status));
        ids.map(|s| s.sandbox_id).collect::<Vec<_>>()
    });
    match meant.find(|ids| !ids.is_empty()).as_deref() {
        None => Ok(None),
        Some([id]) => Ok(Some(*id)),
        Some(ids) => {
            let ids: Vec<String> = ids.iter().map(SandboxId::to_string).collect();
            Err(Failure::usage(format!("`{text}` means several sandboxes"))
                .hint(format!("use one of the ids: {}", ids.join(", "))))
        }
    }
}

fn begins(id: SandboxId, text: &str) -> bool {
    let wire = id.to_string();
    let letters = text.strip_prefix("sb_").unwrap_or(text);
    letters.len() >= FEWEST_LETTERS
        && (wire.starts_with(text)
            || wire["sb_".len()..].starts_with(letters)
            || id.label().starts_with(text))
}
