//! A real server for tests: the built binary with a data folder and a port of its own, and nothing left of it afterwards.
//!
//! It can be killed and started again on the same port. Whatever a test does, dropping the [`Server`] ends every process that belongs to its
//! data folder and gives back its control groups; the pool's loop device goes with the last of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::chown;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::host::{self, Traces};
use crate::wait::until;

/// A debug build on a busy machine makes its pool, looks at its images and listens within this.
const START: Duration = Duration::from_secs(90);
const END: Duration = Duration::from_mins(1);
/// Of what the server said, this much is shown when a test fails.
const TAIL_BYTES: usize = 8 * 1024;

/// How to start a server.
#[derive(Debug, Clone)]
pub struct Launch {
    program: PathBuf,
    wrapper: Vec<OsString>,
    env: Vec<(String, String)>,
    uid: Option<u32>,
}

impl Launch {
    /// With this program file, as the user of the test.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            wrapper: Vec::new(),
            env: Vec::new(),
            uid: None,
        }
    }

    /// With this variable in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &impl ToString) -> Self {
        self.env.push((name.to_owned(), value.to_string()));
        self
    }

    /// As an ordinary user. Needs root.
    #[must_use]
    pub fn uid(mut self, uid: u32) -> Self {
        self.uid = Some(uid);
        self
    }

    /// Through another command, which must become the server (`exec`); the data folder is `$SKERRY_DATA_DIR`.
    #[must_use]
    pub fn wrapper<S: Into<OsString>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.wrapper = words.into_iter().map(Into::into).collect();
        self
    }

    /// Starts it, and returns once it takes work.
    pub fn start(self) -> Result<Server> {
        let folder = TempDir::with_prefix("skerry-test-")?;
        let data = folder.path().join("data");
        fs::create_dir(&data)?;
        let mut launch = self;
        if let Some(uid) = launch.uid {
            // Where that user can read it.
            let copy = folder.path().join("skerry");
            fs::copy(&launch.program, &copy).context("copying the program")?;
            launch.program = copy;
            for path in [folder.path(), &data] {
                chown(path, Some(uid), Some(uid))?;
            }
        }
        let mut server = Server {
            launch,
            folder,
            data,
            process: None,
            url: String::new(),
            key: String::new(),
        };
        server.start()?;
        Ok(server)
    }

    fn command(&self, data: &Path, listen: &str, log: File) -> Command {
        let mut words = self.wrapper.clone();
        if let Some(uid) = self.uid {
            words.extend(["setpriv", "--clear-groups"].map(OsString::from));
            words.extend([
                format!("--reuid={uid}").into(),
                format!("--regid={uid}").into(),
            ]);
        }
        words.push(self.program.clone().into());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(["up", "--listen", listen])
            .env("SKERRY_DATA_DIR", data)
            .env("HOME", data)
            // A test counts what is on the host.
            .env("SKERRY_READY", "0")
            .env("SKERRY_PREPARED", "0")
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        command
    }
}

/// A server that runs, or was killed and can be started again.
#[derive(Debug)]
pub struct Server {
    launch: Launch,
    folder: TempDir,
    data: PathBuf,
    process: Option<Child>,
    url: String,
    key: String,
}

