//! The network of sandboxes, with a host and an internet of its own.

fn main() -> std::process::ExitCode {
    let mut args = std::env::args_os();
    if args.nth(1).is_some_and(|role| role == "gateway") {
        skerry_net::gateway::main(args).unwrap();
        return std::process::ExitCode::SUCCESS;
    }
    let rt = tokio::runtime::Runtime::new().unwrap();
    rt.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let n = skerry_net::Network::start(skerry_net::Options {
            command: vec![std::env::current_exe().unwrap().into(), "gateway".into()],
            dir: dir.path().to_owned(),
            config: skerry_net::Config::default(),
        })
        .await
        .unwrap();
        println!("{:?}", n.facts().await.unwrap());
        for kind in [skerry_net::NetworkKind::None, skerry_net::NetworkKind::Nat] {
            for _ in 0..12 {
                let id = skerry_types::SandboxId::new();
                let t = std::time::Instant::now();
                let ns = n.acquire(kind, id).await;
                println!("{:?} {:?}", t.elapsed(), ns);
            }
        }
        println!("{:?}", n.list().await.unwrap().len());
        n.stop().await.unwrap();
    });
    std::process::ExitCode::SUCCESS
}
