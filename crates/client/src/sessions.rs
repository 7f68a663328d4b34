//! Stateful shells in a sandbox.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use skerry_api::{Exec, ExecResult, OpenSession, RunInSession, Session, SessionInput, SessionList};
use skerry_types::SessionId;

use crate::error::Result;
use crate::retry::Repeat;
use crate::sandbox::Sandbox;

impl Sandbox {
    /// Opens a session.
    pub async fn open_session(&self, request: &OpenSession) -> Result<Session> {
        let route = self.below(&["sessions"]);
        self.client().post_once(&route, request).await
    }

    /// Its sessions, the ended ones too.
    pub async fn sessions(&self) -> Result<SessionList> {
        self.client().get(&self.below(&["sessions"]), &()).await
    }

    /// Ends a session.
    pub async fn close_session(&self, session: SessionId) -> Result<Session> {
        let id = session.to_string();
        self.client().delete(&self.below(&["sessions", &id])).await
    }

    /// Runs a script in a session and waits for its end, at most 300 s.
    pub async fn run_in_session(
        &self,
        session: SessionId,
        request: &RunInSession,
    ) -> Result<ExecResult> {
        let id = session.to_string();
        let route = self.below(&["sessions", &id, "exec"]);
        let request = RunInSession {
            wait: Some(true),
            ..request.clone()
        };
        let client = self.client();
        client.post(&route, &request, Repeat::IfRefused).await
    }

    /// Starts a script in a session.
    pub async fn start_in_session(
        &self,
        session: SessionId,
        request: &RunInSession,
    ) -> Result<Exec> {
        let id = session.to_string();
        let route = self.below(&["sessions", &id, "exec"]);
        let request = RunInSession {
            wait: Some(false),
            ..request.clone()
        };
        let client = self.client();
        client.post(&route, &request, Repeat::IfRefused).await
    }

    /// Gives input to what runs in a session. Never sent twice.
    pub async fn session_input(&self, session: SessionId, data: &[u8]) -> Result<()> {
        let id = session.to_string();
        let route = self.below(&["sessions", &id, "input"]);
        let input = SessionInput {
            data: None,
            data_base64: Some(STANDARD.encode(data)),
        };
        self.client().post(&route, &input, Repeat::IfRefused).await
    }
}
