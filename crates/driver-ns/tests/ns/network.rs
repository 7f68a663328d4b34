//! Networks from the gateway: one of its own for each sandbox, given back with it.

use skerry_driver::{Driver, DriverError, NetworkMode, Spec};

use crate::agent::Agent;
use crate::bed::{Bed, HELPER, create, test};

fn nat(bed: &Bed) -> Spec {
    Spec {
        network: NetworkMode::Nat,
        ..bed.spec()
    }
}

/// A program that asks a server for something until it answers or the tries are over.
fn fetch(host: &str, tries: u32) -> String {
    format!(
        "
import socket, time
for _ in range({tries}):
    try:
        link = socket.create_connection(('{host}', 80), 5)
        link.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
        answer = link.recv(4)
        if answer:
            print(answer.decode())
            break
    except OSError:
        pass
    time.sleep(0.01)
"
    )
}

#[test]
fn neighbours_have_addresses_and_no_way_to_each_other() {
    test(async |bed| {
        let network = bed.network().await;
        let driver = bed
            .driver_with(HELPER.as_ref(), Some(network.clone()))
            .await;
        if !driver.capabilities().nat {
            eprintln!("left out: {:?}", driver.capabilities().notes);
            return network.stop().await.unwrap();
        }
        let (a, b) = (nat(&bed), nat(&bed));
        let (first, mut server) = create(&driver, &a).await;
        let (second, mut client) = create(&driver, &b).await;
        let (address, other) = (first.facts.address.unwrap(), second.facts.address.unwrap());
        assert_ne!(address, other);
        let hosts = server
            .sh("grep island /etc/hosts; cat /etc/resolv.conf")
            .await
            .ok();
        assert!(
            hosts.starts_with(&format!("{address} island\nnameserver ")),
            "{hosts}"
        );
        server
            .start("", &["/usr/bin/python3", "-m", "http.server", "80"])
            .await;
        // The gateway takes every connection, so only an answer counts.
        let served = server.python(&fetch("127.0.0.1", 500)).await.ok();
        assert_eq!(served, "HTTP\n");
        assert_eq!(
            client.python(&fetch(&address.to_string(), 3)).await.ok(),
            ""
        );

        let child = nat(&bed);
        let forked = driver.fork(a.id, &child).await.unwrap();
        assert!(![Some(address), Some(other)].contains(&forked.facts.address));
        let mut agent = Agent::new(driver.connect(child.id).await.unwrap()).await;
        let own = agent.sh("grep island /etc/hosts").await.ok();
        assert_eq!(own, format!("{} island\n", forked.facts.address.unwrap()));
        for spec in [a, b, child] {
            driver.destroy(spec.id).await.unwrap();
        }
        assert!(network.list().await.unwrap().is_empty());
        bed.assert_clean();
        network.stop().await.unwrap();
    });
}

#[test]
fn without_a_gateway_nat_is_refused_and_not_weakened() {
    test(async |bed| {
        let driver = bed.driver().await;
        let refused = driver.create(&nat(&bed)).await;
        assert!(
            matches!(refused, Err(DriverError::Unsupported(_))),
            "{refused:?}"
        );
        bed.assert_clean();
    });
}
