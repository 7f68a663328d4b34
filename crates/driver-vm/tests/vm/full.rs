//! A sandbox that is kept while the disk is full, or that cannot be put on record: that fails clearly, and nothing else does.

use std::env;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;

use skerry_driver::{Driver, DriverError, Extent};
use skerry_storage::Options;
use skerry_types::SnapshotId;
use tokio::io::AsyncReadExt;

use crate::bed::{Bed, spec, test, test_on};

/// Room for a base disk, a template, a model and a sandbox.
const SMALL: Options = Options {
    max_bytes: Some(1 << 30),
    prefer: None,
};

#[test]
fn a_full_disk_fails_a_snapshot_and_nothing_else() {
    if env::var_os("SKERRY_TEST_ALL").is_none() {
        println!("left out: SKERRY_TEST_ALL=1 runs it");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    test_on(folder.path(), &SMALL, async |bed: Bed| {
        let (driver, spec) = (bed.driver(None).await, spec());
        driver.create(&spec).await.unwrap();
        let fill = bed.storage.own_folder("vm").unwrap().join("fill");
        leave_no_room(&fill);
        for extent in [Extent::Memory, Extent::Files] {
            let kept = driver.snapshot(spec.id, SnapshotId::new(), extent).await;
            let error = kept.unwrap_err();
            assert!(matches!(error, DriverError::DiskFull(_)), "{error:?}");
        }
        assert_eq!(driver.list_snapshots().await.unwrap(), []);
        make_room(&fill);
        let mut link = driver.connect(spec.id).await.unwrap();
        link.read_u8().await.expect("it stood, and goes on");
        let snapshot = SnapshotId::new();
        driver
            .snapshot(spec.id, snapshot, Extent::Memory)
            .await
            .unwrap();
        driver.remove_snapshot(snapshot).await.unwrap();
        driver.destroy(spec.id).await.unwrap();
        bed.assert_clean();
    });
}

#[test]
fn a_pause_that_cannot_be_put_on_record_leaves_it_running() {
    if env::var_os("SKERRY_TEST_ALL").is_none() {
        println!("left out: SKERRY_TEST_ALL=1 runs it");
        return;
    }
    test(async |bed: Bed| {
        let (driver, spec) = (bed.driver(None).await, spec());
        driver.create(&spec).await.unwrap();
        let record = bed.data().join("vm/run").join(spec.id.label());
        let in_the_way = record.join("state.json.new");
        fs::create_dir(&in_the_way).unwrap();
        driver.pause(spec.id).await.unwrap_err();
        let mut link = driver.connect(spec.id).await.unwrap();
        link.read_u8().await.expect("it stood, and goes on");
        fs::remove_dir(&in_the_way).unwrap();

        driver.pause(spec.id).await.unwrap();
        driver.resume(spec.id).await.unwrap();
        let mut link = driver.connect(spec.id).await.unwrap();
        link.read_u8().await.expect("it is as whole as before");
        driver.destroy(spec.id).await.unwrap();
        bed.assert_clean();
    });
}

/// What was removed is room once that is written down.
fn make_room(path: &Path) {
    fs::remove_file(path).unwrap();
    rustix::fs::syncfs(File::open(path.parent().unwrap()).unwrap()).unwrap();
}

fn leave_no_room(path: &Path) {
    let mut fill = File::create(path).unwrap();
    let piece = vec![0; 1 << 20];
    let error = loop {
        if let Err(error) = fill.write_all(&piece).and_then(|()| fill.sync_data()) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull);
}
