//! The changes that are made to what CRIU wrote: in which namespaces a copy wakes up, that there is but one of mounts, and that it has another address.
//!
//! CRIU makes those namespaces of the first process that differ from its own when it kept it. A copy gets all but the process numbers from the
//! spawner, so the images are made to say that they were CRIU's own. An image is a magic number or two, then messages, each after its length.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;

use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_key, encode_varint, skip_field,
};
use prost::{DecodeError, Message};

const LENGTH: usize = 4;
/// Of the inventory there is one magic number, of every other image there are two.
const INVENTORY_HEADER: usize = 4;
const HEADER: usize = 8;
/// Of the image of open files, which is read whole: some hundred thousand of them.
const MAX_FILES_BYTES: u64 = 64 << 20;
/// Where an internet socket is bound: a number for each four bytes of the address, as they lie in memory.
const BOUND_TO: u32 = 11;

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

/// An open file, if it is a socket of one of these kinds; it has nothing else then.
#[derive(Clone, PartialEq, Message)]
struct OpenFile {
    #[prost(int32, required, tag = "1")]
    kind: i32,
    #[prost(uint32, required, tag = "2")]
    id: u32,
    #[prost(bytes = "vec", optional, tag = "4")]
    internet: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "16")]
    unix: Option<Vec<u8>>,
}

/// What of a unix socket is added to it: the mount that its name is on, by number. There is none of -1, and so it is not looked for.
#[derive(Clone, PartialEq, Message)]
struct OnMount {
    #[prost(sint32, optional, tag = "17")]
    mount: Option<i32>,
}

/// Makes the sockets in this folder's images wake up among the mounts and at the address that they are restored with. Names are looked for on mounts
/// of CRIU, which were not kept; what was bound to the address `own` is bound to all that the copy has.
pub(super) fn open_sockets_where_restored(folder: &Path, own: Option<Ipv4Addr>) -> io::Result<()> {
    let path = folder.join("files.img");
    if fs::metadata(&path)?.len() > MAX_FILES_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let image = fs::read(&path)?;
    let mut changed = image.get(..HEADER).ok_or_else(cut_off)?.to_vec();
    let mut rest = &image[HEADER..];
    while !rest.is_empty() {
        let entry = message(rest, 0)?;
        rest = &rest[LENGTH + entry.len()..];
        let entry = changed_socket(entry, own)?.unwrap_or_else(|| entry.to_vec());
        let length = u32::try_from(entry.len()).map_err(io::Error::other)?;
        changed.extend(length.to_le_bytes());
        changed.extend(entry);
    }
    fs::write(path, changed)
}

/// `None`: nothing is to be changed.
fn changed_socket(entry: &[u8], own: Option<Ipv4Addr>) -> io::Result<Option<Vec<u8>>> {
    let mut file = OpenFile::decode(entry)?;
    match (&mut file.unix, &mut file.internet, own) {
        (Some(socket), _, _) => socket.extend(OnMount { mount: Some(-1) }.encode_to_vec()),
        (None, Some(socket), Some(own)) => *socket = bound_to_all(socket, own)?,
        _ => return Ok(None),
    }
    Ok(Some(file.encode_to_vec()))
}

fn bound_to_all(socket: &[u8], own: Ipv4Addr) -> Result<Vec<u8>, DecodeError> {
    let own = u64::from(u32::from_ne_bytes(own.octets()));
    let mut changed = Vec::with_capacity(socket.len());
    let mut rest = socket;
    while !rest.is_empty() {
        let field = rest;
        let (tag, kind) = decode_key(&mut rest)?;
        let mut value = rest;
        skip_field(kind, tag, &mut rest, DecodeContext::default())?;
        let is_address = (tag, kind) == (BOUND_TO, WireType::Varint);
        if is_address && decode_varint(&mut value)? == own {
            encode_key(tag, kind, &mut changed);
            encode_varint(0, &mut changed);
        } else {
            changed.extend(&field[..field.len() - rest.len()]);
        }
    }
    Ok(changed)
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

fn cut_off() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

/// The first message of an image.
fn message(image: &[u8], header: usize) -> io::Result<&[u8]> {
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

    #[derive(Clone, PartialEq, Message)]
    struct Internet {
        #[prost(uint32, repeated, packed = "false", tag = "11")]
        bound_to: Vec<u32>,
        #[prost(uint32, repeated, packed = "false", tag = "12")]
        connected_to: Vec<u32>,
        #[prost(bytes = "vec", tag = "13")]
        other: Vec<u8>,
    }

    #[test]
    fn what_was_bound_to_the_own_address_is_bound_to_all_and_the_rest_stays() {
        let own = Ipv4Addr::new(10, 1, 2, 3);
        let word = u32::from_ne_bytes(own.octets());
        let socket = |bound_to| Internet {
            bound_to,
            connected_to: vec![word],
            other: vec![88, 1],
        };
        let after = |before: Vec<u32>| {
            let changed = bound_to_all(&socket(before).encode_to_vec(), own).unwrap();
            Internet::decode(&changed[..]).unwrap()
        };
        assert_eq!(after(vec![word]), socket(vec![0]));
        assert_eq!(after(vec![0, 0, 7, word]), socket(vec![0, 0, 7, 0]));
        assert_eq!(after(vec![word - 1]), socket(vec![word - 1]));
        bound_to_all(&[88], own).unwrap_err();
    }

    #[test]
    fn unix_sockets_are_on_no_mount_and_other_files_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let socket = OpenFile {
            kind: 5,
            id: 1,
            internet: None,
            unix: Some(OnMount { mount: Some(145) }.encode_to_vec()),
        };
        // A field that is not known here.
        let other = [&[8, 1, 16, 2][..], &[26, 1, 7]].concat();
        let entries = [socket.encode_to_vec(), other.clone()];
        let behind: Vec<u8> = entries.iter().flat_map(|entry| image(0, entry)).collect();
        let path = folder.path().join("files.img");
        fs::write(&path, [&[7; HEADER][..], &behind].concat()).unwrap();
        open_sockets_where_restored(folder.path(), None).unwrap();
        let after = fs::read(path).unwrap();
        let first = message(&after, HEADER).unwrap();
        let socket = OpenFile::decode(first).unwrap().unix.unwrap();
        let mount = OnMount::decode(&socket[..]).unwrap().mount;
        assert_eq!(mount, Some(-1));
        let second = message(&after, HEADER + LENGTH + first.len()).unwrap();
        assert_eq!(second, other);
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
