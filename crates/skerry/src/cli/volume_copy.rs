//! Files and folders into volumes and out of them.
//!
//! Invariant: what is in a volume is hostile. Nothing of it lands outside its target, and no link is made.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail};
use skerry_api::{FileEntry, FileKind};
use skerry_client::Client;

use super::Context;
use super::output::note;
use super::progress::Progress;
use super::transfer::{self, Source};

/// Copies a file to a path of a volume, or all that a folder has to below it.
pub(super) async fn put(ctx: &Context, volume: &str, from: &Path, to: &str) -> anyhow::Result<()> {
    if from.is_dir() {
        return put_folder(&ctx.client, volume, from, to).await;
    }
    let source = Source::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    put_file(&ctx.client, volume, source, to).await
}

async fn put_folder(client: &Client, volume: &str, from: &Path, to: &str) -> anyhow::Result<()> {
    let mut left_out = 0;
    let mut folders = vec![(from.to_owned(), to.trim_end_matches('/').to_owned())];
    while let Some((folder, to)) = folders.pop() {
        if !to.is_empty() {
            client.make_volume_dir(volume, &to).await?;
        }
        let shown = folder.display();
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {shown}"))? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                bail!("a name in {shown} is not UTF-8");
            };
            let (path, to) = (entry.path(), format!("{to}/{name}"));
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push((path, to));
            } else if kind.is_file() {
                let file = fs::File::open(&path);
                let file = file.with_context(|| format!("cannot read {}", path.display()))?;
                put_file(client, volume, Source::File(file), &to).await?;
            } else {
                left_out += 1;
            }
        }
    }
    tell(left_out);
    Ok(())
}

async fn put_file(client: &Client, volume: &str, source: Source, to: &str) -> anyhow::Result<()> {
    let (mut mode, mut total) = (None, None);
    if let Source::File(file) = &source {
        let found = file.metadata()?;
        (mode, total) = (Some(found.permissions().mode() & 0o777), Some(found.len()));
    }
    let body = transfer::body(source, Progress::start(to, total));
    client.write_volume_file(volume, to, mode, body).await?;
    Ok(())
}

/// Copies a file of a volume to here, or all that is in a folder to below `to`.
pub(super) async fn get(ctx: &Context, volume: &str, from: &str, to: &Path) -> anyhow::Result<()> {
    let found = ctx.client.stat_volume_file(volume, from).await?;
    if found.kind != FileKind::Directory {
        return get_file(&ctx.client, volume, &found, to).await;
    }
    let mut left_out = 0;
    let mut folders = vec![(found.path, to.to_owned())];
    while let Some((from, to)) = folders.pop() {
        fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
        let mut cursor = None;
        loop {
            let page = ctx
                .client
                .list_volume_files(volume, &from, cursor.as_deref());
            let page = page.await?;
            for entry in page.files {
                let here = below(&to, &entry.name)?;
                match entry.kind {
                    FileKind::Directory => folders.push((entry.path, here)),
                    FileKind::File => get_file(&ctx.client, volume, &entry, &here).await?,
                    FileKind::Symlink | FileKind::Other => left_out += 1,
                }
            }
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
    }
    tell(left_out);
    Ok(())
}

async fn get_file(
    client: &Client,
    volume: &str,
    found: &FileEntry,
    to: &Path,
) -> anyhow::Result<()> {
    let content = client.read_volume_file(volume, &found.path).await?;
    let progress = Progress::start(&found.path, content.size());
    let saved = transfer::save(content, to, transfer::mode_of(found), &progress).await;
    saved.with_context(|| format!("cannot copy it to {}", to.display()))
}

/// Where a name of a volume's goes in a folder here: nowhere else.
fn below(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) => Ok(folder.join(name)),
        _ => bail!("the volume has a file of the name `{name}`, which leads elsewhere"),
    }
}

fn tell(left_out: usize) {
    if left_out > 0 {
        note(&format!(
            "{left_out} links, pipes, sockets or devices were left out"
        ));
    }
}
