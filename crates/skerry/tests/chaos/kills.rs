//! The daemon, the spawner or a sandbox's first process killed with SIGKILL in the middle of everything: no answer is a lie, before or after,
//! and nothing is left.

use std::time::Duration;

use rand::rngs::StdRng;
use serde_json::json;
use skerry_client::{Sandbox, shell};
use skerry_testkit::host;
use skerry_testkit::wait::until;
use skerry_types::{ExecEnd, ExecId};

use crate::api::{Answer, Call};
use crate::output::{Transcript, seq};
use crate::world::{PATIENCE, World, dice, moment, rounds};

/// Counts until it may end.
const TICKER: &str = "i=0; until [ -e /tmp/end ]; do i=$((i+1)); echo $i; sleep 0.01; done; exit 5";
/// Leaves a mark each time it runs.
const MARKED: &str = "echo ran >> /tmp/ran; seq 1 5000; exit 3";
/// A server that was restarted does not know what became of a request under way; whoever repeats it must hear so, or wait.
const REPEAT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Daemon,
    Spawner,
    Agent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Create,
    Exec,
    Fork,
    Stop,
    Delete,
}

impl Phase {
    const ALL: [Self; 5] = [
        Self::Create,
        Self::Exec,
        Self::Fork,
        Self::Stop,
        Self::Delete,
    ];

    /// A little longer than it takes in a debug build.
    fn span(self) -> Duration {
        Duration::from_millis(match self {
            Self::Create | Self::Fork => 60,
            Self::Exec => 12,
            Self::Stop | Self::Delete => 40,
        })
    }

