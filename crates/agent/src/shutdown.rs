//! The end of the sandbox: everybody is asked, then made, to go.

use std::pin::pin;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{sleep, timeout};

use crate::agent::Agent;
use crate::procs::{self, Family};

/// For the last messages to reach the node, and for the kernel to end what was killed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// TERM to all, KILL to who is left after `grace`.
pub(crate) async fn end_all(agent: &Agent, grace: Duration) {
    let mut everybody = Family::of(std::process::id());
    procs::signal(&everybody.followers(), Signal::TERM);
    // Either way the next step is the same.
    let _: Result<(), _> = timeout(grace, alone(agent, &mut everybody)).await;
    everybody.kill_followers();
    let _: Result<(), _> = timeout(LAST_WORDS, async {
        alone(agent, &mut everybody).await;
        while !agent.execs.all_ended() {
            sleep(Duration::from_millis(1)).await;
        }
        agent.outbox.flushed().await;
    })
    .await;
}

/// Until nobody but the agent lives.
async fn alone(agent: &Agent, everybody: &mut Family) {
    loop {
        let mut reaped = pin!(agent.reaper.reaped.notified());
        reaped.as_mut().enable();
        if everybody.followers().is_empty() {
            return;
        }
        reaped.await;
    }
}
