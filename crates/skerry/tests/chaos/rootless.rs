//! The same promises to an ordinary user.

use skerry_testkit::host;
use skerry_testkit::wait::until;
use skerry_types::{ExecEnd, SandboxState};

use crate::output::{Transcript, chatter, chatter_output, start};
use crate::world::{NOBODY, PATIENCE, World, launch};

const LENGTH: usize = 500;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_ordinary_user_loses_nothing_to_a_killed_daemon() {
    if !rustix::process::geteuid().is_root() {
        // Then every other test of this suite is this one.
        return;
    }
    let mut world = World::launch(launch().uid(NOBODY)).await;
    let sandbox = world.sandbox().await;
    let exec = start(&sandbox, chatter(LENGTH)).await;
    let follower = {
        let sandbox = sandbox.clone();
        tokio::spawn(async move { Transcript::read(&sandbox, exec).await })
    };
    world.server.kill().unwrap();
    world.server.start().unwrap();
    let heard = follower.await.unwrap();
    heard.assert_is(&chatter_output(LENGTH));
    assert_eq!(heard.exit.unwrap().end, ExecEnd::Exited { code: 7 });

    let agent = world.server.agent(&sandbox.id().label()).unwrap();
    host::signal(agent, "KILL");
    until(PATIENCE, "the agent is gone", || {
        Ok((!host::is_alive(agent)).then_some(()))
    })
    .unwrap();
    assert_eq!(
        sandbox.wait_ended(60).await.unwrap().status,
        SandboxState::Failed
    );
    world.end().await;
}
