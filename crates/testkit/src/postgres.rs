//! A real PostgreSQL for tests: one cluster per test process, one database per test, on a Unix socket only.
//!
//! A guardian shell owns the cluster and waits for a pipe from this process to close, so that nothing is left however the tests end.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};

const GUARDIAN: &str = include_str!("postgres.sh");
const PROGRAMS: &str = "/usr/lib/postgresql";

/// A running cluster. Its guardian ends it when this process is gone.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    socket: PathBuf,
    databases: AtomicU32,
    _guardian: Child,
}

/// A URL of a fresh, empty database on this process's cluster; `None`, with a loud message, if PostgreSQL is not installed.
pub fn fresh_database() -> Result<Option<String>> {
    static CLUSTER: OnceLock<Result<Option<Postgres>, String>> = OnceLock::new();
    match CLUSTER.get_or_init(|| Postgres::start().map_err(|error| format!("{error:#}"))) {
        Ok(Some(cluster)) => cluster.database().map(Some),
        Ok(None) => Ok(None),
        Err(error) => bail!("PostgreSQL does not start: {error}"),
    }
}

impl Postgres {
    fn start() -> Result<Option<Self>> {
        let Some(bin) = programs() else {
            skip_loudly();
            return Ok(None);
        };
        let mut guardian = guardian(&bin)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the guardian shell")?;
        let stdout = guardian
            .stdout
            .take()
            .context("no stdout of the guardian")?;
        let mut socket = String::new();
        BufReader::new(stdout).read_line(&mut socket)?;
        let socket = PathBuf::from(socket.trim_end());
        ensure!(
            socket.is_absolute(),
            "the cluster did not come up; see above"
        );
        Ok(Some(Self {
            bin,
            socket,
            databases: AtomicU32::new(0),
            _guardian: guardian,
        }))
    }

    fn database(&self) -> Result<String> {
        let name = format!("t{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let socket = self.socket.to_str().context("socket path is not text")?;
        let made = Command::new(self.bin.join("createdb"))
            .args(["-h", socket, "-U", "postgres", &name])
            .output()?;
        ensure!(
            made.status.success(),
            "createdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        Ok(format!(
            "postgres://postgres@localhost/{name}?host={socket}"
        ))
    }
}

/// The newest installed release's programs.
fn programs() -> Option<PathBuf> {
    let releases = Path::new(PROGRAMS).read_dir().ok()?;
    releases
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("initdb").exists())
        .max()
}

/// The guardian as the user `postgres` where we are root, since PostgreSQL refuses to run as root.
fn guardian(bin: &Path) -> Command {
    let mut command = if am_root() {
        let mut setpriv = Command::new("setpriv");
        setpriv.args([
            "--reuid=postgres",
            "--regid=postgres",
            "--init-groups",
            "sh",
        ]);
        setpriv
    } else {
        Command::new("sh")
    };
    command.args(["-c", GUARDIAN, "postgres.sh"]).arg(bin);
    command
}

fn am_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

/// To the terminal itself: the test harness swallows what a passing test prints.
fn skip_loudly() {
    let text = "\n*** SKIPPED on PostgreSQL: it is not installed (no programs in /usr/lib/postgresql/*/bin) ***\n";
    let _written = std::io::stderr().write_all(text.as_bytes());
}
