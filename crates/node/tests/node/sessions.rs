//! Stateful shells.

use bytes::Bytes;
use futures::StreamExt;
use skerry_proto::node::{Execs, Map, OpenSession, Sessions, StartExec};
use skerry_types::limits::MAX_SESSIONS;
use skerry_types::{ErrorCode, ExecEnd, SessionId};

use crate::bed::{Bed, Island, sh};

fn open() -> OpenSession {
    OpenSession {
        id: SessionId::new(),
        shell: None,
        env: Map::new(),
        cwd: Some("/".to_owned()),
        user: None,
    }
}

fn within(session: SessionId, script: &str) -> StartExec {
    StartExec {
        session: Some(session),
        ..sh(script)
    }
}

async fn is_open(island: &Island, session: SessionId) -> bool {
    let all = island.node.list_sessions(island.id).await.unwrap();
    all.iter().any(|s| s.id == session && s.open)
}

#[tokio::test(start_paused = true)]
async fn a_session_keeps_its_state_and_runs_one_command_at_a_time() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let session = island
        .node
        .open_session(island.id, open())
        .await
        .unwrap()
        .id;
    let exec = island.start(within(session, "cd /tmp; NAME=skerry")).await;
    assert_eq!(island.finish(exec).await.end, ExecEnd::Exited { code: 0 });
    let exec = island
        .start(StartExec {
            stdin: true,
            ..within(session, "pwd; echo $NAME; cat")
        })
        .await;
    let busy = island
        .node
        .start_exec(island.id, within(session, "true"))
        .await;
    assert_eq!(busy.unwrap_err().code, ErrorCode::Conflict);
    let typed = Bytes::from_static(b"typed");
    island
        .node
        .session_input(island.id, session, typed)
        .await
        .unwrap();
    island.stdin(exec, b"", true).await;
    assert_eq!(island.finish(exec).await.stdout, b"/tmp\nskerry\ntyped");
    let exec = island.start(within(session, "exit 5")).await;
    assert_eq!(island.finish(exec).await.end, ExecEnd::Exited { code: 5 });
    let events = island
        .node
        .session_events(island.id, session, 0)
        .await
        .unwrap();
    let events: Vec<_> = events.map(Result::unwrap).collect().await;
    assert!(!is_open(&island, session).await, "it left, so it is over");
    let numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn there_is_a_limit_and_wrong_sessions_are_refused() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let wrong = OpenSession {
        shell: Some("/bin/nothing".to_owned()),
        ..open()
    };
    let refused = island
        .node
        .open_session(island.id, wrong)
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::ValidationError);
    let mut sessions = Vec::new();
    for _ in 0..MAX_SESSIONS {
        sessions.push(
            island
                .node
                .open_session(island.id, open())
                .await
                .unwrap()
                .id,
        );
    }
    let one_more = island
        .node
        .open_session(island.id, open())
        .await
        .unwrap_err();
    assert_eq!(one_more.code, ErrorCode::Conflict);
    let running = island.start(within(sessions[0], "sleep 1000")).await;
    for _ in 0..2 {
        let closed = island
            .node
            .close_session(island.id, sessions[0])
            .await
            .unwrap();
        assert!(!closed.open);
    }
    assert_eq!(
        island.finish(running).await.end,
        ExecEnd::Signaled { signal: 9 }
    );
    island.node.open_session(island.id, open()).await.unwrap();
    let unknown = island.node.close_session(island.id, SessionId::new()).await;
    assert_eq!(unknown.unwrap_err().code, ErrorCode::NotFound);
    let gone = island
        .node
        .start_exec(island.id, within(sessions[0], "true"))
        .await;
    assert_eq!(gone.unwrap_err().code, ErrorCode::Conflict);
}
