//! What holds for folders that sandboxes share, on every rung of the ladder.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use crate::common::{MIB, me, on_each_tier, volume};
use skerry_storage::{Storage, StorageError};
use skerry_types::VolumeId;

#[test]
fn it_is_everybodys_and_goes_with_all_that_is_in_it() {
    on_each_tier(|storage| {
        let (id, other) = (VolumeId::new(), VolumeId::new());
        storage.create_shared(id, 64 * MIB, (1234, 4321)).unwrap();
        storage.create_shared(other, 64 * MIB, me()).unwrap();
        let folder = storage.shared(id).unwrap();
        let stat = fs::metadata(&folder).unwrap();
        assert_eq!(
            (stat.uid(), stat.gid(), stat.mode() & 0o7777),
            (1234, 4321, 0o777)
        );
        fs::create_dir_all(folder.join("some/folder")).unwrap();
        storage.create_shared(id, MIB, me()).unwrap();
        assert!(folder.join("some").exists(), "made again it stays as it is");
        let (sandbox, _) = volume(storage);
        assert_eq!(storage.list().unwrap(), [sandbox]);

        storage.remove_shared(id).unwrap();
        storage.remove_shared(id).unwrap();
        assert!(!folder.exists());
        assert!(matches!(storage.shared(id), Err(StorageError::NoShared(gone)) if gone == id));
        assert_eq!(storage.list_shared().unwrap(), [other]);
    });
}

#[test]
fn its_limit_binds_where_limits_do() {
    on_each_tier(|storage| {
        let (small, other) = (VolumeId::new(), VolumeId::new());
        storage.create_shared(small, 8 * MIB, me()).unwrap();
        storage.create_shared(other, 64 * MIB, me()).unwrap();
        let fits = storage.facts().unwrap().disk_quota.then_some(8 * MIB);
        let wrote = fill(storage, small);
        assert_eq!(fits.is_some(), wrote < 32 * MIB, "{wrote} bytes fit");
        assert_eq!(fill(storage, other), 32 * MIB);
    });
}

/// Writes until it is full, or 32 MiB; how much that was.
fn fill(storage: &Storage, id: VolumeId) -> u64 {
    let mut file = File::create(storage.shared(id).unwrap().join("all")).unwrap();
    let step = vec![7; MIB as usize];
    (0..32)
        .take_while(|_| file.write_all(&step).is_ok())
        .count() as u64
        * MIB
}
