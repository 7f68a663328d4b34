//! A server of its own for each test, and the built command line in front of it.

use std::io::Write;
use std::process::{Child, Command, Output, Stdio};

use skerry_testkit::server::{Launch, Server};
use tempfile::TempDir;

pub(crate) const SKERRY: &str = env!("CARGO_BIN_EXE_skerry");

/// The command line with nothing of the environment of the test.
pub(crate) fn skerry(home: &TempDir) -> Command {
    let mut command = Command::new(SKERRY);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home.path())
        .env("SKERRY_DATA_DIR", home.path().join("none"))
        .stdin(Stdio::null());
    command
}

/// See the module.
pub(crate) struct Bed {
    pub(crate) server: Server,
    pub(crate) home: TempDir,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with(Launch::new(SKERRY))
    }

    pub(crate) fn with(launch: Launch) -> Self {
        Self {
            server: launch.start().unwrap(),
            home: TempDir::new().unwrap(),
        }
    }

    /// A command that finds the server as people's do: by the files in its data folder.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = skerry(&self.home);
        command
            .args(args)
            .env("SKERRY_DATA_DIR", self.server.path(""))
            .current_dir(self.home.path());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }

    /// Of a command that must work: what it wrote to stdout, without the last line's end.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.stderr);
        ran.stdout.trim_end().to_owned()
    }

    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.ok(&[args, &["--json"]].concat())).unwrap()
    }

    /// With this on stdin.
    pub(crate) fn fed(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut child = self.spawn(args);
        let mut stdin = child.stdin.take().unwrap();
        // Beside the reading: a program that answers as it reads fills its pipe.
        std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input).unwrap());
            Ran::of(child.wait_with_output().unwrap())
        })
    }

    /// Started, with pipes on all three.
    pub(crate) fn spawn(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// What several commands say, one after another, as on a screen.
    pub(crate) fn screen(&self, commands: &[&[&str]]) -> String {
        let shown = commands.iter().map(|args| self.run(args).shown(args));
        shown.collect::<Vec<_>>().join("\n")
    }
}

/// What came of a command.
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) bytes: Vec<u8>,
}

impl Ran {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            bytes: output.stdout,
        }
    }

    pub(crate) fn shown(&self, args: &[&str]) -> String {
        let code = match self.code {
            0 => String::new(),
            code => format!("(exit {code})\n"),
        };
        format!(
            "$ skerry {}\n{}{}{code}",
            args.join(" "),
            self.stdout,
            self.stderr
        )
    }
}

/// Compares with the snapshot, with all that differs from run to run taken out.
pub(crate) fn assert_screen(name: &str, screen: &str) {
    let mut settings = insta::Settings::clone_current();
    for (pattern, name) in [
        (r"\b(sb|ex|sess|req)_[0-9A-Za-z]{22}\b", "${1}_ID"),
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z", "TIME"),
        (r"(?m)^\d\d:\d\d:\d\d\.\d{3}", "TIME"),
        (r"\b\d+ ms\b|\b\d+\.\d\d s\b", "DURATION"),
        (r"\b\d+(\.\d)? (B|[KMG]iB)\b", "SIZE"),
        (r"  \d+[smh]  ", "  AGE  "),
        (r"http://127\.0\.0\.1:\d+/?", "URL"),
        (r"/tmp/\.tmp\w+", "HOME"),
        // Where it fails at once, the step may be over before it is told.
        (r"(?m)^resolving .*\n", ""),
        // Columns are as wide as what stood in them.
        (" {2,}", "  "),
    ] {
        settings.add_filter(pattern, name);
    }
    settings.set_omit_expression(true);
    settings.set_prepend_module_to_snapshot(false);
    settings.bind(|| insta::assert_snapshot!(name, screen));
}
