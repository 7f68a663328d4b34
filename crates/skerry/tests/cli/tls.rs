//! TLS as the clients see it that people have: curl, Python, Node, and the variables that point them here.

use std::fs;
use std::process::Command;

use skerry_testkit::server::Launch;
use tempfile::TempDir;

use crate::bed::{Bed, Ran, SKERRY, skerry};

fn bed() -> Bed {
    Bed::with(
        Launch::new(SKERRY)
            .env("SKERRY_TLS_LISTEN", &"127.0.0.1:0")
            .env("SKERRY_DOMAINS", &"boxes.example"),
    )
}

/// The port that speaks TLS.
fn port(bed: &Bed) -> String {
    let url = fs::read_to_string(bed.server.path("tls_url")).unwrap();
    url.strip_prefix("https://boxes.example:")
        .unwrap()
        .to_owned()
}

/// Runs a program; `None` if it is not on this machine.
fn client(program: &str, args: &[&str], variables: &[(&str, &str)]) -> Option<Ran> {
    let mut command = Command::new(program);
    command.args(args).envs(variables.iter().copied());
    command.output().ok().map(Ran::of)
}

#[test]
fn clients_trust_what_they_are_told_to() {
    let bed = bed();
    let port = port(&bed);
    let ca = bed.home.path().join("ca.pem");
    fs::write(&ca, bed.ok(&["ca"]) + "\n").unwrap();
    let ca = ca.to_str().unwrap();
    for host in ["localhost", "api.boxes.example", "api.localhost"] {
        for (version, protocol) in [("--http1.1", "1.1"), ("--http2", "2")] {
            let url = format!("https://{host}:{port}/health");
            let args = [
                "-sS",
                version,
                "--cacert",
                ca,
                "--connect-to",
                &format!("::127.0.0.1:{port}"),
                "-w",
                "%{http_version}",
                "-o",
                "/dev/null",
                &url,
            ];
            let Some(ran) = client("curl", &args, &[]) else {
                return eprintln!("SKIPPED: there is no curl");
            };
            assert_eq!(
                (ran.code, &*ran.stdout),
                (0, protocol),
                "{host}: {}",
                ran.stderr
            );
        }
    }
    let script = format!(
        "import http.client, ssl, sys\n\
         context = ssl.create_default_context(cafile=sys.argv[1])\n\
         it = http.client.HTTPSConnection('127.0.0.1', {port}, context=context)\n\
         it.request('GET', '/health')\n\
         print(it.getresponse().status)"
    );
    match client("python3", &["-c", &script, ca], &[]) {
        Some(ran) => assert_eq!(ran.stdout.trim(), "200", "{}", ran.stderr),
        None => eprintln!("SKIPPED: there is no python3"),
    }
    let script = format!(
        "require('https').get('https://localhost:{port}/health', {{family: 4}}, it => {{ console.log(it.statusCode); process.exit() }})"
    );
    match client("node", &["-e", &script], &[("NODE_EXTRA_CA_CERTS", ca)]) {
        Some(ran) => assert_eq!(ran.stdout.trim(), "200", "{}", ran.stderr),
        None => eprintln!("SKIPPED: there is no node"),
    }
}

#[test]
fn the_ca_outlives_the_server() {
    let mut bed = bed();
    let ca = bed.ok(&["ca"]);
    assert!(ca.starts_with("-----BEGIN CERTIFICATE-----"), "{ca}");
    assert_eq!(bed.json(&["ca"])["ca"].as_str().unwrap().trim(), ca);
    bed.server.end().unwrap();
    assert_eq!(bed.ok(&["ca"]), ca, "also without a server");
    assert!(!bed.server.path("tls_url").exists());
    bed.server.start().unwrap();
    assert_eq!(bed.ok(&["ca"]), ca);
    let home = TempDir::new().unwrap();
    let none = Ran::of(skerry(&home).arg("ca").output().unwrap());
    assert_eq!(none.code, 4, "{}", none.stderr);
}

#[test]
fn programs_of_another_service_are_pointed_here() {
    let bed = bed();
    let url = bed.server.url();
    let eval = |args: &str, then: &str| {
        let script = format!("eval \"$({SKERRY} env e2b {args})\" && {then}");
        let mut shell = Command::new("sh");
        shell.args(["-c", &script]);
        shell.env("SKERRY_DATA_DIR", bed.server.path(""));
        let ran = Ran::of(shell.output().unwrap());
        assert_eq!(ran.code, 0, "{script}: {}", ran.stderr);
        ran.stdout
    };
    let list = "curl -sS -o /dev/null -w '%{http_code}' -H \"X-API-Key: $E2B_API_KEY\"";
    assert_eq!(
        eval("", &format!("{list} $E2B_API_URL/v2/sandboxes")),
        "200"
    );
    assert_eq!(eval("", "echo $E2B_SANDBOX_URL").trim(), url);
    let port = port(&bed);
    let resolve = format!("--connect-to ::127.0.0.1:{port} --cacert $SSL_CERT_FILE");
    let url = "https://api.$E2B_DOMAIN/v2/sandboxes";
    assert_eq!(eval("--domain", &format!("{list} {resolve} {url}")), "200");
    assert_eq!(eval("--domain", "echo ${E2B_API_URL-none}").trim(), "none");
    let bundle = eval(
        "--domain",
        "grep -c BEGIN $SSL_CERT_FILE $NODE_EXTRA_CA_CERTS",
    );
    assert!(bundle.ends_with("ca.pem:1\n"), "{bundle}");
    let json = bed.json(&["env", "e2b", "--domain"]);
    assert_eq!(json["E2B_DOMAIN"], format!("boxes.example:{port}"));
    assert!(json["E2B_API_KEY"].as_str().unwrap().starts_with("e2b_"));

    let plain = Bed::new();
    let none = plain.run(&["env", "e2b", "--domain"]);
    assert!(
        none.code == 1 && none.stderr.contains("--tls-listen"),
        "{}",
        none.stderr
    );
}
