//! Limits bind, and hurt only the one who runs into them.

use skerry_driver::Driver;
use skerry_proto::agent::Ended;

use crate::bed::{create, test};

/// Takes memory until there is none.
const HOG: &str = "
blocks = []
while True:
    blocks.append(bytearray(b'x') * (1 << 20))
";
/// Starts processes until that fails, and says how many there were.
const FORKS: &str = "
import os, time
count = 0
try:
    while count < 5000:
        if os.fork() == 0:
            time.sleep(1000)
        count += 1
except OSError as error:
    print(count, error.errno)
";

#[test]
fn a_memory_hog_dies_alone_and_is_counted() {
    test(async |bed| {
        let driver = bed.driver().await;
        if !driver.capabilities().limits {
            eprintln!("left out: no control groups");
            return;
        }
        let mut spec = bed.spec();
        spec.resources.memory_mb = 64;
        let (_, mut agent) = create(&driver, &spec).await;
        let hog = agent.python(HOG).await;
        assert_eq!(hog.ended, Ended::Signal(libc::SIGKILL));
        assert_eq!(agent.sh("echo well").await.ok(), "well\n");
        let stats = driver.stats(spec.id).await.unwrap();
        assert!(stats.oom_kills >= 1, "{stats:?}");
        assert!(stats.memory_peak_bytes <= 64 << 20, "{stats:?}");
        driver.destroy(spec.id).await.unwrap();
    });
}

#[test]
fn a_fork_bomb_stops_at_the_limit_and_the_neighbour_does_not_notice() {
    test(async |bed| {
        let driver = bed.driver().await;
        let (mut spec, neighbour) = (bed.spec(), bed.spec());
        spec.resources.pids = 40;
        let (_, mut agent) = create(&driver, &spec).await;
        let (_, mut other) = create(&driver, &neighbour).await;
        let output = agent.python(FORKS).await.ok();
        let (count, errno) = output.trim().split_once(' ').expect("the bomb was stopped");
        assert!(count.parse::<u32>().unwrap() < 40, "{output}");
        assert_eq!(errno.parse(), Ok(libc::EAGAIN));
        assert_eq!(other.sh("echo well").await.ok(), "well\n");
        driver.destroy(spec.id).await.unwrap();
        driver.destroy(neighbour.id).await.unwrap();
        bed.assert_clean();
    });
}

#[test]
fn a_full_disk_is_an_error_inside_and_nowhere_else() {
    test(async |bed| {
        let driver = bed.driver().await;
        if !driver.capabilities().disk_quota {
            eprintln!("left out: no disk limit here");
            return;
        }
        let (mut spec, neighbour) = (bed.spec(), bed.spec());
        spec.resources.disk_mb = 32;
        let (_, mut agent) = create(&driver, &spec).await;
        let (_, mut other) = create(&driver, &neighbour).await;
        let filler = agent
            .sh("dd if=/dev/urandom of=/big bs=1M count=200 conv=fsync")
            .await;
        assert_ne!(filler.ended, Ended::Code(0));
        assert_eq!(agent.sh("rm /big; echo well").await.ok(), "well\n");
        assert_eq!(
            other
                .sh("dd if=/dev/urandom of=/big bs=1M count=40 iflag=fullblock 2>/dev/null; stat -c %s /big")
                .await
                .ok(),
            "41943040\n"
        );
        driver.destroy(spec.id).await.unwrap();
        driver.destroy(neighbour.id).await.unwrap();
        bed.assert_clean();
    });
}
