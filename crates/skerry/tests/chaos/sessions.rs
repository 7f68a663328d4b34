//! A script that takes too long, in a session.

use skerry_client::api::{OpenSession, RunInSession};
use skerry_types::{ExecEnd, ExecStatus};

use crate::world::World;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_script_that_takes_too_long_ends_whole_and_its_session_with_it() {
    let world = World::start().await;
    let sandbox = world.sandbox().await;
    let opened = sandbox.open_session(&OpenSession::default()).await.unwrap();
    let session = opened.session_id;
    let script = |cmd: &str, timeout_seconds| RunInSession {
        cmd: cmd.to_owned(),
        timeout_seconds,
        wait: None,
    };
    let fine = script("echo fine", None);
    let fine = sandbox.run_in_session(session, &fine).await.unwrap();
    assert_eq!(
        (fine.stdout.as_str(), fine.status),
        ("fine\n", ExecStatus::Done)
    );
    assert_eq!(
        fine.resource_usage.peak_memory_bytes, None,
        "nobody measured it"
    );
    let late = script("echo on; sleep 1000; echo after; touch /tmp/after", Some(1));
    let late = sandbox.run_in_session(session, &late).await.unwrap();
    assert_eq!(late.end, ExecEnd::TimedOut);
    assert_eq!((late.stdout.as_str(), late.stderr.as_str()), ("on\n", ""));
    world
        .eventually("the session is told to be over", async || {
            let known = sandbox.sessions().await.unwrap().sessions;
            (known[0].status == "destroyed").then_some(())
        })
        .await;
    sandbox.stat("/tmp/after").await.unwrap_err();
    world.end().await;
}
