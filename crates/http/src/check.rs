//! Input that is wrong whatever it is for. What depends on who asks is checked in control.

use skerry_api::{Map, RegistryLogin, Signal};
use skerry_proto::node::{Command, StartExec};
use skerry_types::{Error, ErrorCode, Result, limits};

/// A path in a sandbox.
pub(crate) fn path(path: &str) -> Result<&str> {
    if path.len() > limits::MAX_PATH_BYTES {
        let most = limits::MAX_PATH_BYTES;
        return Err(Error::validation(format!("path: longer than {most} bytes")));
    }
    if !path.starts_with('/') || path.contains('\0') {
        return Err(Error::validation("path: must be absolute, without NUL")
            .with_hint("write it from the root, such as /home/user/file"));
    }
    Ok(path)
}

/// Refuses a command that no kernel would run, or of which something is too much.
pub fn start(start: &StartExec) -> Result<()> {
    command(&start.command)?;
    cwd(start.cwd.as_deref())?;
    env(&start.env)?;
    let tag = start.tag.as_deref().unwrap_or_default();
    if tag.len() > limits::MAX_TAG_BYTES {
        let most = limits::MAX_TAG_BYTES;
        return Err(Error::validation(format!("tag: more than {most} bytes")));
    }
    Ok(())
}

fn command(command: &Command) -> Result<()> {
    let (bytes, bad) = match command {
        Command::Shell(script) => (script.len(), script.is_empty() || script.contains('\0')),
        Command::Argv(argv) => (
            argv.iter().map(|arg| arg.len() + 1).sum(),
            argv.first().is_none_or(String::is_empty) || argv.iter().any(|a| a.contains('\0')),
        ),
    };
    if bad {
        return Err(Error::validation(
            "cmd: must name a command and have no NUL",
        ));
    }
    if bytes > limits::MAX_COMMAND_BYTES {
        let most = limits::MAX_COMMAND_BYTES;
        return Err(Error::validation(format!("cmd: more than {most} bytes"))
            .with_hint("write it to a file and run that"));
    }
    Ok(())
}

/// A working directory, if there is one.
pub(crate) fn cwd(cwd: Option<&str>) -> Result<()> {
    cwd.map_or(Ok(()), |cwd| path(cwd).map(drop).map_err(|e| rename(&e)))
}

fn rename(error: &Error) -> Error {
    Error::validation(error.message.replacen("path", "cwd", 1))
}

/// A map of environment variables.
pub(crate) fn env(env: &Map) -> Result<()> {
    if env.len() > limits::MAX_MAP_ENTRIES {
        let most = limits::MAX_MAP_ENTRIES;
        return Err(Error::validation(format!("env: more than {most} entries")));
    }
    let bytes: usize = env.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > limits::MAX_ENV_BYTES {
        let most = limits::MAX_ENV_BYTES;
        return Err(Error::validation(format!("env: more than {most} bytes")));
    }
    // The value is left out of the message: it may be a secret.
    match env.iter().find(|(name, value)| !is_variable(name, value)) {
        Some((name, _)) => Err(Error::validation(format!(
            "env.{name}: names are not empty and have no `=`; neither side has a NUL"
        ))),
        None => Ok(()),
    }
}

fn is_variable(name: &str, value: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0']) && !value.contains('\0')
}

/// A login at a registry, as a header can carry it. What it is stays out of the message.
pub(crate) fn login(login: &RegistryLogin) -> Result<()> {
    const MOST_NAME: usize = 256;
    const MOST_PASSWORD: usize = 16 * 1024;
    let RegistryLogin { username, password } = login;
    if !(1..=MOST_NAME).contains(&username.len()) || username.contains(':') {
        return Err(Error::validation(format!(
            "login.username: must have 1 to {MOST_NAME} bytes and no colon"
        )));
    }
    if !(1..=MOST_PASSWORD).contains(&password.len()) {
        return Err(Error::validation(format!(
            "login.password: must have 1 to {MOST_PASSWORD} bytes"
        )));
    }
    Ok(())
}

/// The number of a signal.
pub(crate) fn signal(signal: &Signal) -> Result<i32> {
    const NAMES: [(&str, i32); 16] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("TRAP", 5),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("SEGV", 11),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("CONT", 18),
        ("STOP", 19),
        ("TSTP", 20),
        ("WINCH", 28),
    ];
    let number = match signal {
        Signal::Number(number) => (1..=64).contains(number).then_some(*number),
        Signal::Name(name) => {
            let upper = name.to_ascii_uppercase();
            let short = upper.strip_prefix("SIG").unwrap_or(&upper);
            NAMES.iter().find(|(n, _)| *n == short).map(|(_, n)| *n)
        }
    };
    number.ok_or_else(|| {
        let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
        Error::validation("signal: no such signal")
            .with_hint(format!("a number 1 to 64, or one of {}", names.join(", ")))
    })
}

/// A whole number of seconds within bounds.
pub(crate) fn seconds(field: &str, value: u64, most: u64) -> Result<u64> {
    if (1..=most).contains(&value) {
        return Ok(value);
    }
    let text = format!("{field} is {value}; it must be 1 to {most}");
    Err(Error::validation(text).with_hint(format!("leave {field} out for the usual time")))
}

/// The size of a page.
pub(crate) fn limit(limit: Option<u32>) -> Result<u32> {
    match limit.unwrap_or(limits::DEFAULT_PAGE) {
        limit @ 1..=limits::MAX_PAGE => Ok(limit),
        limit => Err(Error::validation(format!(
            "limit is {limit}; it must be 1 to {}",
            limits::MAX_PAGE
        ))),
    }
}

/// The error for a cursor that no page of ours ended with.
pub(crate) fn bad_cursor() -> Error {
    Error::new(ErrorCode::BadRequest, "cursor: not one of ours")
}

/// A cursor that is a number.
pub(crate) fn number_cursor(cursor: Option<&str>) -> Result<u64> {
    cursor.map_or(Ok(0), |text| text.parse().map_err(|_| bad_cursor()))
}
