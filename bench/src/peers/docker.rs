//! Docker, with a daemon of its own that touches neither the machine's network nor its store.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::{CGROUP, HELLO, Peer, Places, line, need, prepare, with};

const IMAGE: &str = "skerry-bench:1";
const NAME: &str = "skerry-bench-docker";
const START: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// A Docker daemon that ends when this is dropped.
#[derive(Debug)]
pub(super) struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        let _asked = Command::new("kill").args(["-s", "TERM", &pid]).output();
        let began = Instant::now();
        while began.elapsed() < START && matches!(self.0.try_wait(), Ok(None)) {
            sleep(POLL);
        }
        let _killed = self.0.kill();
        let _gone = self.0.wait();
    }
}

pub(super) async fn set_up(places: Places<'_>) -> Result<Peer> {
    let (docker, dockerd) = (need("docker")?, need("dockerd")?);
    let scratch = places.scratch.display();
    let socket = format!("unix://{scratch}/docker.sock");
    let command = vec![docker, "--host".to_owned(), socket.clone()];
    let mut peer = Peer {
        exec: Some(with(&command, &["exec", NAME])),
        _daemon: Some(start(&dockerd, &socket, places)?),
        ..Peer::new("docker", 20)
    };
    wait_until_up(&command).await.with_context(|| {
        let log = std::fs::read_to_string(places.scratch.join("dockerd.log"));
        log.unwrap_or_default()
            .lines()
            .last()
            .unwrap_or_default()
            .to_owned()
    })?;
    let tar = format!("{}/rootfs.tar", places.cache.display());
    prepare(&with(&command, &["import", &tar, IMAGE])).await?;
    peer.undo.0.push(with(&command, &["rm", "--force", NAME]));
    let run = with(&command, &["run", "--network", "none"]);
    peer.run = Some(with(&run, &[&["--rm", IMAGE][..], &HELLO].concat()));
    prepare(&with(
        &run,
        &["--detach", "--name", NAME, IMAGE, "/bin/sleep", "100000"],
    ))
    .await?;
    Ok(peer)
}

fn start(dockerd: &str, socket: &str, places: Places<'_>) -> Result<Daemon> {
    let scratch = places.scratch.display();
    let log = File::create(places.scratch.join("dockerd.log"))?;
    // It must not outlive us, however we end.
    let command = line(&format!(
        "setpriv --pdeathsig KILL {dockerd} --data-root {scratch}/docker-root --exec-root {scratch}/docker -H {socket} -p {scratch}/docker.pid \
         --iptables=false --ip-masq=false --bridge=none --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent=/{CGROUP}"
    ));
    let child = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    Ok(Daemon(child))
}

async fn wait_until_up(command: &[String]) -> Result<()> {
    let began = Instant::now();
    loop {
        match prepare(&with(command, &["version"])).await {
            Ok(()) => return Ok(()),
            Err(error) if began.elapsed() > START => bail!("the daemon does not answer: {error:#}"),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
