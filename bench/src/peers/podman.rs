//! Podman, with a store of its own.

use anyhow::Result;

use super::{CGROUP, HELLO, Peer, Places, line, need, prepare, with};

const IMAGE: &str = "localhost/skerry-bench:1";
const NAME: &str = "skerry-bench-podman";

pub(super) async fn set_up(places: Places<'_>) -> Result<Peer> {
    let podman = need("podman")?;
    let (cache, scratch) = (places.cache.display(), places.scratch.display());
    // Machines without the capability to raise limits need to be told to lower them.
    let command = line(&format!(
        "{podman} --root {scratch}/podman-root --runroot {scratch}/podman --tmpdir {scratch}/podman-tmp --runtime runc --cgroup-manager cgroupfs"
    ));
    let run = with(
        &command,
        &line(&format!(
            "run --network none --cgroup-parent /{CGROUP} --ulimit nofile=1024:1024 --ulimit nproc=4096:4096"
        ))
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>(),
    );
    let tar = format!("{cache}/rootfs.tar");
    prepare(&with(&command, &["import", &tar, IMAGE])).await?;
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
