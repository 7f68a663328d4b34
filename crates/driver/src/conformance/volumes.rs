//! Volumes: folders that several sandboxes write to and that outlive them.

use std::path::PathBuf;

use bytes::Bytes;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use skerry_proto::agent::Ended;

use super::agent::{Agent, python, sh};
use super::failure::{Failure, Verdict, ensure, same};
use super::ground::{Ground, refused};
use super::memory::{copy_as, go_on, keep};
use super::{Check, checks};
use crate::{Capabilities, DriverError, Extent, Privilege, Spec, VolumeMount};

fn declared(capabilities: &Capabilities) -> bool {
    capabilities.volumes
}

pub(super) const CHECKS: &[Check] = checks! {
    "volumes: are refused where they are not declared", |c| !c.volumes => not_declared;
    "volumes: one writes and another reads, with the same owners", declared => shared;
    "volumes: forks and snapshots of files have the volume itself", |c| c.volumes && c.file_fork && c.file_snapshot => copies;
    "volumes: copies with memory have the volume itself, and its files open", |c| c.volumes && c.memory_snapshot => memory;
    "volumes: no path leads out of one, and none to it leads through a link", declared => walls;
    "volumes: a full one is an error inside, and its sandbox still writes", |c| c.volumes && c.disk_quota => full;
};

/// Where the checks have theirs.
const TARGET: &str = "/mnt/shared";

async fn not_declared(ground: Ground<'_>) -> Verdict {
    let spec = with_volume(&ground, PathBuf::from("/tmp"), TARGET);
    refused("a volume", ground.driver().create(&spec).await)
}

fn with_volume(ground: &Ground<'_>, source: PathBuf, target: &str) -> Spec {
    Spec {
        volumes: vec![VolumeMount {
            source,
            target: target.into(),
        }],
        ..ground.spec()
    }
}

fn volume(ground: &Ground<'_>) -> Verdict<PathBuf> {
    let made = ground.bed().volume();
    made.ok_or_else(|| Failure::new("volumes are declared, and the bed makes none"))
}

async fn shared(ground: Ground<'_>) -> Verdict {
    let source = volume(&ground)?;
    let one = with_volume(&ground, source.clone(), TARGET);
    let mut writer = ground.create(&one).await?;
    let mut write = sh("cd /mnt/shared && echo kept > file && ln -s file link");
    if ground.capabilities().users {
        "1000:1000".clone_into(&mut write.user);
    }
    same(
        "the write",
        writer.run(write).await?.end,
        Some(Ended::Code(0)),
    )?;
    ground.driver().destroy(one.id).await?;
    let other = with_volume(&ground, source, TARGET);
    let mut reader = ground.create(&other).await?;
    let seen = reader
        .sh("cat /mnt/shared/link && ls -p /mnt/shared")
        .await?;
    same("the files", seen, "kept\nfile\nlink\n")?;
    if ground.capabilities().users {
        let owner = reader.sh("stat -c %u:%g /mnt/shared/file").await?;
        same("the owner", owner, "1000:1000\n")?;
    }
    Ok(())
}

async fn copies(ground: Ground<'_>) -> Verdict {
    let source = volume(&ground)?;
    let parent = with_volume(&ground, source.clone(), TARGET);
    let mut agent = ground.create(&parent).await?;
    agent.sh("echo before > /mnt/shared/file").await?;
    let child = with_volume(&ground, source.clone(), TARGET);
    ground.driver().fork(parent.id, &child).await?;
    let mut child = ground.connect(child.id).await?;
    child.sh("echo child > /mnt/shared/file").await?;
    same(
        "the parent",
        agent.sh("cat /mnt/shared/file").await?,
        "child\n",
    )?;
    let id = ground.snapshot_id();
    ground
        .driver()
        .snapshot(parent.id, id, Extent::Files)
        .await?;
    agent.sh("echo after > /mnt/shared/file").await?;
    let late = with_volume(&ground, source, TARGET);
    ground.driver().restore(id, &late).await?;
    let mut late = ground.connect(late.id).await?;
    same(
        "the copy",
        late.sh("cat /mnt/shared/file").await?,
        "after\n",
    )?;
    let bare = ground.spec();
    ground.driver().restore(id, &bare).await?;
    let mut bare = ground.connect(bare.id).await?;
    same("without it", bare.sh("ls /mnt/shared").await?, "")
}

