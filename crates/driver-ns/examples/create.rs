//! Creates and destroys sandboxes and prints where the time goes: `create [count] [--fork]`.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use skerry_driver::{Bind, Driver, NetworkMode, Privilege, Rootfs, Spec};
use skerry_driver_ns::{NsDriver, Options};
use skerry_proto::agent::{NodeHello, ToAgent, to_agent};
use skerry_proto::frame;
use skerry_storage::Storage;
use skerry_types::{Resources, SandboxId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Table = BTreeMap<String, Vec<Duration>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let count: usize = std::env::args().nth(1).map_or(Ok(200), |n| n.parse())?;
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
    let spawner = std::env::current_exe()?.with_file_name("../skerry-ns-spawner");
    let driver = NsDriver::new(Options {
        storage: Arc::new(Storage::open(&data, &skerry_storage::Options::default())?),
        data_dir: data,
        agent: skerry_agent_bin::AGENT,
        spawner_command: vec![spawner.into_os_string()],
        network: None,
        cgroup_parent: format!("skerry/example-{}", std::process::id()),
        first_id: Options::FIRST_ID,
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
    Ok(())
}

async fn one(
    driver: &NsDriver,
    image: &PathBuf,
) -> Result<Vec<(String, Duration)>, Box<dyn Error>> {
    let id = SandboxId::new();
    let spec = Spec {
        id,
        resources: Resources::FREE_FORM,
        rootfs: Rootfs {
            layers: vec![image.clone()],
            binds: vec![Bind {
                source: "/usr".into(),
                target: "/usr".into(),
            }],
        },
        privilege: Privilege::Restricted,
        network: NetworkMode::None,
        hostname: "example".to_owned(),
    };
    let began = Instant::now();
    let made = driver.create(&spec).await?;
    hello(driver, id).await?;
    let answered = began.elapsed();
    let began = Instant::now();
    driver.destroy(id).await?;
    let mut steps: Vec<_> = (made.steps.into_iter().enumerate())
        .map(|(number, step)| (format!("{number:02} {}", step.name), step.took))
        .collect();
    steps.push(("98 agent answered".to_owned(), answered));
    steps.push(("99 destroy".to_owned(), began.elapsed()));
    Ok(steps)
}

async fn hello(driver: &NsDriver, id: SandboxId) -> Result<(), Box<dyn Error>> {
    let mut link = driver.connect(id).await?;
    let mut out = BytesMut::new();
    let hello = to_agent::Body::Hello(NodeHello { generation: 1 });
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
        let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)].as_secs_f64() * 1e3;
        println!("{name:40} {:8.3} {:8.3}", at(50), at(95));
    }
}
