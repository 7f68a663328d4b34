//! The one change that is made to what CRIU wrote: in which namespaces a copy wakes up.
//!
//! CRIU makes those namespaces of the first process that differ from its own when it kept it. A copy gets all but the process numbers from the
//! spawner, so the images are made to say that they were CRIU's own. An image is a magic number or two, then messages, each after its length.

use std::fs;
use std::io;
use std::path::Path;

use prost::Message;

const LENGTH: usize = 4;
/// Of the inventory there is one magic number, of every other image there are two.
const INVENTORY_HEADER: usize = 4;
const HEADER: usize = 8;

/// What a process shares with whom, by number.
#[derive(Clone, PartialEq, Message)]
struct Ids {
    #[prost(uint32, required, tag = "1")]
    memory: u32,
    #[prost(uint32, required, tag = "2")]
    files: u32,
    #[prost(uint32, required, tag = "3")]
    folders: u32,
    #[prost(uint32, required, tag = "4")]
    handlers: u32,
    #[prost(uint32, optional, tag = "5")]
    processes: Option<u32>,
    #[prost(uint32, optional, tag = "6")]
    network: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    ipc: Option<u32>,
    #[prost(uint32, optional, tag = "8")]
    names: Option<u32>,
    #[prost(uint32, optional, tag = "9")]
    mounts: Option<u32>,
    #[prost(uint32, optional, tag = "10")]
    users: Option<u32>,
    #[prost(uint32, optional, tag = "11")]
    groups: Option<u32>,
    #[prost(uint32, optional, tag = "12")]
    clocks: Option<u32>,
}

/// What of the inventory is added to it: the last word counts.
#[derive(Clone, PartialEq, Message)]
struct Addition {
    #[prost(message, optional, tag = "3")]
    own: Option<Ids>,
}

/// Makes the images in this folder wake up in the namespaces that they are restored from, but for the process numbers.
pub(super) fn wake_where_restored(folder: &Path) -> io::Result<()> {
    let ids = fs::read(folder.join("ids-1.img"))?;
    let first = message(&ids, HEADER)?;
    let addition = Addition {
        own: Some(all_but_processes(&Ids::decode(first)?)),
    };
    let path = folder.join("inventory.img");
    let inventory = fs::read(&path)?;
    let mut entry = message(&inventory, INVENTORY_HEADER)?.to_vec();
    entry.extend(addition.encode_to_vec());
    let length = u32::try_from(entry.len()).map_err(io::Error::other)?;
    let parts = [
        &inventory[..INVENTORY_HEADER],
        &length.to_le_bytes(),
        &entry,
    ];
    fs::write(path, parts.concat())
}

/// Of what is not a namespace, nothing is shared; 0 is nobody's number.
fn all_but_processes(first: &Ids) -> Ids {
    Ids {
        memory: 0,
        files: 0,
        folders: 0,
        handlers: 0,
        processes: Some(0),
        ..*first
    }
}

/// The first message of an image.
fn message(image: &[u8], header: usize) -> io::Result<&[u8]> {
    let cut_off = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let rest = image.get(header..).ok_or_else(cut_off)?;
    let (length, rest) = rest.split_first_chunk::<LENGTH>().ok_or_else(cut_off)?;
    rest.get(..u32::from_le_bytes(*length) as usize)
        .ok_or_else(cut_off)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(first: u32) -> Ids {
        Ids {
            memory: first,
            files: first,
            folders: first,
            handlers: first,
            processes: Some(first),
            network: Some(first),
            ipc: Some(first),
            names: Some(first),
            mounts: Some(first),
            users: Some(first),
            groups: Some(first),
            clocks: Some(first),
        }
    }

    fn image(header: usize, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap();
        [&vec![7; header], &length.to_le_bytes()[..], message].concat()
    }

    #[test]
    fn all_namespaces_but_the_process_numbers_become_the_restorers() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("ids-1.img"), image(8, &ids(9).encode_to_vec())).unwrap();
        let before = Addition { own: Some(ids(1)) };
        // Version 2, a field that is not known here.
        let entry = [&[8, 2][..], &before.encode_to_vec()].concat();
        fs::write(at("inventory.img"), image(4, &entry)).unwrap();
        wake_where_restored(folder.path()).unwrap();
        let after = fs::read(at("inventory.img")).unwrap();
        let entry = message(&after, 4).unwrap();
        assert_eq!(entry[..2], [8, 2]);
        let own = Addition::decode(entry).unwrap().own.unwrap();
        assert_eq!(own, all_but_processes(&ids(9)));
        fs::write(at("ids-1.img"), b"short").unwrap();
        wake_where_restored(folder.path()).unwrap_err();
    }
}
