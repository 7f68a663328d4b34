//! The programs there are.

use std::time::Duration;

use tokio::time::sleep;

use super::{Out, Shell};
use crate::tree::clean;

const PROGRAMS: [&str; 12] = [
    "true", "false", "echo", "cat", "sleep", "exit", "pwd", "seq", "rm", "sync", "sh", "stty",
];
/// Bytes that `seq` writes at once.
const BATCH_BYTES: usize = 8 * 1024;
/// What a shell says of a program that it does not find.
const NOT_FOUND: i32 = 127;

/// Is there a program of this name?
pub(super) fn is_there(name: &str) -> bool {
    PROGRAMS.contains(&name)
}

/// The last part of a path to where programs are; the whole of any other.
pub(super) fn name(path: &str) -> &str {
    path.strip_prefix("/bin/")
        .or_else(|| path.strip_prefix("/usr/bin/"))
        .unwrap_or(path)
}

impl Shell {
    /// Runs one program; its exit code.
    pub(super) async fn call(&mut self, out: &Out<'_>, words: &[String]) -> i32 {
        let (Some(first), arguments) = (words.first(), words.get(1..).unwrap_or_default()) else {
            return 0;
        };
        match name(first) {
            "true" | "sync" => 0,
            "false" => 1,
            "echo" => {
                let line = arguments.join(" ") + "\n";
                out.write(line.as_bytes()).await;
                0
            }
            "pwd" => {
                out.write(format!("{}\n", self.cwd).as_bytes()).await;
                0
            }
            // The one use there is: `stty size`.
            "stty" => match out.io.exec.terminal() {
                Some(size) => {
                    let line = format!("{} {}\n", size.rows, size.cols);
                    out.write(line.as_bytes()).await;
                    0
                }
                None => out.complain("stty: not a terminal\n").await,
            },
            "cd" => self.change_directory(out, arguments).await,
            "cat" => self.cat(out, arguments).await,
            "rm" => self.remove(out, arguments).await,
            "seq" => seq(out, arguments).await,
            "sleep" => pause(out, arguments).await,
            "trap" => {
                // The one use there is: `trap '' TERM`.
                out.io.exec.ignore_term();
                0
            }
            "exit" => {
                self.exited = true;
                arguments
                    .first()
                    .map_or(self.status, |code| code.parse().unwrap_or(2))
            }
            other => self.assign(out, other).await,
        }
    }

    async fn assign(&mut self, out: &Out<'_>, word: &str) -> i32 {
        if let Some((name, value)) = word.split_once('=')
            && !name.contains('/')
        {
            self.variables.insert(name.to_owned(), value.to_owned());
            return 0;
        }
        out.complain(&format!("sh: {word}: not found\n")).await;
        NOT_FOUND
    }

    async fn change_directory(&mut self, out: &Out<'_>, arguments: &[String]) -> i32 {
        let home = &self.variables["HOME"];
        let to = clean(&self.cwd, arguments.first().unwrap_or(home));
        if !out.io.agent.tree().is_dir(&to) {
            return out
                .complain(&format!("cd: {to}: no such directory\n"))
                .await;
        }
        self.cwd = to;
        0
    }

    async fn cat(&self, out: &Out<'_>, arguments: &[String]) -> i32 {
        if arguments.is_empty() {
            while let Some(chunk) = out.io.exec.input().await {
                out.write(&chunk).await;
            }
            return 0;
        }
        let mut status = 0;
        for argument in arguments {
            match out.io.agent.tree().read(&clean(&self.cwd, argument)) {
                Ok(content) => out.write(&content).await,
                Err(error) => {
                    let why = error.failed().message;
                    status = out.complain(&format!("cat: {argument}: {why}\n")).await;
                }
            }
        }
        status
    }

    async fn remove(&self, out: &Out<'_>, arguments: &[String]) -> i32 {
        let mut status = 0;
        for argument in arguments {
            let removed = out.io.agent.tree().remove(&clean(&self.cwd, argument));
            if let Err(error) = removed {
                let why = error.failed().message;
                status = out.complain(&format!("rm: {argument}: {why}\n")).await;
            }
        }
        status
    }
}

async fn seq(out: &Out<'_>, arguments: &[String]) -> i32 {
    let numbers: Vec<u64> = arguments.iter().filter_map(|n| n.parse().ok()).collect();
    let [first, last] = numbers[..] else {
        return out.complain("seq: two numbers are needed\n").await;
    };
    let mut batch = String::new();
    for number in first..=last {
        batch += &number.to_string();
        batch.push('\n');
        if batch.len() >= BATCH_BYTES || number == last {
            out.write(batch.as_bytes()).await;
            batch.clear();
            tokio::task::yield_now().await;
        }
    }
    0
}

async fn pause(out: &Out<'_>, arguments: &[String]) -> i32 {
    let seconds = arguments.first().and_then(|text| text.parse().ok());
    let length = seconds.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    let Some(length) = length else {
        return out.complain("sleep: a number of seconds is needed\n").await;
    };
    sleep(length).await;
    out.io.agent.awake().await;
    0
}
