//! `sh` on a real terminal, which `script` makes.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::bed::{Bed, SKERRY};

/// Someone at a terminal.
struct Person {
    child: Child,
    keys: ChildStdin,
    seen: String,
}

impl Person {
    /// Runs this script on a terminal.
    fn new(bed: &Bed, script: &str) -> Self {
        let mut child = Command::new("script")
            .args(["-qec", script, "/dev/null"])
            .env("SKERRY", SKERRY)
            .env("SKERRY_DATA_DIR", bed.server.path(""))
            .env("SHELL", "/bin/sh")
            .env("TERM", "dumb")
            .current_dir(bed.home.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let keys = child.stdin.take().unwrap();
        Self {
            child,
            keys,
            seen: String::new(),
        }
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads the screen until this is on it.
    fn sees(&mut self, wanted: &str) {
        let mut chunk = [0; 4096];
        while !self.seen.contains(wanted) {
            let read = self
                .child
                .stdout
                .as_mut()
                .unwrap()
                .read(&mut chunk)
                .unwrap();
            assert!(read > 0, "no `{wanted}` on the screen: {}", self.seen);
            self.seen += &String::from_utf8_lossy(&chunk[..read]);
        }
        self.seen.clear();
    }

    fn ends(mut self) -> i32 {
        drop(self.keys);
        self.child
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut self.seen)
            .unwrap();
        self.child.wait().unwrap().code().unwrap()
    }
}

#[test]
fn a_shell_has_the_size_of_the_terminal_and_gives_it_back_as_it_was() {
    let bed = Bed::new();
    bed.ok(&["create", "--name", "b"]);
    let script = "stty cols 91 rows 31; stty -a > before; $SKERRY sh b -- sh; code=$?; stty -a > after; exit $code";
    let mut person = Person::new(&bed, script);
    person.types("echo $((6 * 7))-$(stty size)\n");
    person.sees("42-31 91");
    // Ctrl-C ends what runs in the sandbox, not what runs here.
    person.types("sh -c 'echo up-$((1 + 1)); exec sleep 1000'; echo still-$((1 + 1))\n");
    person.sees("up-2");
    person.types("\x03");
    person.types("echo alive-$((2 + 2))\n");
    person.sees("alive-4");
    person.types("exit 5\n");
    assert_eq!(person.ends(), 5);
    let state = |name| fs::read_to_string(bed.home.path().join(name)).unwrap();
    assert_eq!(state("before"), state("after"));
}

#[test]
fn a_shell_can_be_left_and_gone_back_to() {
    let bed = Bed::new();
    bed.ok(&["create", "--name", "b"]);
    let mut person = Person::new(&bed, "$SKERRY sh b -- sh 2>&1");
    person.types("me=here-$((3 + 4)); echo $me\n");
    person.sees("here-7");
    person.types("\x10\x11");
    person.sees("--attach 1");
    assert_eq!(person.ends(), 0);
    assert_eq!(bed.json(&["execs", "b"])[0]["status"], "running");
    let mut person = Person::new(&bed, "$SKERRY sh b --attach 1");
    person.sees("here-7");
    person.types("echo back-$me\n");
    person.sees("back-here-7");
    person.types("exit 0\n");
    assert_eq!(person.ends(), 0);
}

#[test]
fn a_program_gets_a_terminal_when_asked() {
    let bed = Bed::new();
    bed.ok(&["create", "--name", "b"]);
    assert_eq!(bed.run(&["exec", "b", "test -t 1"]).code, 1);
    assert_eq!(bed.run(&["exec", "-t", "b", "test -t 1"]).code, 0);
}
