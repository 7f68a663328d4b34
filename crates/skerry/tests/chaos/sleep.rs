//! Sandboxes that sleep: nothing they have in memory or on disk changes, whatever happens to the server, and they wake up when they are used.

use std::time::Duration;

use futures::future::join_all;
use rand::Rng;
use skerry_client::api::{CreateSandbox, OnTimeout, SetTimeout};
use skerry_client::{Sandbox, argv, shell};
use skerry_types::{ExecEnd, ExecId, SandboxState};

use crate::copies::{ok, with_tools};
use crate::world::{World, dice, launch, rounds};

/// Writes what it is told, by a seed, into memory and a file, and says what both are worth.
const HOARDER: &str = "\
import hashlib, random, sys
memory = bytearray(4 << 20)
disk = open('/tmp/disk', 'w+b')
disk.write(memory)
for line in sys.stdin:
    word, seed = line.split()
    if word == 'write':
        dice = random.Random(int(seed))
        for _ in range(50):
            at, data = dice.randrange(len(memory) - 5000), dice.randbytes(5000)
            memory[at:at+5000] = data
            disk.seek(at)
            disk.write(data)
        disk.flush()
    disk.seek(0)
    worth = [hashlib.sha256(all).hexdigest() for all in (memory, disk.read())]
    assert worth[0] == worth[1]
    print(worth[0], flush=True)
";

async fn drivers(world: &World) -> Vec<Sandbox> {
    let mut found = Vec::new();
    for driver in ["ns", "gvisor"] {
        let wishes = CreateSandbox {
            driver: Some(driver.to_owned()),
            image: Some("host".to_owned()),
            auto_resume: true,
            ..CreateSandbox::default()
        };
        match world.client.create(&wishes).await {
            Ok(made) => found.push(world.client.sandbox(made.sandbox_id)),
            Err(error) => println!("skipped: {error}"),
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_and_disk_are_the_same_after_any_number_of_pauses() {
    let (world, mut dice) = (World::launch(with_tools(launch())).await, dice());
    for sandbox in drivers(&world).await {
        let mut program = argv(["python3", "-c", HOARDER]);
        program.stdin = true;
        let exec = sandbox.start(&program).await.unwrap().exec_id;
        let mut heard = sandbox.follow(exec, 0);
        let mut ask = async |word: &str, seed: u64| {
            let line = format!("{word} {seed}\n");
            sandbox.stdin(exec, line.into(), false).await.unwrap();
            let said = heard.next().await.unwrap().expect("it lives");
            said.data.unwrap()
        };
        let mut last = String::new();
        for _ in 0..rounds(10, 200) {
            let worth = ask("write", dice.random_range(0..u64::MAX / 2)).await;
            assert_ne!(worth, last, "it wrote nothing");
            sandbox.pause().await.unwrap();
            if dice.random() {
                // Otherwise the next word wakes it.
                sandbox.resume().await.unwrap();
            }
            last = ask("tell", 0).await;
            assert_eq!(last, worth);
        }
        sandbox.stdin(exec, Vec::new().into(), true).await.unwrap();
        assert_eq!(ended(&sandbox, exec).await, ExecEnd::Exited { code: 0 });
    }
    world.end().await;
}

async fn ended(sandbox: &Sandbox, exec: ExecId) -> ExecEnd {
    let mut events = sandbox.follow(exec, 0);
    while events.next().await.unwrap().is_some() {}
    sandbox.exec(exec).await.unwrap().end.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_idle_one_sleeps_through_a_kill_of_the_server_and_wakes_up_once() {
    let mut world = World::launch(with_tools(launch())).await;
    for sandbox in drivers(&world).await {
        let other = world.sandbox().await;
        // A terminal that is left open is no work.
        let count = "i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.01; done";
        ok(
            &sandbox,
            &format!("setsid sh -c '{count}' </dev/null >/dev/null 2>&1 & true"),
        )
        .await;
        let times = SetTimeout {
            idle_seconds: Some(1),
            on_idle: Some(OnTimeout::Pause),
            ..SetTimeout::default()
        };
        sandbox.set_timeout(&times).await.unwrap();
        world
            .eventually("it sleeps", async || {
                let record = sandbox.get().await.unwrap();
                (record.status == SandboxState::Paused).then_some(())
            })
            .await;
        world.server.kill().unwrap();
        world.server.start().unwrap();
        assert_eq!(sandbox.get().await.unwrap().status, SandboxState::Paused);
        ok(&other, "true").await;
        assert_eq!(sandbox.get().await.unwrap().status, SandboxState::Paused);
        let never = SetTimeout {
            idle_seconds: Some(0),
            ..SetTimeout::default()
        };
        sandbox.set_timeout(&never).await.unwrap();
        let said = join_all((0..10).map(|_| ok(&sandbox, "cat /tmp/n"))).await;
        let first: u64 = said[0].trim().parse().unwrap();
        tokio::time::timeout(
            Duration::from_mins(1),
            ok(
                &sandbox,
                &format!("until [ $(cat /tmp/n || echo 0) -gt {first} ]; do sleep 0.01; done"),
            ),
        )
        .await
        .expect("it goes on");
        let events = sandbox.events(None).await.unwrap().events;
        let resumed = events
            .iter()
            .filter(|event| event.kind == "sandbox.resumed");
        assert_eq!(resumed.count(), 1);

        let stays = SetTimeout {
            auto_resume: Some(false),
            ..SetTimeout::default()
        };
        sandbox.set_timeout(&stays).await.unwrap();
        sandbox.pause().await.unwrap();
        let refused = sandbox.run(&shell("true")).await.unwrap_err();
        assert!(refused.to_string().contains("paused"), "{refused}");
        other.delete().await.unwrap();
    }
    world.end().await;
}
