//! Memory that does not fit on the disk: a snapshot, a fork or a pause to disk fails clearly and leaves nothing, and the sandbox counts on as if nobody
//! had asked.

use serde_json::{Value, json};
use skerry_client::{ListSandboxes, Sandbox, shell};
use skerry_testkit::server::Launch;
use skerry_types::{ErrorCode, ExecEnd};

use crate::api::{Answer, Call};
use crate::copies::{counts_on, start_counter, with_memory, with_tools};
use crate::output::Transcript;
use crate::world::{World, launch, rounds};

/// Takes more memory than there is room for, until it is told to end.
const HOARD: &str =
    "hoard = bytearray(b'x') * (700 << 20); print('full', flush=True); open(0).read()";

/// With a data folder of its own, which nobody else sees. A virtual machine has most of what a long run has more of.
fn small() -> Launch {
    let size = rounds(768, 1100);
    let script =
        format!("mount -t tmpfs -o size={size}m,mode=700 none \"$SKERRY_DATA_DIR\" && exec \"$@\"");
    launch().wrapper(["unshare", "-m", "sh", "-c", &script, "sh"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn memory_that_does_not_fit_is_not_kept_and_the_sandbox_counts_on() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can make a disk of its own");
        return;
    }
    let world = World::launch(with_tools(small())).await;
    for sandbox in with_memory(&world).await {
        // The writes of a counter behind another kernel find the same disk full.
        let isolation = sandbox.get().await.unwrap().facts.unwrap().isolation;
        start_counter(&sandbox).await;
        let mut hoard = shell(format!("exec python3 -c \"{HOARD}\""));
        hoard.stdin = true;
        let hoard = sandbox.start(&hoard).await.unwrap().exec_id;
        assert!(sandbox.follow(hoard, 0).next().await.unwrap().is_some());
        let before = world.server.traces();
        for what in ["snapshots", "fork", "pause"] {
            let answer = ask(&world, &sandbox, what).await;
            if what == "pause" && answer.is_success() {
                // One that is only frozen takes no room.
                assert_eq!(isolation, "namespace");
                sandbox.resume().await.unwrap();
            } else {
                let error = answer.text("error");
                assert_eq!(error, ErrorCode::DiskFull.as_str(), "{what}: {answer:?}");
            }
            if isolation == "namespace" {
                counts_on(&sandbox).await;
            }
            assert_eq!(sandbox.exec(hoard).await.unwrap().end, None);
        }
        assert_eq!(world.client.snapshots().await.unwrap(), []);
        forget_copies(&world, &sandbox).await;
        let left = world.server.traces();
        assert_eq!(left.beyond(&before), Vec::<&str>::new());
        sandbox.stdin(hoard, Vec::new().into(), true).await.unwrap();
        let hoarded = Transcript::read(&sandbox, hoard).await;
        assert_eq!(hoarded.exit.unwrap().end, ExecEnd::Exited { code: 0 });
        // A machine keeps what a program in it gave back.
        let smaller: &[&str] = match isolation.as_str() {
            "vm" => &[],
            _ => &["snapshots", "fork"],
        };
        for what in smaller {
            let made = async || ask(&world, &sandbox, what).await.is_success().then_some(());
            world.eventually("there is room again", made).await;
        }
        forget_copies(&world, &sandbox).await;
        sandbox.delete().await.unwrap();
    }
    world.end().await;
}

/// Asks without any help.
async fn ask(world: &World, sandbox: &Sandbox, what: &str) -> Answer {
    let body = match what {
        "pause" => Value::Null,
        _ => json!({ "memory": "required" }),
    };
    let path = format!("sandboxes/{}/{what}", sandbox.id());
    let answer = world.api.call(&Call::post(path, body)).await.unwrap();
    println!("{what}: {answer:?}");
    answer
}

/// Removes what was made of it, or failed to be.
async fn forget_copies(world: &World, original: &Sandbox) {
    let all = world.client.list_all(ListSandboxes::default()).await;
    for record in all.unwrap() {
        if record.forked_from == Some(original.id()) {
            let copy = world.client.sandbox(record.sandbox_id);
            copy.delete().await.unwrap();
        }
    }
    world.remove_snapshots().await;
}
