//! Volumes of a node, and what is in them as seen from outside. Programs in sandboxes write there, so what they may have left is hostile.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::{SinkExt, StreamExt, TryStreamExt};
use skerry_node::Node;
use skerry_proto::node::{
    ByteStream, CreateSandbox, FileKind, Mount, Sandboxes, VolumeAttributes, VolumeEntry, Volumes,
};
use skerry_storage::{Options, Storage, Tier};
use skerry_types::{ErrorCode, Result, SandboxId, VolumeId};

use crate::bed::{Bed, request};

const MIB: u64 = 1 << 20;
const AS_IT_IS: VolumeAttributes = VolumeAttributes {
    mode: None,
    uid: None,
    gid: None,
};

/// A node with one volume.
struct Shelf {
    bed: Bed,
    node: Arc<Node>,
    id: VolumeId,
    /// Where a program in a sandbox would see it.
    inside: PathBuf,
}

impl Shelf {
    async fn new() -> Self {
        let bed = Bed::new().await;
        let data = bed.data_dir().join("storage");
        fs::create_dir(&data).unwrap();
        let prefer = Options {
            prefer: Some(Tier::Copy),
            ..Options::default()
        };
        let storage = Arc::new(Storage::open(&data, &prefer).unwrap());
        let options = skerry_node::Options {
            storage: Some(Arc::clone(&storage)),
            ..bed.options()
        };
        let node = Node::start(options).await.unwrap();
        let id = VolumeId::new();
        let made = node.create_volume(id, 64 * MIB).await.unwrap();
        assert!(!made.size_binds, "a folder has no quota");
        let inside = storage.shared(id).unwrap();
        Self {
            bed,
            node,
            id,
            inside,
        }
    }

    async fn write(&self, path: &str, content: &'static str) -> Result<VolumeEntry> {
        let content = stream(&[content]);
        self.node
            .write_in_volume(self.id, path, true, AS_IT_IS, content)
            .await
    }

    async fn read(&self, path: &str) -> Result<String> {
        let (_, content) = self.node.read_in_volume(self.id, path).await?;
        let content: Vec<Bytes> = content.try_collect().await?;
        Ok(String::from_utf8(content.concat()).unwrap())
    }

    async fn list(&self, path: &str, depth: u32) -> Vec<String> {
        let listed = self.node.list_in_volume(self.id, path, depth, "/", 100);
        let (entries, more) = listed.await.unwrap();
        assert!(!more);
        entries.into_iter().map(|entry| entry.path).collect()
    }
}

