//! Stateful shells.

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use skerry_proto::frame::CHUNK_BYTES;
use skerry_proto::node::{OpenSession, SessionEvent, SessionRecord, Sessions};
use skerry_types::{Error, Result, SandboxId, SessionId};

use super::events::JournalCursor;
use super::execs::of_exec;
use crate::actor::Command;
use crate::node::Node;

#[async_trait]
impl Sessions for Node {
    async fn open_session(
        &self,
        sandbox: SandboxId,
        request: OpenSession,
    ) -> Result<SessionRecord> {
        self.handle(sandbox)?
            .ask_soon(|reply| Command::OpenSession(request, reply))
            .await
    }

    async fn list_sessions(&self, sandbox: SandboxId) -> Result<Vec<SessionRecord>> {
        Ok(self.record(sandbox).await?.history.read().sessions.clone())
    }

    async fn close_session(&self, sandbox: SandboxId, session: SessionId) -> Result<SessionRecord> {
        self.handle(sandbox)?
            .ask(|reply| Command::CloseSession(session, reply))
            .await
    }

    async fn session_events(
        &self,
        sandbox: SandboxId,
        session: SessionId,
        after_seq: u64,
    ) -> Result<BoxStream<'static, Result<SessionEvent>>> {
        let shared = self.record(sandbox).await?;
        if shared.history.read().session(session).is_none() {
            return Err(Error::not_found(format!("session {session}")));
        }
        let is_over = {
            let shared = std::sync::Arc::clone(&shared);
            move || {
                shared
                    .history
                    .read()
                    .session(session)
                    .is_none_or(|s| !s.open)
            }
        };
        let is_mine = {
            let shared = std::sync::Arc::clone(&shared);
            move |exec| {
                let history = shared.history.read();
                history
                    .exec(exec)
                    .is_some_and(|e| e.session == Some(session))
            }
        };
        let cursor = JournalCursor::new(&shared, 0, true, Box::new(is_over));
        let numbered = stream::unfold((cursor, VecDeque::new(), 0u64), move |state| {
            let is_mine = is_mine.clone();
            async move {
                let (mut cursor, mut ready, mut seq) = state;
                loop {
                    if let Some(event) = ready.pop_front() {
                        return Some((Ok(event), (cursor, ready, seq)));
                    }
                    let batch = match cursor.next_batch().await {
                        Ok(batch) => batch?,
                        Err(error) => return Some((Err(error), (cursor, ready, seq))),
                    };
                    for (exec, event) in batch.into_iter().filter_map(of_exec) {
                        if is_mine(exec) {
                            seq += 1;
                            ready.push_back(SessionEvent { seq, exec, event });
                        }
                    }
                }
            }
        });
        let fresh = numbered.filter(move |item| {
            let keep = item.as_ref().map_or(true, |e| e.seq > after_seq);
            futures::future::ready(keep)
        });
        Ok(fresh.boxed())
    }

    async fn session_input(
        &self,
        sandbox: SandboxId,
        session: SessionId,
        mut data: Bytes,
    ) -> Result<()> {
        let handle = self.handle(sandbox)?;
        while !data.is_empty() {
            let chunk = data.split_to(data.len().min(CHUNK_BYTES));
            handle
                .ask(|reply| Command::SessionInput(session, chunk, reply))
                .await?;
        }
        Ok(())
    }
}
