//! Prints what each step of the store costs here, as medians. Run it as root: `cargo run --release -p skerry-storage --example measure FOLDER`.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a tool for developers"
)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use skerry_storage::{Options, Storage};
use skerry_types::SandboxId;

const LIMIT: u64 = 8 << 30;
const ROUNDS: usize = 50;
const OWNER: (u32, u32) = (0, 0);

fn main() {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap());
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let open = || Storage::open(&folder, &Options::default()).unwrap();
    time("open, first time", || drop(open()));
    time("open", || drop(open()));
    let storage = open();
    println!("{:?}", storage.facts().unwrap());
    few_files(&storage);
    many_files(&storage);
    unwritten(&storage);
    for id in storage.list().unwrap() {
        storage.destroy(id).unwrap();
    }
}

fn few_files(storage: &Storage) {
    let ids: Vec<_> = (0..ROUNDS).map(|_| SandboxId::new()).collect();
    median(
        "create",
        ids.iter()
            .map(|id| storage.create(*id, LIMIT, OWNER).unwrap()),
    );
    let children: Vec<_> = ids.iter().map(|id| (*id, SandboxId::new())).collect();
    let fork =
        |(id, child): &(SandboxId, SandboxId)| storage.fork(*id, *child, LIMIT, OWNER).unwrap();
    median("fork, empty", children.iter().map(fork));
    median(
        "destroy",
        ids.iter().map(|id| storage.destroy(*id).unwrap()),
    );
}

fn many_files(storage: &Storage) {
    let (id, upper) = volume(storage);
    for n in 0..50_000 {
        let folder = upper.join((n / 100).to_string());
        if n % 100 == 0 {
            fs::create_dir(&folder).unwrap();
        }
        fs::write(folder.join(n.to_string()), "a file of a few bytes").unwrap();
    }
    time("fork, 50 000 files just written", || fork(storage, id));
    time("settle", || storage.settle(id).unwrap());
    median("fork, 50 000 files", (0..ROUNDS).map(|_| fork(storage, id)));
}

fn unwritten(storage: &Storage) {
    for settle in [false, true] {
        let (id, upper) = volume(storage);
        time("write 1 GiB", || write_gib(&upper));
        if settle {
            time("settle", || storage.settle(id).unwrap());
        }
        time("fork, 1 GiB just written", || fork(storage, id));
        median("fork, 1 GiB", (0..ROUNDS).map(|_| fork(storage, id)));
    }
}

fn write_gib(upper: &Path) {
    let chunk: Vec<u8> = (0..1_u32 << 20)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let mut file = fs::File::create(upper.join("large")).unwrap();
    for _ in 0..1024 {
        file.write_all(&chunk).unwrap();
    }
}

fn volume(storage: &Storage) -> (SandboxId, PathBuf) {
    let id = SandboxId::new();
    (id, storage.create(id, LIMIT, OWNER).unwrap().upper())
}

fn fork(storage: &Storage, parent: SandboxId) {
    storage
        .fork(parent, SandboxId::new(), LIMIT, OWNER)
        .unwrap();
}

fn time(name: &str, step: impl FnOnce()) {
    median(name, std::iter::once_with(step));
}

/// Each item that `steps` makes is one round.
fn median<T>(name: &str, mut steps: impl Iterator<Item = T>) {
    let mut times = Vec::new();
    loop {
        let start = Instant::now();
        if steps.next().is_none() {
            break;
        }
        times.push(start.elapsed());
    }
    times.sort();
    let (low, mid, high) = (times[0], times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{name:34} p50 {mid:9.3?}   {low:9.3?} to {high:9.3?}   n={}",
        times.len()
    );
}
