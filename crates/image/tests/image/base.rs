//! Builds the real Debian base, which takes half a minute and a network: only with `SKERRY_TEST_ALL=1`.

use std::path::Path;
use std::process::Command;

use crate::common::Store;
use skerry_image::{BASE, Kind, Progress};

/// Runs a command in the layer with devices and a resolver, mounted where only the command sees them.
fn run_inside(layer: &Path, script: &str) -> String {
    let mounts = "mount --rbind /dev \"$0/dev\" && mount -t proc proc \"$0/proc\" && mount --bind /etc/resolv.conf \"$0/etc/resolv.conf\" \
                  && exec chroot \"$0\" /bin/bash -c \"$1\"";
    let output = Command::new("unshare")
        .args(["--mount", "--pid", "--fork", "sh", "-c", mounts])
        .arg(layer)
        .arg(script)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn base_is_a_debian_with_a_user_who_may_do_all() {
    if std::env::var_os("SKERRY_TEST_ALL").is_none() || !rustix::process::geteuid().is_root() {
        eprintln!("left out: needs SKERRY_TEST_ALL=1 and root");
        return;
    }
    let store = Store::new();
    let started = std::time::Instant::now();
    let image = store
        .images
        .ensure(
            BASE,
            Progress::new(|update| eprintln!("{}", update.message)),
        )
        .await
        .unwrap();
    eprintln!(
        "built in {:?}, {} bytes",
        started.elapsed(),
        image.size_bytes
    );
    assert_eq!(
        (image.kind, image.config.user.as_str()),
        (Kind::Base, "user")
    );
    let [layer] = image.layers.as_slice() else {
        panic!("one layer expected: {:?}", image.layers);
    };
    assert_eq!(run_inside(layer, "python3 -c 'print(6*7)'"), "42");
    assert_eq!(run_inside(layer, "su user -c 'sudo -n id -u'"), "0");
    assert_eq!(
        run_inside(layer, "stat -c %u:%g:%a /home/user"),
        "1000:1000:755"
    );
    assert_eq!(
        run_inside(layer, "stat -c %u:%a /etc/sudoers.d/user /usr/bin/sudo"),
        "0:440\n0:4755"
    );
    run_inside(
        layer,
        "git --version && curl --version && less --version && ps --version",
    );
    for secret in [
        "etc/machine-id",
        "etc/hostname",
        "etc/ssh/ssh_host_rsa_key",
        "dev/null",
    ] {
        assert!(!layer.join(secret).exists(), "{secret} is there");
    }
    assert_eq!(std::fs::read(layer.join("etc/resolv.conf")).unwrap(), b"");
    assert_eq!(
        run_inside(
            layer,
            "ls /var/cache/apt/archives/*.deb /var/lib/apt/lists/*_Packages 2>/dev/null | wc -l"
        ),
        "0"
    );
    assert_ne!(run_inside(layer, "ls /etc/apt/sources.list.d | wc -l"), "0");
    assert_eq!(store.leftovers(), Vec::<String>::new());

    let again = store.images.build_base(Progress::none()).await.unwrap();
    assert_eq!(again.id, image.id, "nothing is built twice");
    run_inside(
        layer,
        "apt-get -qq update && apt-get -qq install --yes hello && hello",
    );
}
