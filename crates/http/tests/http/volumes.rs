//! Volumes of the node in memory: files by path, and what is above them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use skerry_proto::node::{
    ByteStream, FileKind, VolumeAttributes, VolumeEntry, VolumeReport, Volumes,
};
use skerry_types::{Error, Result, VolumeId};

use crate::node::FakeNode;

/// What is in one.
pub(crate) type Inside = BTreeMap<String, (Option<Bytes>, VolumeAttributes)>;

fn entry(path: &str, (content, attributes): &(Option<Bytes>, VolumeAttributes)) -> VolumeEntry {
    VolumeEntry {
        name: path.rsplit('/').next().unwrap().to_owned(),
        path: path.to_owned(),
        kind: match content {
            Some(_) => FileKind::File,
            None => FileKind::Directory,
        },
        size_bytes: content.as_ref().map_or(0, |bytes| bytes.len() as u64),
        mode: attributes.mode.unwrap_or(0o644),
        uid: attributes.uid.unwrap_or(1000),
        gid: attributes.gid.unwrap_or(1000),
        accessed_at: Timestamp::UNIX_EPOCH,
        modified_at: Timestamp::UNIX_EPOCH,
        changed_at: Timestamp::UNIX_EPOCH,
        symlink_target: None,
    }
}

fn not_found() -> Error {
    Error::not_found("it")
}

impl FakeNode {
    fn in_files<T>(&self, id: VolumeId, work: impl FnOnce(&mut Inside) -> Result<T>) -> Result<T> {
        work(self.volumes.lock().get_mut(&id).ok_or_else(not_found)?)
    }
}

const REPORT: VolumeReport = VolumeReport {
    bytes: 4096,
    size_binds: true,
};

#[async_trait]
impl Volumes for FakeNode {
    async fn create_volume(&self, id: VolumeId, _: u64) -> Result<VolumeReport> {
        self.volumes.lock().insert(id, Inside::new());
        Ok(REPORT)
    }
    async fn list_volumes(&self) -> Result<Vec<VolumeId>> {
        Ok(self.volumes.lock().keys().copied().collect())
    }
    async fn volume_report(&self, _: VolumeId) -> Result<VolumeReport> {
        Ok(REPORT)
    }
    async fn remove_volume(&self, id: VolumeId) -> Result<()> {
        self.volumes.lock().remove(&id);
        Ok(())
    }
    async fn stat_in_volume(&self, id: VolumeId, path: &str) -> Result<VolumeEntry> {
        self.in_files(id, |files| {
            Ok(entry(path, files.get(path).ok_or_else(not_found)?))
        })
    }
    async fn list_in_volume(
        &self,
        id: VolumeId,
        path: &str,
        _: u32,
        after: &str,
        limit: u32,
    ) -> Result<(Vec<VolumeEntry>, bool)> {
        self.in_files(id, |files| {
            let there = files
                .iter()
                .filter(|(at, _)| at.starts_with(path) && at.as_str() > after)
                .map(|(at, file)| entry(at, file));
            let mut there: Vec<_> = there.collect();
            let more = there.len() > limit as usize;
            there.truncate(limit as usize);
            Ok((there, more))
        })
    }
    async fn make_dir_in_volume(
        &self,
        id: VolumeId,
        path: &str,
        _: bool,
        attributes: VolumeAttributes,
    ) -> Result<VolumeEntry> {
        self.in_files(id, |files| {
            files.insert(path.to_owned(), (None, attributes));
            Ok(entry(path, &files[path]))
        })
    }
    async fn read_in_volume(&self, id: VolumeId, path: &str) -> Result<(VolumeEntry, ByteStream)> {
        self.in_files(id, |files| {
            let file = files.get(path).ok_or_else(not_found)?;
            let content = file.0.clone().unwrap_or_default();
            let stream = futures::stream::iter([Ok(content)]).boxed();
            Ok((entry(path, file), stream))
        })
    }
    async fn write_in_volume(
        &self,
        id: VolumeId,
        path: &str,
        _: bool,
        attributes: VolumeAttributes,
        content: ByteStream,
    ) -> Result<VolumeEntry> {
        let content: BytesMut = content.try_collect().await?;
        self.in_files(id, |files| {
            files.insert(path.to_owned(), (Some(content.freeze()), attributes));
            Ok(entry(path, &files[path]))
        })
    }
    async fn change_in_volume(
        &self,
        id: VolumeId,
        path: &str,
        attributes: VolumeAttributes,
    ) -> Result<VolumeEntry> {
        self.in_files(id, |files| {
            let file = files.get_mut(path).ok_or_else(not_found)?;
            file.1 = attributes;
            Ok(entry(path, file))
        })
    }
    async fn remove_in_volume(&self, id: VolumeId, path: &str) -> Result<()> {
        self.in_files(id, |files| {
            files.remove(path).map(drop).ok_or_else(not_found)
        })
    }
}
