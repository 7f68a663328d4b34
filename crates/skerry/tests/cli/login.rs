//! A private registry: whoever has a login for it gets the image, and the password is nowhere afterwards.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use sha2::{Digest, Sha256};
use skerry_testkit::server::Launch;

use crate::bed::{Bed, SKERRY};

const PASSWORD: &str = "correct-horse-battery";
/// `me:` and the password, as a header and Docker's file have it.
const CODED: &str = "bWU6Y29ycmVjdC1ob3JzZS1iYXR0ZXJ5";

/// A registry on loopback with one image, `app:1`, for one user. Its thread ends with the test's process.
fn registry() -> SocketAddr {
    let mut layer = tar::Builder::new(Vec::new());
    let mut head = tar::Header::new_gnu();
    head.set_size(4);
    head.set_mode(0o644);
    head.set_uid(0);
    head.set_gid(0);
    head.set_mtime(0);
    layer.append_data(&mut head, "file", &b"text"[..]).unwrap();
    let layer = layer.into_inner().unwrap();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}
    });
    let config = config.to_string().into_bytes();
    let part = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest(bytes), "size": bytes.len()});
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": part("config.v1+json", &config), "layers": [part("layer.v1.tar", &layer)]
    });
    let answers = HashMap::from([
        ("/v2/".to_owned(), Vec::new()),
        (
            "/v2/app/manifests/1".to_owned(),
            manifest.to_string().into_bytes(),
        ),
        (format!("/v2/app/blobs/{}", digest(&config)), config),
        (format!("/v2/app/blobs/{}", digest(&layer)), layer),
    ]);
    let answers = Arc::new(answers);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answers = answers.clone();
            std::thread::spawn(move || answer(stream, &answers));
        }
    });
    address
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

fn answer(mut stream: TcpStream, answers: &HashMap<String, Vec<u8>>) {
    let lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let path = head
        .first()
        .and_then(|line| line.split(' ').nth(1))
        .unwrap_or_default();
    let is_known = head
        .iter()
        .any(|line| line.eq_ignore_ascii_case(&format!("authorization: Basic {CODED}")));
    let (status, body) = match answers.get(path) {
        _ if !is_known => (
            "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"test\"",
            &[][..],
        ),
        Some(body) => ("200 OK", &body[..]),
        None => ("404 Not Found", &[][..]),
    };
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/vnd.oci.image.manifest.v1+json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    // Whoever asked may have gone.
    let _sent = stream.write_all(&[head.as_bytes(), body].concat());
}

/// Whether a file below the folder has one of these texts.
fn has(folder: &Path, texts: &[&str]) -> bool {
    fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let path = entry.path();
        // The pool is a sparse file of gigabytes, in which the server writes nothing of an image.
        let is_pool = path.as_os_str().as_bytes().ends_with(b"pool.img");
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => has(&path, texts),
            kind if kind.is_file() && !is_pool => {
                let text = fs::read(&path).unwrap_or_default();
                let found = |word: &&str| text.windows(word.len()).any(|w| w == word.as_bytes());
                texts.iter().any(found)
            }
            _ => false,
        }
    })
}

#[test]
fn a_login_gets_what_is_private_and_is_kept_nowhere() {
    let address = registry();
    let image = format!("{address}/app:1");
    let launch = Launch::new(SKERRY).env("SKERRY_LOG", &"debug");
    let bed = Bed::with(launch.env("SKERRY_PRIVATE_REGISTRIES", &address.to_string()));
    let given = [
        "image",
        "pull",
        &image,
        "--username",
        "me",
        "--password-stdin",
    ];

    let nobody = bed.run(&["image", "pull", &image]);
    assert_eq!(nobody.code, 5, "{}", nobody.stderr);
    assert!(
        nobody.stderr.contains("--password-stdin"),
        "{}",
        nobody.stderr
    );
    let wrong = bed.fed(&given, b"wrong\n");
    assert_eq!(wrong.code, 5, "{}", wrong.stderr);
    assert_eq!(bed.fed(&given, b"\n").code, 2, "an empty password");
    let right = bed.fed(&given, format!("{PASSWORD}\n").as_bytes());
    assert_eq!(
        (right.code, right.stdout.trim_end()),
        (0, &*image),
        "{}",
        right.stderr
    );
    bed.ok(&["image", "rm", &image]);

    // As `docker login` leaves it, for this registry and another.
    let docker = bed.home.path().join(".docker");
    fs::create_dir(&docker).unwrap();
    let keep = |name: &str| {
        let auths =
            json!({"auths": {"other.example": {"auth": "b3RoZXI6cA=="}, name: {"auth": CODED}}});
        fs::write(docker.join("config.json"), auths.to_string()).unwrap();
    };
    keep("127.0.0.1:1");
    assert_eq!(bed.run(&["image", "pull", &image]).code, 5);
    for name in [address.to_string(), format!("http://{address}/v1/")] {
        keep(&name);
        assert_eq!(bed.ok(&["image", "pull", &image]), image);
        bed.ok(&["image", "rm", &image]);
    }
    let secrets = [PASSWORD, CODED];
    let said = [&nobody.stderr, &wrong.stderr, &right.stderr].map(|text| &**text);
    assert!(!secrets.iter().any(|s| said.concat().contains(s)));
    assert!(!has(bed.server.folder(), &secrets), "it was written down");
}
