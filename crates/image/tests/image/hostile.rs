//! Every trick an archive can try is refused with an error of its own, and leaves nothing behind.

use std::path::Path;

use crate::common::{Store, Tar, gzip, header};
use skerry_image::{ImageError, Limits, Progress, UnpackError};
use tar::EntryType;

/// Imports the archive as a root file system; gives why it was refused.
async fn refused(limits: Limits, tar: Vec<u8>) -> UnpackError {
    let store = Store::with(limits);
    let outside = tempfile::tempdir_in(store.folder.path()).unwrap();
    let path = store.write("hostile.tar", &tar);
    let result = store
        .images
        .import_archive(&path, "hostile", Progress::none())
        .await;
    assert_eq!(store.leftovers(), Vec::<String>::new(), "work is left");
    assert_eq!(store.layers(), Vec::<String>::new(), "a layer is left");
    assert_eq!(crate::common::names(outside.path()), Vec::<String>::new());
    assert!(!Path::new("/skerry-was-here").exists());
    match result {
        Err(ImageError::Unpack { source, .. }) => source,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

macro_rules! refuses {
    ($($name:ident: $pattern:pat = $tar:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let error = refused(small(), $tar.done()).await;
            assert!(matches!(error, $pattern), "{error:?}");
        }
    )*};
}

fn small() -> Limits {
    Limits {
        bytes: 8 * 1024 * 1024,
        entries: 100,
        names: 4096,
        depth: 10,
        header: 64 * 1024,
        ..Limits::default()
    }
}

fn base() -> Tar {
    Tar::new().folder("usr").file("usr/a", b"a")
}

refuses! {
    climbing_names: UnpackError::ParentPath(_) =
        base().raw(EntryType::Regular, b"usr/../../../skerry-was-here", b"");
    climbing_in_the_middle: UnpackError::ParentPath(_) =
        base().raw(EntryType::Regular, b"usr/../x", b"");
    absolute_names: UnpackError::AbsolutePath(_) =
        base().raw(EntryType::Regular, b"/skerry-was-here", b"");
    names_with_nul: UnpackError::NulInPath(_) =
        base().pax(&[("path", b"usr/a\0b")]).raw(EntryType::Regular, b"x", b"");
    nameless_files: UnpackError::EmptyPath =
        base().raw(EntryType::Regular, b"./", b"");
    writing_through_a_link: UnpackError::NotAFolder(_) =
        base().symlink("out", "/").raw(EntryType::Regular, b"out/skerry-was-here", b"");
    writing_through_a_relative_link: UnpackError::NotAFolder(_) =
        base().symlink("usr/out", "../../../..").raw(EntryType::Regular, b"usr/out/skerry-was-here", b"");
    writing_through_a_chain_of_links: UnpackError::NotAFolder(_) =
        base().symlink("l1", "usr").symlink("l2", "l1").raw(EntryType::Regular, b"l2/x", b"");
    writing_through_a_file: UnpackError::NotAFolder(_) =
        base().raw(EntryType::Regular, b"usr/a/x", b"");
    whiteout_through_a_link: UnpackError::NotAFolder(_) =
        base().symlink("out", "/").raw(EntryType::Regular, b"out/.wh.etc", b"");
    opaque_through_a_link: UnpackError::NotAFolder(_) =
        base().symlink("out", "/").raw(EntryType::Regular, b"out/.wh..wh..opq", b"");
    whiteout_of_the_parent: UnpackError::Whiteout(_) =
        base().raw(EntryType::Regular, b"usr/.wh...", b"");
    whiteout_of_nothing: UnpackError::Whiteout(_) =
        base().raw(EntryType::Regular, b"usr/.wh.", b"");
    hardlink_to_the_host: UnpackError::AbsolutePath(_) =
        base().hardlink("usr/shadow", "/etc/shadow");
    hardlink_that_climbs: UnpackError::ParentPath(_) =
        base().hardlink("usr/shadow", "../../../../etc/shadow");
    hardlink_through_a_link: UnpackError::HardlinkTarget { .. } =
        base().symlink("etc", "/etc").hardlink("usr/passwd", "etc/passwd");
    hardlink_to_nothing: UnpackError::HardlinkTarget { .. } =
        base().hardlink("usr/b", "usr/missing");
    hardlink_to_a_folder: UnpackError::HardlinkTarget { .. } =
        base().hardlink("b", "usr");
    links_without_target: UnpackError::LinkTarget(_) =
        base().symlink("usr/b", "");
    files_over_folders: UnpackError::ReplacesFolder(_) =
        base().raw(EntryType::Regular, b"usr", b"");
    unknown_kinds: UnpackError::Unsupported { .. } =
        base().raw(EntryType::new(b'Z'), b"usr/z", b"");
    sparse_files_in_disguise: UnpackError::Sparse(_) =
        base().pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"9999999999")]).file("usr/b", b"");
    names_too_long: UnpackError::PathTooLong(_) =
        base().pax(&[("path", &[b'n'; 300])]).raw(EntryType::Regular, b"x", b"");
    paths_too_long: UnpackError::PathTooLong(_) =
        base().pax(&[("path", &b"ab/".repeat(2000))]).raw(EntryType::Regular, b"x", b"");
    folders_too_deep: UnpackError::TooDeep { .. } =
        base().raw(EntryType::Directory, b"a/b/c/d/e/f/g/h/i/j/k", b"");
    too_many_entries: UnpackError::TooManyEntries { .. } =
        (0..200).fold(base(), |tar, at| tar.file(&format!("f{at}"), b""));
    too_many_names: UnpackError::TooManyNames { .. } =
        (0..90).fold(base(), |tar, at| tar.file(&format!("{at}{}", "n".repeat(80)), b""));
    too_many_bytes: UnpackError::TooManyBytes { .. } =
        base().file("big", &vec![7; 9 * 1024 * 1024]);
    huge_extended_headers: UnpackError::HeaderTooLarge { .. } =
        base().pax(&[("comment", &vec![b'x'; 1024 * 1024])]).file("usr/b", b"");
}

