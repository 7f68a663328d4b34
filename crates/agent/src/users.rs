//! Who is who in the sandbox, from its own `/etc/passwd` and `/etc/group`, without any library of the image.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

/// More of a user file than this is not read: it is the sandbox's to write.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// The kernel's own limit is far higher; nobody real needs more.
const MAX_GROUPS: usize = 256;

/// A user as far as it is known; numbers always, names where the files have them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Supplementary groups.
    pub(crate) groups: Vec<u32>,
    pub(crate) name: String,
    pub(crate) home: Option<String>,
    pub(crate) shell: Option<String>,
}

/// Why a user cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("no user {0:?} in /etc/passwd")]
    NoUser(String),
    #[error("no group {0:?} in /etc/group")]
    NoGroup(String),
}

/// A snapshot of the two files.
#[derive(Debug, Default)]
pub(crate) struct Users {
    passwd: String,
    group: String,
}

impl Users {
    /// Reads the files; one that is missing or strange has no entries.
    pub(crate) fn load() -> Self {
        Self {
            passwd: read("/etc/passwd").unwrap_or_default(),
            group: read("/etc/group").unwrap_or_default(),
        }
    }

    /// Finds `name`, `uid`, `name:group` or `uid:gid`; nothing means uid 0.
    pub(crate) fn find(&self, spec: &str) -> Result<User, UserError> {
        let (name, group) = match spec.split_once(':') {
            Some((name, group)) => (name, Some(group)),
            None => (spec, None),
        };
        let mut user = self.user(if name.is_empty() { "0" } else { name })?;
        if let Some(group) = group {
            user.gid = self.gid(group)?;
        }
        Ok(user)
    }

    /// The name of a uid, or its number.
    pub(crate) fn owner(&self, uid: u32) -> String {
        name_of(&self.passwd, uid)
    }

    /// The name of a gid, or its number.
    pub(crate) fn group(&self, gid: u32) -> String {
        name_of(&self.group, gid)
    }

    fn user(&self, name: &str) -> Result<User, UserError> {
        let number = name.parse::<u32>().ok();
        for line in self.passwd.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let &[entry, _, uid, gid, _, home, shell] = fields.as_slice() else {
                continue;
            };
            let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else {
                continue;
            };
            if entry == name || number == Some(uid) {
                return Ok(User {
                    uid,
                    gid,
                    groups: self.groups_of(entry),
                    name: entry.to_owned(),
                    home: not_empty(home),
                    shell: not_empty(shell),
                });
            }
        }
        let uid = number.ok_or_else(|| UserError::NoUser(name.to_owned()))?;
        Ok(stranger(uid))
    }

    fn gid(&self, name: &str) -> Result<u32, UserError> {
        if let Ok(gid) = name.parse() {
            return Ok(gid);
        }
        self.group
            .lines()
            .filter_map(group_line)
            .find(|(entry, _, _)| *entry == name)
            .map(|(_, gid, _)| gid)
            .ok_or_else(|| UserError::NoGroup(name.to_owned()))
    }

    fn groups_of(&self, name: &str) -> Vec<u32> {
        self.group
            .lines()
            .filter_map(group_line)
            .filter(|(_, _, members)| members.split(',').any(|member| member == name))
            .map(|(_, gid, _)| gid)
            .take(MAX_GROUPS)
            .collect()
    }
}

/// A uid without an entry; uid 0 is root even where there is no `/etc` at all.
fn stranger(uid: u32) -> User {
    let root = uid == 0;
    User {
        uid,
        gid: uid,
        groups: Vec::new(),
        name: if root {
            "root".to_owned()
        } else {
            uid.to_string()
        },
        home: root.then(|| "/root".to_owned()),
        shell: None,
    }
}

fn group_line(line: &str) -> Option<(&str, u32, &str)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    let gid = fields.nth(1)?.parse().ok()?;
    Some((name, gid, fields.next()?))
}

fn name_of(file: &str, number: u32) -> String {
    let wanted = number.to_string();
    file.lines()
        .find(|line| line.split(':').nth(2) == Some(wanted.as_str()))
        .and_then(|line| line.split(':').next())
        .map_or(wanted.clone(), str::to_owned)
}

fn not_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Reads a regular file and nothing else: a pipe put in its place must not stop the agent.
fn read(path: &str) -> Option<String> {
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        Users {
            passwd: "broken\nroot:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000::/home/user:\nbad:x:no:1::/:/\n".into(),
            group: "root:x:0:\nuser:x:1000:\nsudo:x:27:other,user\nusers:x:100:users\n".into(),
        }
    }

    #[test]
    fn every_way_to_name_a_user() {
        let users = users();
        let user = users.find("user").unwrap();
        assert_eq!(
            (user.uid, user.gid, &user.groups[..]),
            (1000, 1000, &[27][..])
        );
        assert_eq!(
            (user.home.as_deref(), user.shell),
            (Some("/home/user"), None)
        );
        assert_eq!(users.find("1000").unwrap().name, "user");
        assert_eq!(users.find("").unwrap().name, "root");
        assert_eq!(users.find("user:sudo").unwrap().gid, 27);
        assert_eq!(users.find("7:8").unwrap().gid, 8);
        assert_eq!(users.find("bob"), Err(UserError::NoUser("bob".into())));
        assert_eq!(users.find("user:no"), Err(UserError::NoGroup("no".into())));
    }

    #[test]
    fn without_any_file_numbers_work() {
        let users = Users::default();
        assert_eq!(users.find("").unwrap().home.as_deref(), Some("/root"));
        assert_eq!(users.find("1234").unwrap().gid, 1234);
        assert_eq!(users.owner(5), "5");
    }
}
