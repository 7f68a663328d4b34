//! The journal through its public edge: what was appended is what every cursor reads, also after a crash.

use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;
use skerry_journal::{Entry, Journal, JournalError, Meter, Record, Stream};
use skerry_types::ExecId;

fn exec(n: u8) -> ExecId {
    ExecId::from_slice(&[n + 1; 16]).unwrap()
}

fn output(n: u8, exec_seq: u64, data: Vec<u8>) -> Record {
    Record::Output {
        exec: exec(n),
        exec_seq,
        stream: if exec_seq.is_multiple_of(2) {
            Stream::Stdout
        } else {
            Stream::Stderr
        },
        data: Bytes::from(data),
    }
}

fn read_all(mut next: impl FnMut() -> Vec<Entry>) -> Vec<Entry> {
    let mut all = Vec::new();
    loop {
        let batch = next();
        if batch.is_empty() {
            return all;
        }
        all.extend(batch);
    }
}

fn everything(path: &Path) -> Vec<Entry> {
    let mut reader = Journal::open(path, &Meter::default()).unwrap().reader(0);
    read_all(|| reader.next_batch().unwrap())
}

/// Each exec's records are numbered from 1, as the agent numbers them.
fn script(choices: &[(u8, Vec<u8>)]) -> Vec<Record> {
    let mut next = [1u64; 4];
    choices
        .iter()
        .map(|(n, data)| match n {
            0..4 => {
                let seq = next[*n as usize];
                next[*n as usize] += 1;
                output(*n, seq, data.clone())
            }
            _ => Record::exec_event("exec.note", exec(0), json!({ "bytes": data })),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_cursor_reads_what_was_appended(
        choices in prop::collection::vec((0u8..5, prop::collection::vec(any::<u8>(), 0..400)), 1..80),
        split in 1usize..9,
        after in 0u64..90,
        repeat in 1usize..40,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let journal = Journal::open(&path, &Meter::default()).unwrap();
        let choices: Vec<_> = std::iter::repeat_n(choices, repeat).flatten().collect();
        let records = script(&choices);
        for batch in records.chunks(split) {
            journal.append(batch).unwrap();
        }
        drop(journal);
        let journal = Journal::open(&path, &Meter::default()).unwrap();
        prop_assert_eq!(journal.last_seq(), records.len() as u64);

        let mut reader = journal.reader(after);
        let read = read_all(|| reader.next_batch().unwrap());
        let want: Vec<_> = (1u64..).zip(&records).filter(|(seq, _)| *seq > after).collect();
        prop_assert_eq!(read.len(), want.len());
        for (entry, (seq, record)) in read.iter().zip(want) {
            prop_assert_eq!(entry.seq, seq);
            prop_assert_eq!(&entry.record, record);
        }
        for n in 0..4 {
            let mut reader = journal.exec_reader(exec(n), after);
            let mine = |r: &&Record| r.exec() == Some(exec(n));
            let is_fresh = |r: &&Record| matches!(r, Record::Output { exec_seq, .. } if *exec_seq > after);
            let want: Vec<_> = records.iter().filter(mine).filter(is_fresh).cloned().collect();
            let read: Vec<_> = read_all(|| reader.next_batch().unwrap()).into_iter()
                .map(|e| e.record).filter(|r| matches!(r, Record::Output { .. })).collect();
            prop_assert_eq!(read, want);
        }
    }

    #[test]
    fn a_cut_at_any_byte_keeps_every_whole_record(
        sizes in prop::collection::vec(0usize..3000, 1..20),
        cut in any::<prop::sample::Index>(),
        damage: bool,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut ends = vec![0];
        {
            let journal = Journal::open(&path, &Meter::default()).unwrap();
            for (i, size) in sizes.iter().enumerate() {
                journal.append(&[output(0, i as u64 + 1, vec![i as u8; *size])]).unwrap();
                ends.push(journal.size());
            }
        }
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        let at = cut.index(*ends.last().unwrap() as usize) as u64;
        if damage {
            let byte = std::fs::read(&path).unwrap()[at as usize];
            file.write_all_at(&[!byte], at).unwrap();
        } else {
            file.set_len(at).unwrap();
        }
        let whole = ends.iter().filter(|e| **e <= at).count() - 1;
        prop_assert_eq!(everything(&path).len(), whole);
        let journal = Journal::open(&path, &Meter::default()).unwrap();
        prop_assert_eq!(journal.append(&[output(0, 99, vec![1])]).unwrap().last_seq, whole as u64 + 1);
        drop(journal);
        prop_assert_eq!(everything(&path).len(), whole + 1);
    }
}

#[tokio::test]
async fn a_follower_sees_each_append_once() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(&dir.path().join("log"), &Meter::default()).unwrap();
    let mut grown = journal.subscribe();
    let mut reader = journal.exec_reader(exec(0), 0);
    let writer = {
        let journal = journal.clone();
        tokio::task::spawn_blocking(move || {
            for seq in 1..=2000 {
                journal
                    .append(&[output(0, seq, vec![7; 1000]), output(1, seq, vec![8; 10])])
                    .unwrap();
            }
        })
    };
    let mut seen = 0;
    while seen < 2000 {
        grown.borrow_and_update();
        for entry in read_all(|| reader.next_batch().unwrap()) {
            let Record::Output { exec_seq, .. } = entry.record else {
                panic!("only output was written");
            };
            seen += 1;
            assert_eq!(exec_seq, seen);
        }
        if seen < 2000 {
            grown.changed().await.unwrap();
        }
    }
    writer.await.unwrap();
}

#[test]
fn a_reader_that_claims_to_have_all_there_will_ever_be_is_given_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(&folder.path().join("journal"), &Meter::default()).unwrap();
    journal.append(&[output(1, 1, b"text".to_vec())]).unwrap();
    let entries = journal.reader(u64::MAX).next_batch().unwrap();
    assert!(entries.is_empty());
    let entries = journal.exec_reader(exec(1), u64::MAX).next_batch().unwrap();
    assert!(entries.is_empty());
}

#[test]
fn a_record_that_no_reader_would_take_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let journal = Journal::open(&path, &Meter::default()).unwrap();
    journal.append(&[output(1, 1, b"before".to_vec())]).unwrap();
    let large = output(1, 2, vec![7; skerry_journal::MAX_RECORD_BYTES + 1]);
    let refused = journal.append(&[output(1, 2, b"with it".to_vec()), large]);
    assert!(matches!(refused, Err(JournalError::TooLarge)));
    journal.append(&[output(1, 2, b"after".to_vec())]).unwrap();
    drop(journal);
    assert_eq!(everything(&path).len(), 2);
}
