//! Paths as these clients write them: absolute, below `~`, or relative to the user's home.

use skerry_types::{Error, ErrorCode, Result};

use super::inside::Inside;

/// Where a path leads for this user.
pub(crate) async fn resolve(inside: &Inside, user: Option<&str>, path: &str) -> Result<String> {
    if path.starts_with('/') && user.is_none() {
        return Ok(clean(path));
    }
    let found = inside.node.find_user(inside.sandbox, user).await;
    let home = found.map_err(|error| no_user(error, user))?.home;
    match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => Ok(clean(&(home + rest))),
        Some(_) => Err(Error::validation(
            "the homes of other users are not looked up",
        )),
        None if path.starts_with('/') => Ok(clean(path)),
        None => Ok(clean(&format!("{home}/{path}"))),
    }
}

/// What clients know a user by that is not there.
pub(crate) fn no_user(error: Error, user: Option<&str>) -> Error {
    match (error.code, user) {
        (ErrorCode::NotFound, Some(user)) => Error::new(
            ErrorCode::Unauthorized,
            format!("invalid username: '{user}'"),
        ),
        _ => error,
    }
}

/// Without doubled slashes and dots, and without looking at what is there.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn paths_are_cleaned_by_their_words() {
        for (path, wanted) in [
            ("/", "/"),
            ("//a///b/", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/../..", "/"),
            ("/home/user/", "/home/user"),
            ("/a/..b/...", "/a/..b/..."),
        ] {
            assert_eq!(clean(path), wanted);
        }
    }
}
