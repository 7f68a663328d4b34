//! `template`: built from a Dockerfile, used, and removed, on the real driver.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use skerry_testkit::wait::until;

use crate::bed::Bed;

const DOCKERFILE: &str = "\
FROM host
ARG WHO=nobody
ENV GREETING=\"hello $WHO\" PATH=/opt/tool/bin:$PATH
WORKDIR /opt/tool
COPY tool bin/
COPY --chmod=604 data/*.txt ./data/
RUN tool > made && echo \"$WHO\" >> made
EXPOSE 8080
CMD [\"tool\"]
";

/// A context with a Dockerfile.
fn context(bed: &Bed, dockerfile: &str) {
    let here = |name: &str| bed.home.path().join("app").join(name);
    fs::create_dir_all(here("data")).unwrap();
    fs::write(here("Dockerfile"), dockerfile).unwrap();
    fs::write(here("tool"), "#!/bin/sh\necho \"$GREETING from $(pwd)\"\n").unwrap();
    fs::set_permissions(here("tool"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(here("data/a.txt"), "a").unwrap();
    fs::write(here("data/b.log"), "b").unwrap();
}

/// What a build said, without what it is about.
fn build(bed: &Bed, more: &[&str]) -> String {
    let args = [&["template", "build", "-t", "app", "app"], more].concat();
    let ran = bed.run(&args);
    assert_eq!((ran.code, ran.stdout.trim()), (0, "app"), "{}", ran.stderr);
    ran.stderr
}

#[test]
fn a_dockerfile_becomes_a_template_and_is_done_once() {
    let bed = Bed::new();
    context(&bed, DOCKERFILE);
    let said = build(&bed, &["--build-arg", "WHO=world"]);
    assert!(said.contains("[5/5] RUN tool"), "{said}");

    bed.ok(&["create", "--image", "app", "--name", "b"]);
    let inside = |script: &str| bed.ok(&["exec", "b", script]);
    assert_eq!(inside("cat made"), "hello world from /opt/tool\nworld");
    assert_eq!(
        inside("tool"),
        "hello world from /opt/tool",
        "variables, folder and path are its own"
    );
    assert_eq!(inside("stat -c '%a %U' data/*"), "604 root");
    let shown = bed.json(&["template", "inspect", "app"]);
    let defaults = &shown["builds"][0]["defaults"];
    assert_eq!(defaults["ports"], serde_json::json!([8080]));
    assert_eq!(
        defaults["env_names"]
            .to_string()
            .matches("GREETING")
            .count(),
        1
    );
    assert_eq!(
        bed.json(&["snapshot", "ls"]),
        serde_json::json!([]),
        "layers are not people's snapshots"
    );

    // Nothing that matters changed, so nothing is done; then what comes after a change is.
    let boxes = || bed.json(&["ls", "--all"]).as_array().unwrap().len();
    let before = boxes();
    let again = build(&bed, &["--build-arg", "WHO=world"]);
    assert_eq!(
        (again.matches("as before").count(), boxes()),
        (5, before),
        "{again}"
    );
    fs::write(bed.home.path().join("app/data/a.txt"), "new").unwrap();
    let changed = build(&bed, &["--build-arg", "WHO=world"]);
    assert_eq!(changed.matches("as before").count(), 3, "{changed}");
    let anew = build(&bed, &["--build-arg", "WHO=world", "--no-cache"]);
    assert_eq!(anew.matches("as before").count(), 0, "{anew}");

    // From a template, by its tag; and the first one's end does not matter to it.
    context(&bed, "FROM app:latest\nRUN tool > second");
    let args = ["template", "build", "-t", "more:v1", "app"];
    assert_eq!(bed.ok(&args), "more:v1");
    bed.ok(&["template", "rm", "app"]);
    let made = bed.ok(&["create", "--image", "more:v1"]);
    assert_eq!(
        bed.ok(&["exec", &made, "cat second data/a.txt"]),
        "hello world from /opt/tool\nnew"
    );
    assert_eq!(
        bed.ok(&["exec", "b", "cat data/a.txt"]),
        "a",
        "what was made from it lives on"
    );
    let gone = bed.run(&["create", "--image", "app"]);
    assert!(
        gone.code != 0 && gone.stderr.contains("more"),
        "{}",
        gone.stderr
    );
}

#[test]
fn a_failure_says_where_and_leaves_nothing() {
    let bed = Bed::new();
    context(
        &bed,
        "FROM host\nRUN true\n\nRUN echo one; \\\n  echo two >&2; exit 3\nRUN never",
    );
    let ran = bed.run(&["template", "build", "-t", "app", "app"]);
    assert_eq!(ran.code, 1);
    let error = ran.stderr.split_once("error: ").unwrap().1;
    for part in [
        "app/Dockerfile: line 4: RUN echo one;",
        "ended with 3",
        "one",
        "two",
    ] {
        assert!(error.contains(part), "{part}: {}", ran.stderr);
    }
    assert_eq!(bed.json(&["ls"]), serde_json::json!([]));
    assert_ne!(bed.run(&["create", "--image", "app"]).code, 0);
    let shown = bed.json(&["template", "inspect", "app"]);
    assert_eq!(shown["builds"][0]["status"], "error");
    assert!(bed.ok(&["template", "logs", "app"]).contains("two"));

    // What cannot be read never gets to the server.
    for (file, part) in [
        ("FROM host\nVOLUME /x", "line 2: VOLUME"),
        ("FROM host\nCOPY nothing /x", "line 2: COPY nothing"),
    ] {
        context(&bed, file);
        let ran = bed.run(&["template", "build", "-t", "other", "app"]);
        assert!(ran.code == 1 && ran.stderr.contains(part), "{}", ran.stderr);
    }
    assert_eq!(bed.run(&["template", "inspect", "other"]).code, 3);
    context(&bed, "FROM nowhere.example/x");
    let ran = bed.run(&["template", "build", "-t", "other", "app"]);
    assert!(
        ran.stderr.contains("FROM nowhere.example/x"),
        "{}",
        ran.stderr
    );
}

/// Starts a build that does not end by itself, and returns once it is at its long step.
fn hanging(bed: &Bed) -> (std::process::Child, BufReader<std::process::ChildStderr>) {
    context(
        bed,
        "FROM host\nRUN echo before\nRUN echo begun; sleep 1000",
    );
    let mut child = bed.spawn(&["template", "build", "-t", "app", "app"]);
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("  begun") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it ended");
    }
    (child, said)
}

#[test]
fn ctrl_c_calls_it_off() {
    let bed = Bed::new();
    let (mut child, _said) = hanging(&bed);
    let refused = bed.run(&["template", "rm", "app"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("being built"),
        "{}",
        refused.stderr
    );
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let shown = bed.json(&["template", "inspect", "app"]);
    assert_eq!(shown["builds"][0]["status"], "error");
    assert_eq!(shown["builds"][0]["reason"], "it was cancelled");
    assert_eq!(bed.json(&["ls"]), serde_json::json!([]), "nothing runs on");
    bed.ok(&["template", "rm", "app"]);
}

#[test]
fn a_server_that_was_killed_ends_what_it_built() {
    let mut bed = Bed::new();
    let (child, _said) = hanging(&bed);
    bed.server.kill().unwrap();
    bed.server.start().unwrap();
    // It reads on where it was, and hears how it ended.
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    let shown = bed.json(&["template", "inspect", "app"]);
    let reason = shown["builds"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("interrupted"), "{reason}");
    let is_gone = || Ok((bed.json(&["ls"]) == serde_json::json!([])).then_some(()));
    until(Duration::from_secs(20), "its sandbox is gone", is_gone).unwrap();
    // What was whole by then is not done again.
    context(&bed, "FROM host\nRUN echo before\nRUN echo after");
    let said = build(&bed, &[]);
    assert_eq!(said.matches("as before").count(), 1, "{said}");
}

/// What a template with a program is built with. It serves once it has counted its starts.
const PROGRAM: [&str; 4] = [
    "--start",
    "echo $WHO >> starts; test -z \"$BREAK\" || exit 3; exec sleep 4242",
    "--ready",
    "pgrep -f '^sleep 4242'",
];

#[test]
fn a_program_runs_from_the_start_in_what_is_made_without_memory() {
    let bed = Bed::new();
    context(&bed, "FROM host\nWORKDIR /opt/app\nENV WHO=built");
    build(&bed, &PROGRAM);
    bed.ok(&["create", "--image", "app", "--name", "b", "-e", "WHO=made"]);
    let inside = |name: &str, script: &str| bed.ok(&["exec", name, script]);
    assert_eq!(inside("b", "cat starts"), "built\nmade");
    assert_eq!(inside("b", "pgrep -fc '^sleep 4242'"), "1");

    // What is copied of its files only has it again, and so has what is put back.
    bed.ok(&["snapshot", "create", "b", "--name", "then"]);
    bed.ok(&["fork", "b", "--name", "copy"]);
    assert_eq!(inside("copy", "cat starts"), "built\nmade\nmade");
    assert_eq!(inside("copy", "pgrep -fc '^sleep 4242'"), "1");
    bed.ok(&["rollback", "b", "then"]);
    assert_eq!(inside("b", "pgrep -fc '^sleep 4242'"), "1");

    // One that does not come up is no sandbox.
    let broken = bed.run(&["create", "--image", "app", "-e", "BREAK=1"]);
    assert_ne!(broken.code, 0);
    assert!(
        broken.stderr.contains("ended before it was ready"),
        "{}",
        broken.stderr
    );

    // A template on top of it has it as well, unless it says otherwise.
    context(&bed, "FROM app\nRUN touch more");
    bed.ok(&["template", "build", "-t", "more", "app"]);
    bed.ok(&["create", "--image", "more", "--name", "m"]);
    assert_eq!(
        inside("m", "pgrep -fc '^sleep 4242'; ls"),
        "1\nmore\nstarts"
    );
}
