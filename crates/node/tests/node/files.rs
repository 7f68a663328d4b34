//! Files under credit, over links that hold and links that do not.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use skerry_proto::node::{ByteStream, Files};
use skerry_types::{Error, ErrorCode};

use crate::bed::{Bed, Island};

fn body(content: &[u8]) -> ByteStream {
    let chunks: Vec<Bytes> = content
        .chunks(100_000)
        .map(Bytes::copy_from_slice)
        .collect();
    stream::iter(chunks).map(Ok).boxed()
}

async fn write(island: &Island, path: &str, content: &[u8]) -> Result<u64, Error> {
    let written = island
        .node
        .write_file(island.id, path, None, None, body(content))
        .await?;
    Ok(written.size_bytes)
}

async fn read(island: &Island, path: &str) -> Result<Vec<u8>, Error> {
    let (_, content) = island.node.read_file(island.id, path, 0, None).await?;
    let chunks: Vec<Bytes> = content.try_collect().await?;
    Ok(chunks.concat())
}

#[tokio::test(start_paused = true)]
async fn large_files_go_in_and_out_as_they_are() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    let content: Vec<u8> = (0..3_000_001u32).map(|i| (i % 253) as u8).collect();
    assert_eq!(
        write(&island, "/tmp/deep/large", &content).await,
        Ok(3_000_001)
    );
    assert!(read(&island, "/tmp/deep/large").await.unwrap() == content);
    let tar = island
        .node
        .read_tar(island.id, "/tmp/deep", Vec::new())
        .await
        .unwrap();
    let unpacked = island
        .node
        .write_tar(island.id, "/tmp/copy", None, tar)
        .await;
    assert_eq!(unpacked, Ok(3_000_001));
    assert!(read(&island, "/tmp/copy/large").await.unwrap() == content);
    let missing = read(&island, "/tmp/missing").await.unwrap_err();
    assert_eq!(missing.code, ErrorCode::NotFound);
    let relative = read(&island, "tmp").await.unwrap_err();
    assert_eq!(relative.code, ErrorCode::ValidationError);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_leaves_early_gives_its_place_back() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    write(&island, "/tmp/large", &vec![1; 2_000_000])
        .await
        .unwrap();
    for _ in 0..300 {
        let (entry, mut content) = island
            .node
            .read_file(island.id, "/tmp/large", 0, None)
            .await
            .unwrap();
        assert_eq!(entry.size_bytes, 2_000_000);
        content.next().await.unwrap().unwrap();
    }
    assert_eq!(read(&island, "/tmp/large").await.unwrap().len(), 2_000_000);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_breaks_changes_nothing() {
    let bed = Bed::new().await;
    let island = bed.island().await;
    write(&island, "/tmp/kept", b"kept").await.unwrap();
    let broken = body(&vec![1; 300_000]).chain(stream::once(async {
        Err(Error::validation("client left"))
    }));
    let error = island
        .node
        .write_file(island.id, "/tmp/kept", None, None, broken.boxed())
        .await;
    assert_eq!(error.unwrap_err().message, "client left");
    assert_eq!(read(&island, "/tmp/kept").await.unwrap(), b"kept");
    // The next link carries half of it.
    bed.world.script(|script| script.cuts.push_back(100_000));
    bed.world.break_links(island.id);
    let error = write(&island, "/tmp/kept", &vec![2; 300_000])
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::SandboxNotRunning);
    assert_eq!(island.ok("cat /tmp/kept").await, "kept");
    assert_eq!(write(&island, "/tmp/kept", b"new").await, Ok(3));
    assert_eq!(read(&island, "/tmp/kept").await.unwrap(), b"new");
}
