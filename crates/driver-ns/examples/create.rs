//! Creates, forks and destroys sandboxes and prints where the time goes: `create [count]`, after `cargo build --release --bins`.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use skerry_driver::{Bind, Driver, NetworkMode, Privilege, Rootfs, Spec, Step};
use skerry_driver_ns::memory::Tool;
use skerry_driver_ns::{NsDriver, Options};
use skerry_proto::agent::{GENERATION, NodeHello, ToAgent, to_agent};
use skerry_proto::frame;
use skerry_storage::Storage;
use skerry_sys::cgroup::Cgroups;
use skerry_sys::mount;
use skerry_types::{Resources, SandboxId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Table = BTreeMap<String, Vec<Duration>>;

fn main() -> Result<(), Box<dyn Error>> {
    let count: usize = std::env::args().nth(1).map_or(Ok(200), |n| n.parse())?;
    if rustix::process::geteuid().is_root() {
        // Before any other thread: the pool shows in here only.
        mount::own_namespace()?;
    }
    tokio::runtime::Runtime::new()?.block_on(measure(count))
}

async fn measure(count: usize) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let image = folder.path().join("image");
    for name in ["usr", "tmp", "etc", "proc", "sys", "dev"] {
        std::fs::create_dir_all(image.join(name))?;
    }
    for name in ["bin", "lib", "lib64", "sbin"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), image.join(name))?;
    }
    let data = folder.path().join("data");
    std::fs::create_dir(&data)?;
    let cgroup_parent = format!("skerry/example-{}", std::process::id());
    let spawner = std::env::current_exe()?.with_file_name("../skerry-ns-helper");
    let driver = NsDriver::new(Options {
        storage: Arc::new(Storage::open(&data, &skerry_storage::Options::default())?),
        data_dir: data,
        agent: skerry_agent_bin::AGENT,
        spawner_command: vec![spawner.into_os_string()],
        criu: Tool::find().await.ok(),
        network: None,
        cgroup_parent: cgroup_parent.clone(),
        first_id: Options::FIRST_ID,
        why_one_id: None,
    })
    .await?;
    println!("{:#?}", driver.capabilities());
    let mut table = Table::new();
    for round in 0..count + 5 {
        let steps = one(&driver, &image).await?;
        if round >= 5 {
            for (name, took) in steps {
                table.entry(name).or_default().push(took);
            }
        }
    }
    print(table);
    if let Ok(groups) = Cgroups::open(&cgroup_parent) {
        groups.close()?;
    }
    Ok(())
}

async fn one(driver: &NsDriver, image: &Path) -> Result<Vec<(String, Duration)>, Box<dyn Error>> {
    let (spec, child, prepared) = (spec(image), spec(image), spec(image));
    driver.prepare(prepared.id, prepared.network).await?;
    let began = Instant::now();
    let made_of_prepared = driver.create(&prepared).await?;
    hello(driver, prepared.id).await?;
    let of_prepared = began.elapsed();
    driver.destroy(prepared.id).await?;
    let began = Instant::now();
    let made = driver.create(&spec).await?;
    hello(driver, spec.id).await?;
    let created = began.elapsed();
    let began = Instant::now();
    driver.fork(spec.id, &child).await?;
    hello(driver, child.id).await?;
    let forked = began.elapsed();
    driver.destroy(child.id).await?;
    let began = Instant::now();
    driver.destroy(spec.id).await?;
    let named = |prefix: &'static str, steps: Vec<Step>| {
        let numbered = steps.into_iter().enumerate();
        numbered
            .map(move |(number, step)| (format!("{prefix}{number:02} {}", step.name), step.took))
    };
    let mut steps: Vec<_> = named("", made.steps)
        .chain(named("prepared: ", made_of_prepared.steps))
        .collect();
    steps.push((
        "96 create of prepared to agent's answer".to_owned(),
        of_prepared,
    ));
    steps.push(("97 create to agent's answer".to_owned(), created));
    steps.push(("98 fork to agent's answer".to_owned(), forked));
    steps.push(("99 destroy".to_owned(), began.elapsed()));
    Ok(steps)
}

fn spec(image: &Path) -> Spec {
    Spec {
        id: SandboxId::new(),
        resources: Resources::FREE_FORM,
        rootfs: Rootfs {
            layers: vec![image.to_owned()],
            binds: vec![Bind {
                source: "/usr".into(),
                target: "/usr".into(),
            }],
        },
        privilege: Privilege::Restricted,
        network: NetworkMode::None,
        hostname: "example".to_owned(),
        volumes: Vec::new(),
    }
}

async fn hello(driver: &NsDriver, id: SandboxId) -> Result<(), Box<dyn Error>> {
    let mut link = driver.connect(id).await?;
    let mut out = BytesMut::new();
    let hello = to_agent::Body::Hello(NodeHello {
        generation: GENERATION,
    });
    frame::encode(&ToAgent { body: Some(hello) }, &mut out);
    link.write_all(&out).await?;
    let mut answer = [0; 4];
    link.read_exact(&mut answer).await?;
    Ok(())
}

fn print(table: Table) {
    println!("{:40} {:>8} {:>8}", "ms", "p50", "p95");
    for (name, mut took) in table {
        took.sort_unstable();
        let at =
            |share: usize| took[(took.len() * share / 100).min(took.len() - 1)].as_secs_f64() * 1e3;
        println!("{name:40} {:8.3} {:8.3}", at(50), at(95));
    }
}