/// Holds a file open and adds each line of input to it.
const KEEPER: &str = "
import sys
file = open('/mnt/shared/log', 'a')
for line in sys.stdin:
    file.write(line)
    file.flush()
    print('kept', flush=True)
";

async fn memory(ground: Ground<'_>) -> Verdict {
    let source = volume(&ground)?;
    let parent = with_volume(&ground, source.clone(), TARGET);
    let mut agent = ground.create(&parent).await?;
    let mut keeper = python(KEEPER);
    keeper.stdin = true;
    let id = agent.start(keeper).await?;
    add(&mut agent, &id, b"parent\n").await?;
    let (snapshot, mut agent) = keep(&ground, parent.id, agent).await?;
    // A volume goes on while a copy is kept.
    agent.sh("echo between >> /mnt/shared/log").await?;
    let child = with_volume(&ground, source, TARGET);
    let mut child = copy_as(&ground, snapshot, &child).await?;
    go_on(&mut child, &id, agent.seen(&id)).await?;
    add(&mut child, &id, b"child\n").await?;
    let log = agent.sh("cat /mnt/shared/log").await?;
    same("the file of both", log, "parent\nbetween\nchild\n")
}

/// Gives the keeper a line, and waits until it has it.
async fn add(agent: &mut Agent, id: &Bytes, line: &[u8]) -> Verdict {
    let seen = agent.seen(id);
    agent.stdin(id, seen.stdin_taken, line, false).await?;
    agent
        .until_out(id, seen.stdout.len() + "kept\n".len())
        .await
}

async fn walls(ground: Ground<'_>) -> Verdict {
    let source = volume(&ground)?;
    let spec = Spec {
        privilege: *ground.levels().last().unwrap_or(&Privilege::Restricted),
        ..with_volume(&ground, source.clone(), TARGET)
    };
    let mut agent = ground.create(&spec).await?;
    let seen = agent.sh("ls -a /mnt/shared/..").await?;
    same("what is above it", seen, ".\n..\nshared\n")?;
    if ground.capabilities().users {
        agent
            .sh("cp /usr/bin/id /mnt/shared/id && chmod 4755 /mnt/shared/id")
            .await?;
        let mut asked = sh("/mnt/shared/id -u");
        "1000:1000".clone_into(&mut asked.user);
        let said = agent.run(asked).await?.out();
        same("who a set-uid program runs as", said, "1000\n")?;
    }
    // As the host's root would put it there.
    let (path, kind) = (source.join("null"), FileType::CharacterDevice);
    if mknodat(CWD, path, kind, Mode::all(), makedev(1, 3)).is_ok() {
        let opened = agent.run(sh("cat /mnt/shared/null")).await?.end;
        ensure!(
            opened != Some(Ended::Code(0)),
            "a device in a volume is one"
        );
    }
    agent.sh("ln -s /home /tmp/elsewhere").await?;
    for target in ["/tmp/elsewhere", "/tmp/elsewhere/below"] {
        let through = with_volume(&ground, source.clone(), target);
        let made = ground.driver().fork(spec.id, &through).await;
        ensure!(
            matches!(made, Err(DriverError::Unsupported(_))),
            "a volume through a link at {target}: {made:?}"
        );
    }
    let wrong = with_volume(&ground, source, "/proc/shared");
    let made = ground.driver().create(&wrong).await;
    ensure!(
        matches!(made, Err(DriverError::Unsupported(_))),
        "a volume over the system's folders: {made:?}"
    );
    Ok(())
}

async fn full(ground: Ground<'_>) -> Verdict {
    let spec = with_volume(&ground, volume(&ground)?, TARGET);
    let mut agent = ground.create(&spec).await?;
    let fill =
        "dd if=/dev/zero of=/mnt/shared/all bs=1M count=64 2>&1 | grep -c -i -e quota -e space";
    same("the error", agent.sh(fill).await?, "1\n")?;
    same(
        "its sandbox",
        agent.sh("echo well > /tmp/own; cat /tmp/own").await?,
        "well\n",
    )?;
    let held = agent.sh("stat -c %s /mnt/shared/all").await?;
    let held: u64 = held.trim().parse()?;
    ensure!(held <= super::VOLUME_BYTES, "it holds {held} bytes");
    agent.sh("rm /mnt/shared/all").await.map(drop)
}