impl Server {
    /// Where it listens: the same after each start.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The local key.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Its process.
    pub fn pid(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("the server is down")?.id())
    }

    /// A file below its data folder as the server sees it, which may have mounts of its own.
    pub fn path(&self, name: &str) -> PathBuf {
        let data = self.data.join(name);
        match &self.process {
            Some(child) => {
                let below = data.strip_prefix("/").unwrap_or(&data);
                PathBuf::from(format!("/proc/{}/root", child.id())).join(below)
            }
            None => data,
        }
    }

    /// What holds all that it wrote: its data folder and its log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The process of its spawner, if there is one.
    pub fn spawner(&self) -> Option<u32> {
        let pid = self.pid().ok()?;
        host::children(pid).into_iter().find(|&child| {
            let line = host::command_line(child);
            line.contains("internal spawner")
        })
    }

    /// Where the driver keeps its records: beside the volumes, which are in the pool if there is one.
    pub fn records(&self) -> PathBuf {
        let in_pool = self.path("pool/run");
        if in_pool.is_dir() {
            return in_pool;
        }
        self.path("run")
    }

    /// The first process of a sandbox, by its label, if the driver has one on record.
    pub fn agent(&self, label: &str) -> Option<u32> {
        let record = fs::read(self.records().join(label).join("state.json")).ok()?;
        let record: serde_json::Value = serde_json::from_slice(&record).ok()?;
        u32::try_from(record["agent"]["pid"].as_u64()?).ok()
    }

    /// The process that the life of each of its sandboxes hangs on, by the label of the sandbox's place: its first process, the kernel behind which
    /// it runs, or its machine.
    pub fn hearts(&self) -> BTreeMap<String, u32> {
        let labels = host::names(&self.records()).into_iter();
        let mut hearts: BTreeMap<String, u32> = labels
            .filter_map(|label| Some((label.clone(), self.agent(&label)?)))
            .collect();
        for (program, records) in [("runsc-sandbox", "gvisor"), ("skerry-vm:", "vm/run")] {
            let running = host::running(program);
            for label in host::names(&self.path(records)) {
                let of_it = running.iter().find(|(_, line)| line.contains(&label));
                hearts.extend(of_it.map(|(pid, _)| (label, *pid)));
            }
        }
        hearts.retain(|_, pid| host::is_alive(*pid));
        hearts
    }

    /// The CRIU that is at work for it, if one is.
    pub fn criu(&self) -> Option<u32> {
        let started = host::descendants(self.pid().ok()?);
        let mut started = started.into_iter();
        started.find(|&pid| host::command_line(pid).starts_with("criu "))
    }

    /// What there is of it and its sandboxes on this machine.
    pub fn traces(&self) -> Traces {
        Traces::of(&self.data, self.process.as_ref().map(Child::id))
    }

    /// Its own process, those it started, and those of its sandboxes.
    pub fn processes(&self) -> Vec<u32> {
        let server = self.process.as_ref().map(Child::id);
        let found = host::processes(&self.data, server);
        found.into_iter().map(|process| process.pid).collect()
    }

    /// Bytes of its memory that are in use.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.context("no VmRSS")?.parse::<u64>()? * 1024)
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.process.take().context("the server is down")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Takes away what a machine without power loses: every process of it and of its sandboxes, its mounts and control groups. Its files stay.
    pub fn cut_power(&mut self) -> Result<()> {
        let groups = host::all_groups(&self.data, Some(self.pid()?));
        self.kill()?;
        host::remove_all(&self.data, &groups);
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub fn end(&mut self) -> Result<ExitStatus> {
        let mut child = self.process.take().context("the server is down")?;
        host::signal(child.id(), "TERM");
        until(END, "the server ends", || Ok(child.try_wait()?)).inspect_err(|_| {
            let _gone = child.kill();
        })
    }

    /// Starts it again and returns once it takes work.
    pub fn start(&mut self) -> Result<()> {
        ensure!(self.process.is_none(), "the server runs");
        // One that was killed left its own.
        let _none = fs::remove_file(self.data.join("url"));
        let listen = self.url.strip_prefix("http://").unwrap_or("127.0.0.1:0");
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_file())?;
        let mut command = self.launch.command(&self.data, listen, log);
        self.process = Some(command.spawn().context("starting the server")?);
        self.url = until(START, "the server listens", || {
            self.still_runs()?;
            Ok(self.read("url").filter(|url| is_ready(url)))
        })?;
        self.key = self.read("key").context("the server made no key")?;
        Ok(())
    }

    /// The end of what it said.
    pub fn log(&self) -> String {
        let log = fs::read(self.log_file()).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(TAIL_BYTES)..];
        String::from_utf8_lossy(tail).into_owned()
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn still_runs(&mut self) -> Result<()> {
        let child = self.process.as_mut().context("the server is down")?;
        let Some(status) = child.try_wait()? else {
            return Ok(());
        };
        self.process = None;
        let how = status
            .signal()
            .map_or_else(|| status.to_string(), |s| format!("signal {s}"));
        bail!("the server ended by itself ({how}):\n{}", self.log());
    }

    fn read(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(name)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _written = writeln!(std::io::stderr(), "--- server ---\n{}", self.log());
        }
        // What only a server can see is asked for before it is gone.
        let server = self.process.as_ref().map(Child::id);
        let groups = host::all_groups(&self.data, server);
        if self.process.is_some() {
            let _gone = self.kill();
        }
        host::remove_all(&self.data, &groups);
    }
}

fn is_ready(url: &str) -> bool {
    let ask = || -> Result<bool> {
        let address = url.strip_prefix("http://").context("no http URL")?;
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(
            stream,
            "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}