#[tokio::test]
async fn devices_outside_dev() {
    for kind in [EntryType::Char, EntryType::Block] {
        let mut node = header(kind, 0o666);
        node.set_device_major(1).unwrap();
        node.set_device_minor(3).unwrap();
        node.set_path("usr/null").unwrap();
        node.set_cksum();
        let mut tar = base().done();
        // Before the end mark of two empty blocks.
        tar.truncate(tar.len() - 1024);
        tar.extend_from_slice(node.as_bytes());
        tar.extend_from_slice(&[0; 1024]);
        let error = refused(small(), tar).await;
        assert!(matches!(error, UnpackError::Device(_)), "{error:?}");
    }
}

#[tokio::test]
async fn owners_that_cannot_be() {
    let mut tar = base().done();
    let mut file = header(EntryType::Regular, 0o644);
    file.set_uid(u64::from(u32::MAX));
    file.set_path("usr/b").unwrap();
    file.set_cksum();
    tar.truncate(tar.len() - 1024);
    tar.extend_from_slice(file.as_bytes());
    tar.extend_from_slice(&[0; 1024]);
    let error = refused(small(), tar).await;
    assert!(matches!(error, UnpackError::Owner(_)), "{error:?}");
}

/// A hundred megabytes of zeros in a hundred kilobytes.
#[tokio::test]
async fn compression_bombs() {
    let tar = base().file("zeros", &vec![0; 100 * 1024 * 1024]).done();
    let error = refused(Limits::default(), gzip(&tar)).await;
    assert!(matches!(error, UnpackError::Ratio { .. }), "{error:?}");
}

#[tokio::test]
async fn archives_that_are_cut_off_or_garbage() {
    let mut tar = base().file("usr/b", &[1; 5000]).done();
    tar.truncate(4000);
    let error = refused(small(), tar).await;
    assert!(matches!(error, UnpackError::Damaged(_)), "{error:?}");

    let mut compressed = gzip(&base().done());
    compressed.truncate(compressed.len() / 2);
    let error = refused(small(), compressed).await;
    assert!(matches!(error, UnpackError::Damaged(_)), "{error:?}");

    let error = refused(small(), vec![b'x'; 4096]).await;
    assert!(matches!(error, UnpackError::NotAnArchive), "{error:?}");
}