    fn call(self, subject: &Sandbox, name: &str) -> Call {
        let path = format!("sandboxes/{}", subject.id());
        match self {
            Self::Create => Call::post("sandboxes", json!({ "metadata": { "round": name } })),
            Self::Exec => Call::post(
                format!("{path}/exec"),
                json!({ "cmd": MARKED, "wait": false }),
            ),
            Self::Fork => Call::post(
                format!("{path}/fork"),
                json!({ "metadata": { "round": name } }),
            ),
            Self::Stop => Call::post(format!("{path}/stop"), json!({})),
            Self::Delete => Call::delete(path),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_daemon_may_be_killed_in_any_phase() {
    all_phases(Victim::Daemon, rounds(2, 40)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_spawner_may_be_killed_in_any_phase() {
    all_phases(Victim::Spawner, rounds(3, 60)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sandbox_may_lose_its_first_process_in_any_phase() {
    all_phases(Victim::Agent, rounds(3, 60)).await;
}

async fn all_phases(victim: Victim, rounds: usize) {
    let (mut world, mut dice) = (World::start().await, dice());
    for round in 0..rounds {
        for phase in Phase::ALL {
            println!("{victim:?} {phase:?} {round}");
            Round::begin(&world, phase, victim)
                .await
                .play(&mut world, &mut dice)
                .await;
        }
    }
    world.end().await;
}

/// One thing done to a sandbox while something is killed.
struct Round {
    phase: Phase,
    victim: Victim,
    /// A sandbox in which a command runs.
    subject: Sandbox,
    ticker: ExecId,
    /// What that command was heard to say before.
    heard: Transcript,
    /// A note on the sandbox that is made, if one is.
    name: String,
    call: Call,
}

impl Round {
    async fn begin(world: &World, phase: Phase, victim: Victim) -> Self {
        let subject = world.sandbox().await;
        let ticker = subject.start(&shell(TICKER)).await.unwrap().exec_id;
        let mut heard = Transcript::default();
        let mut events = subject.follow(ticker, 0);
        while heard.last_seq < 5 {
            heard.take(events.next().await.unwrap().unwrap());
        }
        let name = format!("chaos-{:x}", rand::random::<u64>());
        let call = phase.call(&subject, &name);
        Self {
            phase,
            victim,
            subject,
            ticker,
            heard,
            name,
            call,
        }
    }

    async fn play(self, world: &mut World, dice: &mut StdRng) {
        let api = world.api.clone();
        let call = self.call.clone();
        let under_way = tokio::spawn(async move { api.call(&call).await });
        tokio::time::sleep(moment(dice, self.phase.span())).await;
        let hit = self.strike(world);
        let answer = under_way.await.unwrap();
        if self.victim == Victim::Daemon {
            world.server.start().unwrap();
        }
        println!(
            "  {:?}",
            answer
                .as_ref()
                .map(|a| (a.status, a.text("status"), a.text("error")))
        );
        let struck = self.victim == Victim::Agent && hit;
        match self.phase {
            Phase::Create | Phase::Fork => self.check_made(world, answer, struck).await,
            Phase::Exec => self.check_exec(world, answer, struck).await,
            Phase::Stop => self.check_ended(world, answer, &["stopped"], struck).await,
            Phase::Delete => self.check_ended(world, answer, &["deleted"], struck).await,
        }
        self.check_ticker(world).await;
        for record in self.made(world).await {
            world
                .client
                .sandbox(record.0.parse().unwrap())
                .delete()
                .await
                .unwrap();
        }
        self.subject.delete().await.unwrap();
    }

    /// Kills the victim; `false` if there was none at that moment.
    fn strike(&self, world: &mut World) -> bool {
        if self.victim == Victim::Daemon {
            world.server.kill().unwrap();
            return true;
        }
        let pid = match self.victim {
            Victim::Spawner => world.server.spawner(),
            _ if matches!(self.phase, Phase::Create | Phase::Fork) => self.newborn(world),
            _ => world.server.agent(&self.subject.id().label()),
        };
        let Some(pid) = pid else { return false };
        host::signal(pid, "KILL");
        until(PATIENCE, "the victim is gone", || {
            Ok((!host::is_alive(pid)).then_some(()))
        })
        .unwrap();
        true
    }

    /// The first process of the sandbox that is being made.
    fn newborn(&self, world: &World) -> Option<u32> {
        let labels = std::fs::read_dir(world.server.records()).unwrap();
        let labels = labels.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        labels
            .filter(|label| *label != self.subject.id().label())
            .find_map(|label| world.server.agent(&label))
    }

    /// Sandboxes with the note of this round that are not deleted: their ids and states, once they have come to rest.
    async fn made(&self, world: &World) -> Vec<(String, String)> {
        let path = format!("sandboxes?metadata=round%3D{}", self.name);
        let found = world.api.get(&path).await;
        assert_eq!(found.status, 200, "{found:?}");
        let mut made = Vec::new();
        for record in found.body["sandboxes"].as_array().unwrap() {
            let id = record["sandbox_id"].as_str().unwrap().to_owned();
            let state = at_rest(world, &id).await;
            made.push((id, state));
        }
        made
    }

    /// A create or a fork.
    async fn check_made(&self, world: &World, answer: Option<Answer>, struck: bool) {
        let mut told = answer;
        if told.is_none() {
            told = world.api.call_within(REPEAT, &self.call).await;
        }
        let made = self.made(world).await;
        if struck {
            for (id, _) in &made {
                no_longer_runs(world, id).await;
            }
        }
        let made = if struck { self.made(world).await } else { made };
        let running: Vec<_> = made
            .iter()
            .filter(|(_, state)| state == "running")
            .collect();
        assert!(running.len() <= 1, "made twice: {made:?}");
        if let Some(told) = told.filter(Answer::is_success) {
            let id = told.text("sandbox_id");
            let (_, state) = made
                .iter()
                .find(|(made, _)| made == id)
                .unwrap_or_else(|| panic!("{id} was told and is gone"));
            assert!(
                struck || state == "running" || told.text("status") == "failed",
                "told {told:?}, found {state}"
            );
            let again = world.api.call(&self.call).await.unwrap();
            assert_eq!(
                again.text("sandbox_id"),
                id,
                "the same key made another one"
            );
        } else {
            assert!(
                running.is_empty() || told_nothing(world, &self.call).await,
                "refused, and made: {made:?}"
            );
        }
        for (id, state) in &made {
            check_truth(world, id, state).await;
        }
        check_truth(world, &self.subject.id().to_string(), "running").await;
    }

    async fn check_exec(&self, world: &World, answer: Option<Answer>, struck: bool) {
        let mut told = answer;
        if told.is_none() {
            told = world.api.call_within(REPEAT, &self.call).await;
        }
        if struck {
            no_longer_runs(world, &self.subject.id().to_string()).await;
        }
        let mut whole_runs = 0;
        for exec in self.subject.execs(None).await.unwrap().execs {
            if exec.exec_id == self.ticker {
                continue;
            }
            let transcript = Transcript::read(&self.subject, exec.exec_id).await;
            whole_runs += usize::from(self.judge_marked(&transcript, struck));
        }
        if let Some(told) = told.filter(Answer::is_success) {
            let known = self
                .subject
                .exec(told.text("exec_id").parse().unwrap())
                .await
                .unwrap();
            assert!(known.end.is_some(), "{known:?}");
        }
        if !struck {
            let ran = self
                .subject
                .run(&shell("cat /tmp/ran 2>/dev/null | wc -l"))
                .await
                .unwrap();
            let ran: usize = ran.stdout.trim().parse().unwrap();
            assert_eq!(
                ran, whole_runs,
                "it ran {ran} times, and {whole_runs} runs are on record"
            );
            assert!(ran <= 1, "it ran twice under one key");
        }
    }

    /// Whether it ran to its end, by its one end and its output.
    fn judge_marked(&self, transcript: &Transcript, struck: bool) -> bool {
        let expected = seq(1..=5000);
        let exit = transcript.exit.as_ref().expect("it has an end");
        match &exit.end {
            ExecEnd::Exited { code: 3 } => {
                assert!(transcript.stdout == expected, "not what it wrote");
                true
            }
            ExecEnd::SandboxStopped if struck => {
                assert!(expected.starts_with(&transcript.stdout));
                false
            }
            ExecEnd::FailedToStart { .. } if self.victim == Victim::Daemon => {
                assert!(transcript.stdout.is_empty(), "it wrote, and did not start");
                false
            }
            end => panic!("{end:?} after {:?} was killed", self.victim),
        }
    }

    /// A stop or a delete.
    async fn check_ended(
        &self,
        world: &World,
        answer: Option<Answer>,
        wanted: &[&str],
        struck: bool,
    ) {
        let id = self.subject.id().to_string();
        if answer.as_ref().is_some_and(Answer::is_success) || struck {
            no_longer_runs(world, &id).await;
        }
        let state = at_rest(world, &id).await;
        let promised = answer.is_some_and(|answer| answer.is_success());
        let fine = wanted.contains(&state.as_str())
            || (!promised && state == "running")
            // It went before the request could have its way.
            || (struck && self.phase == Phase::Stop && state == "failed")
            || (struck && !promised);
        assert!(fine, "promised: {promised}, found {state}");
        check_truth(world, &id, &state).await;
    }

    /// The command that ran all the while: what it said before is still there, and it has the one end that is true.
    async fn check_ticker(&self, world: &World) {
        let state = at_rest(world, &self.subject.id().to_string()).await;
        if state == "running" {
            self.subject.run(&shell("touch /tmp/end")).await.unwrap();
        }
        let whole = Transcript::read(&self.subject, self.ticker).await;
        whole.assert_continues(&self.heard);
        let lines: Vec<usize> = String::from_utf8_lossy(&whole.stdout)
            .lines()
            .map(|line| line.parse().unwrap())
            .collect();
        assert!(lines.iter().copied().eq(1..=lines.len()), "{lines:?}");
        let end = &whole.exit.as_ref().expect("it has an end").end;
        let fine = match state.as_str() {
            "running" => *end == ExecEnd::Exited { code: 5 },
            "deleted" => matches!(end, ExecEnd::SandboxDeleted | ExecEnd::SandboxStopped),
            _ => *end == ExecEnd::SandboxStopped,
        };
        assert!(
            fine,
            "the sandbox is {state}, and its command ended {end:?}"
        );
    }
}

/// A repeated request under the same key is not told anything that would be untrue: it waits, or is refused.
async fn told_nothing(world: &World, call: &Call) -> bool {
    let again = world.api.call_within(REPEAT, call).await;
    again.is_none_or(|answer| answer.status == 409)
}

/// Its state once nothing is under way any more.
pub(crate) async fn at_rest(world: &World, id: &str) -> String {
    world
        .eventually("the sandbox comes to rest", async || {
            let found = world.api.get(&format!("sandboxes/{id}")).await;
            if found.status == 404 {
                return Some("deleted".to_owned());
            }
            assert_eq!(found.status, 200, "{found:?}");
            let state = found.text("status").to_owned();
            (!["queued", "provisioning", "stopping"].contains(&state.as_str())).then_some(state)
        })
        .await
}

async fn no_longer_runs(world: &World, id: &str) {
    world
        .eventually("the sandbox is known to be gone", async || {
            (at_rest(world, id).await != "running").then_some(())
        })
        .await;
}

/// What is said of a sandbox is what is found in it; if it is just dying, what is said changes.
async fn check_truth(world: &World, id: &str, state: &str) {
    let call = Call::post(
        format!("sandboxes/{id}/exec"),
        json!({ "cmd": "echo alive" }),
    );
    let answer = world.api.call(&call).await.unwrap();
    let is_alive = answer.text("stdout") == "alive\n" && answer.body["exit_code"] == 0;
    let is_refused = answer.status == 409 && answer.text("error") == "sandbox_not_running";
    let is_true = if state == "running" {
        is_alive
    } else {
        is_refused
    };
    if !is_true {
        let now = at_rest(world, id).await;
        assert!(
            now != state && !is_alive,
            "{id} is said to be {state}, but: {answer:?}"
        );
    }
}
