//! From what the node asks to what can be started: the user, the environment, the program, the place.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use skerry_proto::agent::EnvVar;

use crate::exec::spawn::Step;
use crate::users::{User, UserError, Users};

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a command never ran; the text goes to the person who asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the command is empty")]
    Empty,
    #[error("the command, its environment or its directory contains a NUL byte")]
    Nul,
    #[error("{0:?} is no name for an environment variable")]
    EnvName(OsString),
    #[error(transparent)]
    User(#[from] UserError),
    #[error("cwd {} does not exist", .0.display())]
    NoCwd(PathBuf),
    #[error("cwd {} is not a directory", .0.display())]
    CwdNotDirectory(PathBuf),
    #[error("command not found: {}", .0.display())]
    NotFound(PathBuf),
    #[error("permission denied: {} is not an executable file", .0.display())]
    NotExecutable(PathBuf),
    #[error("cannot start {}: {step}: {source}", .program.display())]
    Spawn {
        program: PathBuf,
        step: Step,
        source: std::io::Error,
    },
    #[error("no terminal: {0}")]
    Terminal(std::io::Error),
    #[error("no pipes: {0}")]
    Pipes(std::io::Error),
    #[error("{0} commands run already, the most there may be")]
    TooMany(usize),
    #[error("there is no such session")]
    NoSession,
    #[error("the session is busy with another command")]
    SessionBusy,
    #[error("a command in a session has no terminal of its own")]
    SessionTerminal,
    #[error("a command in a session is one script")]
    SessionArgv,
}

/// Something that can be started.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) program: PathBuf,
    pub(crate) argv: Vec<OsString>,
    pub(crate) env: BTreeMap<OsString, OsString>,
    pub(crate) cwd: CString,
    pub(crate) user: User,
}

impl Command {
    /// Looks everything up, as the sandbox is now.
    pub(crate) fn resolve(
        argv: &[Bytes],
        env: &[EnvVar],
        cwd: &Bytes,
        user: &str,
    ) -> Result<Self, StartError> {
        let argv = argv.iter().map(os_string).collect::<Result<Vec<_>, _>>()?;
        let user = Users::load().find(user)?;
        let cwd = directory(cwd, &user)?;
        let env = environment(env, &user)?;
        let path = env.get(OsStr::new("PATH")).cloned().unwrap_or_default();
        let program = find_program(argv.first().ok_or(StartError::Empty)?, &path, &cwd)?;
        let cwd = CString::new(cwd.into_os_string().into_vec()).map_err(|_| StartError::Nul)?;
        Ok(Self {
            program,
            argv,
            env,
            cwd,
            user,
        })
    }

    /// Calls the program by its last name only, as people know it from messages.
    pub(crate) fn shorten_name(&mut self) {
        if let (Some(arg0), Some(name)) = (self.argv.first_mut(), self.program.file_name()) {
            name.clone_into(arg0);
        }
    }
}

pub(crate) fn os_string(bytes: &Bytes) -> Result<OsString, StartError> {
    if bytes.contains(&0) {
        return Err(StartError::Nul);
    }
    Ok(OsString::from_vec(bytes.to_vec()))
}

fn environment(env: &[EnvVar], user: &User) -> Result<BTreeMap<OsString, OsString>, StartError> {
    let mut all = BTreeMap::new();
    for var in env {
        let name = os_string(&var.name)?;
        if name.is_empty() || name.as_bytes().contains(&b'=') {
            return Err(StartError::EnvName(name));
        }
        all.insert(name, os_string(&var.value)?);
    }
    let defaults = [
        ("HOME", user.home.as_deref().unwrap_or("/")),
        ("USER", user.name.as_str()),
        ("LOGNAME", user.name.as_str()),
        ("PATH", DEFAULT_PATH),
        ("SHELL", user.shell.as_deref().unwrap_or("/bin/sh")),
    ];
    for (name, value) in defaults {
        all.entry(name.into()).or_insert_with(|| value.into());
    }
    Ok(all)
}

fn directory(cwd: &Bytes, user: &User) -> Result<PathBuf, StartError> {
    if cwd.is_empty() {
        let home = user.home.as_deref().map(PathBuf::from);
        return Ok(home.filter(|home| home.is_dir()).unwrap_or("/".into()));
    }
    let cwd = PathBuf::from(os_string(cwd)?);
    match fs::metadata(&cwd) {
        Ok(found) if found.is_dir() => Ok(cwd),
        Ok(_) => Err(StartError::CwdNotDirectory(cwd)),
        Err(_) => Err(StartError::NoCwd(cwd)),
    }
}

/// Looks a program up as a shell would: with a slash it is a path, otherwise each folder of `PATH` in turn.
fn find_program(name: &OsStr, path: &OsStr, cwd: &Path) -> Result<PathBuf, StartError> {
    if name.is_empty() {
        return Err(StartError::Empty);
    }
    if name.as_bytes().contains(&b'/') {
        let program = cwd.join(name);
        return match fs::metadata(&program) {
            Ok(found) if is_program(&found) => Ok(program),
            Ok(_) => Err(StartError::NotExecutable(name.into())),
            Err(_) => Err(StartError::NotFound(name.into())),
        };
    }
    let mut refused = None;
    for folder in std::env::split_paths(path) {
        let program = cwd.join(folder).join(name);
        match fs::metadata(&program) {
            Ok(found) if is_program(&found) => return Ok(program),
            Ok(found) if found.is_file() => refused = Some(program),
            Ok(_) | Err(_) => {}
        }
    }
    Err(match refused {
        Some(program) => StartError::NotExecutable(program),
        None => StartError::NotFound(name.into()),
    })
}

fn is_program(found: &fs::Metadata) -> bool {
    found.is_file() && found.permissions().mode() & 0o111 != 0
}