fn stream(chunks: &[&'static str]) -> ByteStream {
    let chunks: Vec<_> = chunks.iter().map(|chunk| Ok(Bytes::from(*chunk))).collect();
    futures::stream::iter(chunks).boxed()
}

#[track_caller]
fn code<T: std::fmt::Debug>(done: Result<T>) -> ErrorCode {
    done.unwrap_err().code
}

#[tokio::test]
async fn files_come_and_go_as_they_are() {
    let shelf = Shelf::new().await;
    let written = shelf.write("/a/b/file", "content").await.unwrap();
    assert_eq!((written.name.as_str(), written.size_bytes), ("file", 7));
    assert_eq!((written.kind, written.mode), (FileKind::File, 0o644));
    assert_eq!(shelf.read("/a/b/file").await.unwrap(), "content");
    shelf.write("a//b/./file", "new").await.unwrap();
    assert_eq!(shelf.read("/a/b/file").await.unwrap(), "new");
    let (node, id) = (&shelf.node, shelf.id);
    let open = VolumeAttributes {
        mode: Some(0o750),
        ..AS_IT_IS
    };
    let made = node
        .make_dir_in_volume(id, "/a/c", false, open)
        .await
        .unwrap();
    assert_eq!((made.kind, made.mode), (FileKind::Directory, 0o750));
    let far = node.make_dir_in_volume(id, "/x/y", false, AS_IT_IS).await;
    assert_eq!(code(far), ErrorCode::NotFound);
    let changed = node.change_in_volume(id, "/a/b/file", open).await.unwrap();
    assert_eq!(changed.mode, 0o750);
    let nobodys = VolumeAttributes {
        uid: Some(70_000),
        ..AS_IT_IS
    };
    let refused = node.change_in_volume(id, "/a/b/file", nobodys).await;
    assert_eq!(code(refused), ErrorCode::ValidationError);
    assert_eq!(shelf.list("/", 1).await, ["/a"]);
    assert_eq!(
        shelf.list("/", 9).await,
        ["/a", "/a/b", "/a/b/file", "/a/c"]
    );
    node.remove_in_volume(id, "/a").await.unwrap();
    assert_eq!(shelf.list("/", 9).await, Vec::<String>::new());
    assert_eq!(
        code(node.remove_in_volume(id, "/a").await),
        ErrorCode::NotFound
    );
    assert_eq!(
        code(node.remove_in_volume(id, "/").await),
        ErrorCode::ValidationError
    );
}

#[tokio::test]
async fn a_listing_goes_on_where_a_page_ended() {
    let shelf = Shelf::new().await;
    for path in ["/a-b", "/a/1", "/a/2", "/b", "/c/d/e"] {
        shelf.write(path, "").await.unwrap();
    }
    let (mut all, mut after) = (Vec::new(), "/".to_owned());
    loop {
        let page = shelf.node.list_in_volume(shelf.id, "/", 9, &after, 2);
        let (entries, more) = page.await.unwrap();
        assert!(entries.len() <= 2);
        all.extend(entries.into_iter().map(|entry| entry.path));
        if !more {
            break;
        }
        after.clone_from(all.last().unwrap());
    }
    let want = ["/a", "/a/1", "/a/2", "/a-b", "/b", "/c", "/c/d", "/c/d/e"];
    assert_eq!(all, want);
}

#[tokio::test]
async fn nothing_inside_leads_out() {
    let shelf = Shelf::new().await;
    let secret = shelf.bed.data_dir().join("secret");
    fs::write(&secret, "of the host").unwrap();
    let up = "../".repeat(20);
    symlink(&secret, shelf.inside.join("absolute")).unwrap();
    symlink(
        format!("{up}{}", secret.display()),
        shelf.inside.join("relative"),
    )
    .unwrap();
    symlink(secret.parent().unwrap(), shelf.inside.join("folder")).unwrap();
    symlink("/proc/self/root", shelf.inside.join("magic")).unwrap();
    symlink("loop", shelf.inside.join("loop")).unwrap();
    for path in [
        "/absolute",
        "/relative",
        "/folder/secret",
        "/magic/etc/passwd",
    ] {
        assert_eq!(code(shelf.read(path).await), ErrorCode::NotFound, "{path}");
    }
    assert_eq!(code(shelf.read("/loop").await), ErrorCode::ValidationError);
    for path in ["/../secret", "/a/../../secret", "/a\0"] {
        assert_eq!(
            code(shelf.read(path).await),
            ErrorCode::ValidationError,
            "{path}"
        );
        let written = shelf.write(path, "").await;
        assert_eq!(code(written), ErrorCode::ValidationError, "{path}");
    }
    // A write replaces a link, and makes no folder through one that leads nowhere.
    shelf.write("/absolute", "own").await.unwrap();
    assert_eq!(shelf.read("/absolute").await.unwrap(), "own");
    let through = shelf.write("/folder/new", "").await;
    assert!(through.is_err(), "{through:?}");
    shelf
        .node
        .remove_in_volume(shelf.id, "/relative")
        .await
        .unwrap();
    assert_eq!(fs::read_to_string(&secret).unwrap(), "of the host");
    let entry = shelf.node.stat_in_volume(shelf.id, "/magic").await.unwrap();
    assert_eq!(entry.symlink_target.as_deref(), Some("/proc/self/root"));
    assert_eq!(names(secret.parent().unwrap(), "new"), 0);
}

fn names(folder: &Path, name: &str) -> usize {
    let there = fs::read_dir(folder).unwrap();
    there
        .filter(|entry| entry.as_ref().unwrap().file_name() == name)
        .count()
}

#[tokio::test]
async fn nothing_inside_is_waited_for() {
    let shelf = Shelf::new().await;
    let pipe = shelf.inside.join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .unwrap();
    assert_eq!(code(shelf.read("/pipe").await), ErrorCode::ValidationError);
    assert_eq!(
        code(shelf.write("/pipe", "").await),
        ErrorCode::ValidationError
    );
    assert_eq!(code(shelf.read("/").await), ErrorCode::ValidationError);
    fs::create_dir(shelf.inside.join("folder")).unwrap();
    assert_eq!(
        code(shelf.write("/folder", "").await),
        ErrorCode::ValidationError
    );
    let mut deep = shelf.inside.join("deep");
    for _ in 0..200 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    let (node, id) = (&shelf.node, shelf.id);
    assert_eq!(
        code(node.remove_in_volume(id, "/deep").await),
        ErrorCode::TooLarge
    );
    assert_eq!(shelf.list("/deep", 64).await.len(), 64);
}

#[tokio::test]
async fn a_write_that_breaks_off_leaves_what_was_there() {
    let shelf = Shelf::new().await;
    shelf.write("/file", "old").await.unwrap();
    let broken: Vec<Result<Bytes>> = vec![
        Ok(Bytes::from("new")),
        Err(skerry_types::Error::internal("the line broke")),
    ];
    let content = futures::stream::iter(broken).boxed();
    let written = shelf
        .node
        .write_in_volume(shelf.id, "/file", false, AS_IT_IS, content);
    assert_eq!(code(written.await), ErrorCode::InternalError);
    assert_eq!(shelf.read("/file").await.unwrap(), "old");
    assert_eq!(shelf.list("/", 1).await, ["/file"]);
}

#[tokio::test]
async fn a_kill_in_the_middle_of_a_write_leaves_nothing() {
    let shelf = Shelf::new().await;
    let (mut say, said) = futures::channel::mpsc::channel(0);
    let mut write = shelf
        .node
        .write_in_volume(shelf.id, "/file", false, AS_IT_IS, said.boxed());
    let mut begin = std::pin::pin!(say.send(Ok(Bytes::from("half"))));
    while futures::poll!(begin.as_mut()).is_pending() {
        assert!(futures::poll!(write.as_mut()).is_pending());
        tokio::task::yield_now().await;
    }
    let there = fs::read_dir(&shelf.inside).unwrap();
    assert_eq!(there.count(), 0, "what a server that dies now leaves");
    drop(say);
    write.await.unwrap();
    assert_eq!(shelf.read("/file").await.unwrap(), "half");
}

#[tokio::test]
async fn one_that_is_gone_is_not_found_and_another_is_as_it_was() {
    let shelf = Shelf::new().await;
    let (node, id) = (&shelf.node, shelf.id);
    shelf.write("/file", "content").await.unwrap();
    let other = VolumeId::new();
    node.create_volume(other, 64 * MIB).await.unwrap();
    assert_eq!(node.list_volumes().await.unwrap().len(), 2);
    let stat = fs::metadata(&shelf.inside).unwrap();
    assert_eq!(
        stat.permissions().mode() & 0o7777,
        0o777,
        "uid {}",
        stat.uid()
    );
    for _ in 0..2 {
        node.remove_volume(other).await.unwrap();
    }
    assert_eq!(
        code(node.stat_in_volume(other, "/").await),
        ErrorCode::NotFound
    );
    assert_eq!(node.list_volumes().await.unwrap(), [id]);
    assert_eq!(shelf.read("/file").await.unwrap(), "content");
    let with = |volume| CreateSandbox {
        volumes: vec![Mount {
            volume,
            path: "/data".to_owned(),
        }],
        ..request(SandboxId::new())
    };
    assert_eq!(code(node.create(with(other)).await), ErrorCode::NotFound);
    let simulated = node.create(with(id)).await;
    assert_eq!(
        code(simulated),
        ErrorCode::Unsupported,
        "the driver has none"
    );
}
