//! Writing an initial file system: cpio's "newc" format, as the kernel unpacks it.

use std::fmt::Write as _;

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const DATA: u32 = 0o100_644;
const NODE: u32 = 0o020_600;
const ALIGNMENT: usize = 4;

/// An archive being written.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds an empty folder. Its parent must be there.
    pub(crate) fn folder(&mut self, path: &str) {
        self.entry(path, FOLDER, (0, 0), &[]);
    }

    /// Adds a program.
    pub(crate) fn program(&mut self, path: &str, content: &[u8]) {
        self.entry(path, PROGRAM, (0, 0), content);
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(path, DATA, (0, 0), content);
    }

    /// Adds a character device by its numbers.
    pub(crate) fn node(&mut self, path: &str, device: (u32, u32)) {
        self.entry(path, NODE, device, &[]);
    }

    /// Ends it.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, (major, minor): (u32, u32), content: &[u8]) {
        self.entries += 1;
        let (size, name_size) = (content.len() as u32, path.len() as u32 + 1);
        // Number, mode, user, group, links, time, size, two device numbers of where it lies, two of what it is, length of its name, checksum.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            major,
            minor,
            name_size,
            0,
        ];
        let header = fields.iter().fold("070701".to_owned(), |mut text, field| {
            // Writing to a string cannot fail.
            let _: std::fmt::Result = write!(text, "{field:08x}");
            text
        });
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes
            .resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_contents_stand_on_words() {
        let mut archive = Archive::default();
        archive.folder("d");
        archive.file("d/f", b"hello");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % ALIGNMENT, 0);
        let text = String::from_utf8_lossy(&bytes);
        let headers: Vec<usize> = text.match_indices("070701").map(|(at, _)| at).collect();
        assert_eq!(headers.len(), 3);
        assert!(headers.iter().all(|at| at % ALIGNMENT == 0));
        // Size is the seventh field.
        assert_eq!(&text[headers[1] + 6 + 6 * 8..][..8], "00000005");
    }
}
