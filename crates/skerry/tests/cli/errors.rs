//! What people read when it did not work, and the code that scripts see.

use std::fs;

use tempfile::TempDir;

use crate::bed::{Bed, Ran, assert_screen, skerry};

#[test]
fn without_a_server() {
    let home = TempDir::new().unwrap();
    let mut screen = String::new();
    let mut show = |args: &[&str]| {
        let ran = Ran::of(skerry(&home).args(args).output().unwrap());
        screen += &(ran.shown(args) + "\n");
    };
    show(&["ls"]);
    show(&["run", "true"]);
    // Port 1 of loopback has no listener that a test would meet.
    show(&["ls", "--url", "http://127.0.0.1:1"]);
    show(&["ls", "--url", "http://127.0.0.1:1", "--api-key", "k"]);
    show(&[
        "--url",
        "http://127.0.0.1:1",
        "--api-key",
        "k",
        "exec",
        "b",
        "true",
    ]);
    show(&["ls", "--url", "ftp://x", "--api-key", "k"]);
    show(&["ls", "--url", "x", "--api-key", "k"]);
    show(&["create", "--ttl", "soon"]);
    show(&["create", "-e", "NOT_SET_HERE"]);
    fs::create_dir_all(home.path().join(".config/skerry")).unwrap();
    fs::write(home.path().join(".config/skerry/config.toml"), "key = 1").unwrap();
    show(&["ls"]);
    assert_screen("without_a_server", &screen);
}

#[test]
fn with_a_server() {
    let bed = Bed::new();
    bed.ok(&["create", "--name", "twin"]);
    bed.ok(&["create", "--name", "dead"]);
    bed.ok(&["stop", "dead"]);
    let screen = bed.screen(&[
        &["ls", "--api-key", "sk_wrong"],
        &["get", "nobody"],
        &["get", "sb_0000000000000000000000"],
        &["exec", "nobody", "true"],
        &["exec", "dead", "true"],
        &["logs", "twin", "7"],
        &["create", "--image", "nosuch"],
        &["create", "--memory", "1"],
        &["create", "--name", "twin"],
        &["create", "--isolation", "vm"],
        &["ls", "--status", "fine"],
        &["fork", "dead"],
        &["fork", "twin", "-n", "101"],
        &["exec", "twin", "--timeout", "0", "true"],
        &["cp", "a", "b"],
        &["cp", "nofile", "twin:/tmp"],
        &["cp", "twin:/nofile", "."],
        &["sh", "twin"],
        &["session", "exec", "twin", "sess", "true"],
        &["image", "rm", "nosuch"],
        &["rm", "nobody", "dead"],
        &["rm", "--force", "nobody"],
        &["clean"],
    ]);
    assert_screen("with_a_server", &screen);
}

#[test]
fn what_is_said_comes_first_then_the_environment_then_the_file() {
    let bed = Bed::new();
    let config = bed.home.path().join("config.toml");
    let good = format!(
        "url = \"{}\"\napi_key = \"{}\"\n",
        bed.server.url(),
        bed.server.key()
    );
    fs::write(&config, good).unwrap();
    let ls = |env: &[(&str, &str)], args: &[&str]| {
        let mut command = skerry(&bed.home);
        command
            .env("SKERRY_CONFIG", &config)
            .envs(env.iter().copied());
        Ran::of(command.arg("ls").args(args).output().unwrap()).code
    };
    assert_eq!(ls(&[], &[]), 0, "the file is enough");
    assert_eq!(
        ls(&[("SKERRY_API_KEY", "wrong")], &[]),
        5,
        "the environment goes before the file"
    );
    assert_eq!(
        ls(
            &[("SKERRY_API_KEY", "wrong")],
            &["--api-key", bed.server.key()]
        ),
        0,
        "a flag goes before both"
    );
    assert_eq!(ls(&[("SKERRY_URL", "http://127.0.0.1:1")], &[]), 4);
}

#[test]
fn the_local_key_goes_to_the_local_server_only() {
    let bed = Bed::new();
    let ran = bed.run(&["ls", "--url", "http://127.0.0.1:1"]);
    assert_eq!(ran.code, 5, "{}", ran.stderr);
    let ran = bed.run(&["ls", "--url", bed.server.url()]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}
