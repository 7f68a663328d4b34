//! Podman, with a store of its own.

use std::path::Path;

use anyhow::Result;

use super::{CGROUP, HELLO, Peer, Places, line, need, prepare, with};

const IMAGE: &str = "localhost/skerry-bench:1";
const NAME: &str = "skerry-bench-podman";

/// Podman with a store in this folder.
pub(crate) fn command(scratch: &Path) -> Result<Vec<String>> {
    let (podman, scratch) = (need("podman")?, scratch.display());
    Ok(line(&format!(
        "{podman} --root {scratch}/podman-root --runroot {scratch}/podman --tmpdir {scratch}/podman-tmp --runtime runc --cgroup-manager cgroupfs"
    )))
}

/// The beginning of a command that runs something in a new container, of which only image and program are to be said.
pub(crate) fn run(command: &[String]) -> Vec<String> {
    // Machines without the capability to raise limits need to be told to lower them.
    let limits = "--ulimit nofile=1024:1024 --ulimit nproc=4096:4096";
    let run = line(&format!(
        "run --network none --cgroup-parent /{CGROUP} {limits}"
    ));
    [command, &run].concat()
}

/// Puts the root file system into its store. Returns the image's name.
pub(crate) async fn import(command: &[String], cache: &Path) -> Result<&'static str> {
    let tar = format!("{}/rootfs.tar", cache.display());
    prepare(&with(command, &["import", &tar, IMAGE])).await?;
    Ok(IMAGE)
}

pub(super) async fn set_up(places: Places<'_>) -> Result<Peer> {
    let command = command(places.scratch)?;
    let run = run(&command);
    import(&command, places.cache).await?;
    let mut peer = Peer {
        run: Some(with(&run, &[&["--rm", IMAGE][..], &HELLO].concat())),
        exec: Some(with(&command, &["exec", NAME])),
        ..Peer::new("podman", 20)
    };
    peer.undo
        .0
        .push(with(&command, &["rm", "--force", "--time", "0", NAME]));
    prepare(&with(
        &run,
        &["--detach", "--name", NAME, IMAGE, "/bin/sleep", "100000"],
    ))
    .await?;
    Ok(peer)
}
