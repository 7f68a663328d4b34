//! A small shell: `;`, quotes, `$NAME`, `>`, `>>`, `>&2`, `while true; do …; done`, and a few programs.

mod parse;
mod programs;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use skerry_proto::agent::{EnvVar, STDERR, STDOUT};

use crate::agent::{Agent, Exec};
use crate::tree::{Tree, clean};
use parse::{Command, Part, Step, Target};

/// What runs: a whole script.
pub(crate) type Program = Vec<Step>;

/// Whom a program speaks with.
pub(crate) struct Io {
    pub(crate) agent: Arc<Agent>,
    pub(crate) exec: Arc<Exec>,
}

/// What a shell remembers from one command to the next.
#[derive(Debug, Clone)]
pub(crate) struct Shell {
    cwd: String,
    variables: BTreeMap<String, String>,
    status: i32,
    exited: bool,
}

/// What a command line means, or why it cannot start.
pub(crate) fn program(argv: &[Bytes]) -> Result<Program, String> {
    let words: Vec<String> = argv
        .iter()
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let name = words.first().map_or("", |word| programs::name(word));
    match &words[..] {
        [_, flag, script] if name == "sh" && flag == "-c" => parse::script(script),
        [_, ..] if programs::is_there(name) => {
            let literal = |word: &String| vec![Part::Text(word.clone())];
            Ok(vec![Step::Run(Command {
                words: words.iter().map(literal).collect(),
                target: None,
            })])
        }
        _ => Err(format!("`{name}` was not found")),
    }
}

/// What a session is given: the text of a script.
pub(crate) fn script(argv: &[Bytes]) -> Result<Program, String> {
    match argv {
        [script] => parse::script(&String::from_utf8_lossy(script)),
        _ => Err("a session runs one script text".to_owned()),
    }
}

/// As a terminal shows it.
pub(crate) fn terminal_lines(data: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(data.len());
    for byte in data {
        if *byte == b'\n' {
            lines.push(b'\r');
        }
        lines.push(*byte);
    }
    lines
}

impl Shell {
    pub(crate) fn new(env: &[EnvVar], cwd: &[u8]) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let given = env.iter().map(|var| (text(&var.name), text(&var.value)));
        let mut variables: BTreeMap<String, String> = given.collect();
        let usual = [
            ("HOME", "/root"),
            ("USER", "root"),
            ("PATH", "/usr/bin:/bin"),
        ];
        for (name, value) in usual {
            variables
                .entry(name.to_owned())
                .or_insert_with(|| value.to_owned());
        }
        let cwd = if cwd.is_empty() {
            variables["HOME"].clone()
        } else {
            clean("/", &text(cwd))
        };
        Self {
            cwd,
            variables,
            status: 0,
            exited: false,
        }
    }

    pub(crate) fn has_place(&self, tree: &Tree) -> bool {
        tree.is_dir(&self.cwd)
    }

    pub(crate) fn has_exited(&self) -> bool {
        self.exited
    }

    /// Runs a script; its exit code.
    pub(crate) async fn run(&mut self, io: &Io, program: Program) -> i32 {
        self.status = 0;
        self.steps(io, &program).await;
        self.status
    }

    fn steps<'a>(
        &'a mut self,
        io: &'a Io,
        steps: &'a [Step],
    ) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(async move {
            for step in steps {
                match step {
                    Step::Run(command) => self.command(io, command).await,
                    Step::Forever(body) => {
                        while !self.exited {
                            self.steps(io, body).await;
                        }
                    }
                }
                if self.exited {
                    return;
                }
            }
        })
    }

    async fn command(&mut self, io: &Io, command: &Command) {
        // Others have their turn, and a pause holds between any two commands.
        tokio::task::yield_now().await;
        io.agent.awake().await;
        let words: Vec<String> = command.words.iter().map(|word| self.expand(word)).collect();
        let file = match &command.target {
            Some(Target::File { path, append }) => {
                let path = clean(&self.cwd, &self.expand(path));
                if io.agent.tree().put(&path, b"", *append).is_err() {
                    let text = format!("sh: {path}: cannot be written\n");
                    io.exec.output(STDERR, text.as_bytes()).await;
                    self.status = 2;
                    return;
                }
                Some(path)
            }
            _ => None,
        };
        let stream = match command.target {
            Some(Target::Stderr) => STDERR,
            _ => STDOUT,
        };
        let out = Out { io, stream, file };
        self.status = self.call(&out, &words).await;
    }

    fn expand(&self, word: &[Part]) -> String {
        let value = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Variable(name) if name == "?" => self.status.to_string(),
            Part::Variable(name) => self.variables.get(name).cloned().unwrap_or_default(),
        };
        word.iter().map(value).collect()
    }
}

/// Where a program writes.
struct Out<'a> {
    io: &'a Io,
    stream: u32,
    file: Option<String>,
}

impl Out<'_> {
    async fn write(&self, data: &[u8]) {
        self.io.agent.awake().await;
        match &self.file {
            // It was there a moment ago; a file that somebody removed swallows what is written.
            Some(path) => drop(self.io.agent.tree().put(path, data, true)),
            None => self.io.exec.output(self.stream, data).await,
        }
    }

    async fn complain(&self, text: &str) -> i32 {
        self.io.exec.output(STDERR, text.as_bytes()).await;
        1
    }
}
