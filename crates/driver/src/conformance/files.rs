//! Files through the agent.

use bytes::Bytes;
use skerry_proto::agent::{
    Call, Entry, List, MakeDir, Move, Read, Remove, Reply, Stat, TarIn, TarOut, Write,
};

use super::agent::Agent;
use super::failure::{Failure, Verdict, ensure, same};
use super::ground::Ground;
use super::{Check, always, checks};

const NOT_FOUND: i32 = 2;
/// Kinds of entry.
const FILE: u32 = 1;
const DIRECTORY: u32 = 2;

pub(super) const CHECKS: &[Check] = checks! {
    "files: any bytes are read as they were written, also in parts", always => round_trip;
    "files: what is not there says so", always => missing;
    "files: a write that is given up changes nothing", always => given_up;
    "files: directories are made with their parents, and listed by name in pages", always => listing;
    "files: moved, and removed with all in it", always => move_and_remove;
    "files: a tree goes out as a tar stream and in as another", always => tar;
    "files: a tar stream cannot lead outside", always => hostile_tar;
};

fn path(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn entry(reply: Reply) -> Verdict<Entry> {
    match reply {
        Reply::Entry(entry) => Ok(entry),
        other => Err(Failure::new(format!("no entry but {other:?}"))),
    }
}

/// Writes a file, whose parents are made.
pub(super) async fn write(agent: &mut Agent, at: &str, content: &[u8]) -> Verdict<Entry> {
    let call = Call::Write(Write {
        path: path(at),
        mode: 0o640,
        user: String::new(),
    });
    entry(agent.upload(call, content).await?)
}

/// The content of a file.
pub(super) async fn read(agent: &mut Agent, at: &str) -> Verdict<Vec<u8>> {
    let call = Call::Read(Read {
        path: path(at),
        ..Read::default()
    });
    agent.download(call).await
}

/// What is at a path.
pub(super) async fn stat(agent: &mut Agent, at: &str) -> Verdict<Reply> {
    agent.call(Call::Stat(Stat { path: path(at) })).await
}

fn must_fail(what: &str, reply: &Reply, errno: Option<i32>) -> Verdict {
    ensure!(
        matches!(reply, Reply::Failed(failed)
            if errno.is_none_or(|errno| failed.errno == errno) && !failed.message.is_empty()),
        "{what}: {reply:?}"
    );
    Ok(())
}

async fn round_trip(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    let content: Vec<u8> = (0..900_001u32).map(|i| (i * 7 % 253) as u8).collect();
    for (at, content) in [("/tmp/a/b/large", &content[..]), ("/tmp/empty", &[])] {
        let written = write(&mut agent, at, content).await?;
        same("kind", written.kind, FILE)?;
        same("size", written.size, content.len() as u64)?;
        same("mode", written.mode & 0o777, 0o640)?;
        let back = read(&mut agent, at).await?;
        ensure!(back == content, "{} other bytes in {at}", back.len());
    }
    let call = Call::Read(Read {
        path: path("/tmp/a/b/large"),
        offset: 70_000,
        limit: 100,
    });
    let part = agent.download(call).await?;
    same("a part", &part[..], &content[70_000..70_100])?;
    write(&mut agent, "/tmp/text", b"from outside\n").await?;
    same(
        "seen inside",
        agent.sh("cat /tmp/text").await?,
        "from outside\n",
    )?;
    agent.sh("echo from inside > /tmp/text").await?;
    let back = read(&mut agent, "/tmp/text").await?;
    same("seen outside", &back[..], &b"from inside\n"[..])
}

async fn missing(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    must_fail("stat", &stat(&mut agent, "/tmp/no").await?, Some(NOT_FOUND))?;
    let call = Call::Read(Read {
        path: path("/tmp/no"),
        ..Read::default()
    });
    must_fail("read", &agent.call(call).await?, Some(NOT_FOUND))?;
    let call = Call::Move(Move {
        from: path("/tmp/no"),
        to: path("/tmp/yes"),
        user: String::new(),
    });
    must_fail("move", &agent.call(call).await?, Some(NOT_FOUND))?;
    must_fail("relative", &stat(&mut agent, "tmp").await?, None)
}

async fn given_up(ground: Ground<'_>) -> Verdict {
    use skerry_proto::agent::{Cancel, Data, to_agent::Body as To};
    let (_, mut agent) = ground.sandbox().await?;
    write(&mut agent, "/tmp/kept", b"kept").await?;
    let call = Call::Write(Write {
        path: path("/tmp/kept"),
        ..Write::default()
    });
    let id = agent.ask(call).await?;
    let data = Bytes::from_static(b"half");
    agent
        .send(To::Data(Data {
            id,
            data,
            eof: false,
        }))
        .await?;
    agent.send(To::Cancel(Cancel { id })).await?;
    let back = read(&mut agent, "/tmp/kept").await?;
    same("content", &back[..], &b"kept"[..])
}

async fn listing(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    let call = Call::MakeDir(MakeDir {
        path: path("/tmp/list/sub/deep"),
        ..MakeDir::default()
    });
    agent.call(call).await?;
    for name in ["c", "a", "b"] {
        write(&mut agent, &format!("/tmp/list/{name}"), b"x").await?;
    }
    let made = entry(stat(&mut agent, "/tmp/list/sub").await?)?;
    same("kind", made.kind, DIRECTORY)?;
    let (mut names, mut after) = (Vec::new(), Bytes::new());
    loop {
        let call = Call::List(List {
            path: path("/tmp/list"),
            depth: 1,
            after: after.clone(),
            limit: 2,
        });
        let Reply::Entries(page) = agent.call(call).await? else {
            return Err(Failure::new("no list"));
        };
        ensure!(page.entries.len() <= 2, "a page of {}", page.entries.len());
        after = page
            .entries
            .last()
            .map(|e| e.path.clone())
            .unwrap_or_default();
        names.extend(page.entries.into_iter().map(|e| e.path));
        if !page.more {
            break;
        }
    }
    let wanted = ["a", "b", "c", "sub"].map(|name| path(&format!("/tmp/list/{name}")));
    same("names", names, wanted)
}

async fn move_and_remove(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    write(&mut agent, "/tmp/from/deep/file", b"moved").await?;
    let call = Call::Move(Move {
        from: path("/tmp/from"),
        to: path("/tmp/to"),
        user: String::new(),
    });
    same(
        "move",
        matches!(agent.call(call).await?, Reply::Done(_)),
        true,
    )?;
    must_fail(
        "old place",
        &stat(&mut agent, "/tmp/from").await?,
        Some(NOT_FOUND),
    )?;
    let back = read(&mut agent, "/tmp/to/deep/file").await?;
    same("moved", &back[..], &b"moved"[..])?;
    let call = Call::Remove(Remove {
        path: path("/tmp/to"),
    });
    same(
        "remove",
        matches!(agent.call(call).await?, Reply::Done(_)),
        true,
    )?;
    must_fail(
        "removed",
        &stat(&mut agent, "/tmp/to").await?,
        Some(NOT_FOUND),
    )?;
    let root = Call::Remove(Remove { path: path("/") });
    must_fail("remove the root", &agent.call(root).await?, None)
}

async fn tar(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    write(&mut agent, "/tmp/tree/one", b"1").await?;
    write(&mut agent, "/tmp/tree/sub/two", &vec![2; 100_000]).await?;
    write(&mut agent, "/tmp/tree/left/out", b"out").await?;
    let call = Call::TarOut(TarOut {
        path: path("/tmp/tree"),
        exclude: vec!["left".to_owned()],
    });
    let archive = agent.download(call).await?;
    let call = Call::TarIn(TarIn {
        path: path("/tmp/copy"),
        user: String::new(),
    });
    let reply = agent.upload(call, &archive).await?;
    same("unpacked", matches!(reply, Reply::Done(_)), true)?;
    let one = read(&mut agent, "/tmp/copy/one").await?;
    same("one", &one[..], &b"1"[..])?;
    let two = read(&mut agent, "/tmp/copy/sub/two").await?;
    same("two", two == vec![2; 100_000], true)?;
    must_fail(
        "left out",
        &stat(&mut agent, "/tmp/copy/left").await?,
        Some(NOT_FOUND),
    )
}

async fn hostile_tar(ground: Ground<'_>) -> Verdict {
    let (_, mut agent) = ground.sandbox().await?;
    for name in ["../escaped", "sub/../../escaped"] {
        let call = Call::TarIn(TarIn {
            path: path("/tmp/cage"),
            user: String::new(),
        });
        let reply = agent.upload(call, &archive_of(name, b"out")?).await?;
        must_fail(name, &reply, None)?;
        must_fail(
            name,
            &stat(&mut agent, "/tmp/escaped").await?,
            Some(NOT_FOUND),
        )?;
    }
    Ok(())
}

/// A tar stream of one file, whatever its name.
fn archive_of(name: &str, content: &[u8]) -> Verdict<Vec<u8>> {
    let mut header = tar::Header::new_gnu();
    // The safe way refuses such names.
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append(&header, content)?;
    Ok(archive.into_inner()?)
}
