//! A server with a client, dice whose throws can be repeated, and the proof that nothing is left.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use skerry_client::api::CreateSandbox;
use skerry_client::{Client, ListSandboxes, Sandbox};
use skerry_testkit::host::Traces;
use skerry_testkit::server::{Launch, Server};
use skerry_testkit::wait::until;

use crate::api::Api;

/// What a test waits for at most, on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// An ordinary user.
pub(crate) const NOBODY: u32 = 65534;

/// Whether the long runs are wanted.
pub(crate) fn is_long() -> bool {
    std::env::var("SKERRY_TEST_ALL").is_ok_and(|value| value == "1")
}

/// The number of rounds: the first usually, the second in a long run.
pub(crate) fn rounds(short: usize, long: usize) -> usize {
    if is_long() { long } else { short }
}

/// How the server under test is started.
pub(crate) fn launch() -> Launch {
    Launch::new(env!("CARGO_BIN_EXE_skerry"))
}

/// Dice; the seed is in the output of a test that fails.
pub(crate) fn dice() -> StdRng {
    let given = std::env::var("SKERRY_TEST_SEED").ok();
    let seed = given.map_or_else(rand::random, |seed| {
        seed.parse().expect("SKERRY_TEST_SEED is a number")
    });
    println!("SKERRY_TEST_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// See the module.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) client: Client,
    pub(crate) api: Api,
    before: Traces,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::launch(launch()).await
    }

    pub(crate) async fn launch(launch: Launch) -> Self {
        let server = launch.start().unwrap();
        let client = Client::new(server.url(), server.key()).unwrap();
        let api = Api::new(server.url(), server.key());
        let mut world = Self {
            server,
            client,
            api,
            before: Traces::default(),
        };
        // What the first sandbox of a server sets up for good; and traces of one can be seen, or the proof below proves nothing.
        let first = world.sandbox().await;
        let seen = world.server.traces().to_string();
        assert!(seen.contains(&first.id().label()), "{seen}");
        first.delete().await.unwrap();
        world.before = settled(&world.server);
        world
    }

    /// A sandbox that runs.
    pub(crate) async fn sandbox(&self) -> Sandbox {
        self.make(&CreateSandbox::default()).await
    }

    /// The same with wishes.
    pub(crate) async fn make(&self, wishes: &CreateSandbox) -> Sandbox {
        let made = self.client.create(wishes).await.unwrap();
        let sandbox = self.client.sandbox(made.sandbox_id);
        sandbox.wait_running(60).await.unwrap();
        sandbox
    }

    /// Whatever was kept.
    pub(crate) async fn remove_snapshots(&self) {
        for snapshot in self.client.snapshots().await.unwrap() {
            let id = snapshot.snapshot_id.to_string();
            self.client.remove_snapshot(&id).await.unwrap();
        }
    }

    /// Looks until there is something; a wait in vain is a failure.
    pub(crate) async fn eventually<T>(
        &self,
        what: &str,
        mut look: impl AsyncFnMut() -> Option<T>,
    ) -> T {
        let looking = async {
            let mut pause = Duration::from_millis(2);
            loop {
                if let Some(found) = look().await {
                    return found;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(100));
            }
        };
        let found = tokio::time::timeout(PATIENCE, looking).await;
        found.unwrap_or_else(|_| panic!("waited in vain until {what}"))
    }

    /// Deletes every sandbox and proves that nothing of them is left, then ends the server and proves that nothing at all is left.
    pub(crate) async fn end(self) {
        self.delete_all().await;
        let gone = until(PATIENCE, "nothing is left of the sandboxes", || {
            Ok(self
                .server
                .traces()
                .beyond(&self.before)
                .is_empty()
                .then_some(()))
        });
        assert!(
            gone.is_ok(),
            "left by sandboxes: {:#?}",
            self.server.traces().beyond(&self.before)
        );
        self.end_server().await;
    }

    pub(crate) async fn delete_all(&self) {
        for record in self
            .client
            .list_all(ListSandboxes::default())
            .await
            .unwrap()
        {
            self.client
                .sandbox(record.sandbox_id)
                .delete()
                .await
                .unwrap();
        }
    }

    /// Deletes every sandbox, ends the server and proves that nothing at all is left.
    pub(crate) async fn end_server(mut self) {
        self.delete_all().await;
        let status = self.server.end().unwrap();
        assert!(status.success(), "{status}");
        let gone = until(PATIENCE, "nothing is left of the server", || {
            Ok(self.server.traces().is_empty().then_some(()))
        });
        assert!(
            gone.is_ok(),
            "left by the server:\n{}",
            self.server.traces()
        );
    }
}

/// What there is once the server's own preparations, such as a stock of networks, are done.
fn settled(server: &Server) -> Traces {
    let mut last = Traces::default();
    let mut calm = 0;
    until(PATIENCE, "the server has prepared itself", || {
        let now = server.traces();
        calm = if now == last { calm + 1 } else { 0 };
        last = now;
        Ok((calm >= 8).then(|| last.clone()))
    })
    .unwrap()
}

/// A moment of up to `most`, in microseconds.
pub(crate) fn moment(dice: &mut StdRng, most: Duration) -> Duration {
    Duration::from_micros(dice.random_range(0..=most.as_micros() as u64))
}
