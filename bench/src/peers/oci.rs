//! crun and runc: a bundle is a folder with a root file system and a `config.json`.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::{Value, json};

use super::{CGROUP, HELLO, Peer, Places, line, need, prepare, with};
use crate::process::output;

/// crun does not start beside an empty second hierarchy of control groups, so it is shown none, in a mount namespace of its own.
const HIDE_UNIFIED: &str = "if [ -d /sys/fs/cgroup/unified ]; then mount -t tmpfs none /sys/fs/cgroup/unified; fi; exec \"$@\"";

pub(super) async fn set_up(name: &str, places: Places<'_>) -> Result<Peer> {
    let program = need(name)?;
    let command = if name == "crun" {
        let wrapper = line("unshare -m --propagation private sh -c");
        with(&wrapper, &[HIDE_UNIFIED, "sh", &program])
    } else {
        vec![program.clone()]
    };
    let command = with(
        &command,
        &["--root", &format!("{}/{name}", places.scratch.display())],
    );
    let hello = bundle(&program, places, &format!("{name}-run"), &HELLO).await?;
    let idle = bundle(
        &program,
        places,
        &format!("{name}-idle"),
        &["/bin/sleep", "100000"],
    )
    .await?;
    let id = format!("skerry-bench-{name}");
    let mut peer = Peer {
        run: Some(with(
            &command,
            &[
                "run",
                "--bundle",
                &hello.display().to_string(),
                &format!("{id}-run"),
            ],
        )),
        exec: Some(with(&command, &["exec", &id])),
        ..Peer::new(name, 100)
    };
    peer.undo
        .0
        .push(with(&command, &["delete", "--force", &id]));
    let idle = idle.display().to_string();
    let detach = with(&command, &["run", "--detach", "--bundle", &idle, &id]);
    // Detached it keeps its streams open, so that no pipe may be given to it.
    let quiet = with(&line("sh -c"), &["exec \"$@\" >/dev/null 2>&1", "sh"]);
    prepare(&[quiet, detach].concat()).await?;
    Ok(peer)
}

/// Makes a bundle whose one process is this.
async fn bundle(program: &str, places: Places<'_>, name: &str, argv: &[&str]) -> Result<PathBuf> {
    let folder = places.scratch.join(name);
    fs::create_dir(&folder)?;
    let spec = with(
        &line("sh -c"),
        &["cd \"$1\" && \"$2\" spec && cat config.json", "sh"],
    );
    let spec = with(&spec, &[&folder.display().to_string(), program]);
    let mut config: Value = serde_json::from_str(&output(&spec).await?)?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(argv);
    config["root"] = json!({ "path": places.rootfs, "readonly": true });
    config["linux"]["cgroupsPath"] = json!(format!("/{CGROUP}/{name}"));
    fs::write(folder.join("config.json"), config.to_string())?;
    Ok(folder)
}
