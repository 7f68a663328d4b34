//! Where clients come in: in the clear, and over TLS if the operator wants that too.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use axum::Router;
use clap::Args;
use skerry_http::{App, Tls};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::cli::Failure;
use crate::data_dir::DataDir;
use crate::env;

/// Where the system keeps the CAs that it trusts, on the distributions there are.
const SYSTEM_CAS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];

#[derive(Debug, Args)]
pub(super) struct DoorArgs {
    /// Where to listen
    #[arg(long, env = env::LISTEN, hide_env_values = true, default_value = "127.0.0.1:7300", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where to listen for TLS besides
    #[arg(long, env = env::TLS_LISTEN, hide_env_values = true, value_name = "ADDRESS")]
    tls_listen: Option<SocketAddr>,
    /// The chain of certificates to show, in PEM; what a CA of the server's own signed unless said
    #[arg(long, env = env::TLS_CERT, hide_env_values = true, value_name = "FILE", requires_all = ["tls_listen", "tls_key"])]
    tls_cert: Option<PathBuf>,
    /// The key of the first of them, in PEM; both are read again when they change
    #[arg(long, env = env::TLS_KEY, hide_env_values = true, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

/// See the module.
pub(super) struct Doors {
    plain: TcpListener,
    secure: Option<(TcpListener, Tls)>,
    pub(super) url: String,
    /// What speaks TLS, with its port if that is not the usual one.
    domain: Option<String>,
}

impl Doors {
    /// Listens. Clients wait until somebody serves.
    pub(super) async fn open(
        args: &DoorArgs,
        data_dir: &DataDir,
        domains: &[String],
    ) -> anyhow::Result<Self> {
        let plain = listen(args.listen, "--listen", env::LISTEN).await?;
        let url = format!("http://{}", plain.local_addr()?);
        let mut doors = Self {
            plain,
            secure: None,
            url,
            domain: None,
        };
        if let Some(address) = args.tls_listen {
            let listener = listen(address, "--tls-listen", env::TLS_LISTEN).await?;
            let name = domains.first().map_or("localhost", String::as_str);
            let domain = match listener.local_addr()?.port() {
                443 => name.to_owned(),
                port => format!("{name}:{port}"),
            };
            doors.domain = Some(domain);
            doors.secure = Some((listener, tls(args, data_dir, domains)?));
        }
        Ok(doors)
    }

    /// Where it speaks TLS, by the name that its certificates are for.
    pub(super) fn tls_url(&self) -> Option<String> {
        Some(format!("https://{}", self.domain.as_ref()?))
    }

    /// The certificate of the CA that clients have to trust, if it is our own.
    pub(super) fn ca(&self) -> Option<&str> {
        self.secure.as_ref()?.1.ca()
    }

    /// Until it is told to end.
    pub(super) async fn serve(self, app: App, router: Router, ending: CancellationToken) {
        let plain = skerry_http::serve_tcp(self.plain, app.clone(), router.clone(), ending.clone());
        let Some((listener, tls)) = self.secure else {
            return plain.await;
        };
        let secure = skerry_http::serve_tls(listener, &tls, app, router, ending);
        tokio::select! {
            ((), ()) = async { tokio::join!(plain, secure) } => {}
            () = tls.keep_fresh() => {}
        }
    }
}

async fn listen(address: SocketAddr, option: &str, variable: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        let hint = format!("{option} or {variable} chooses another address");
        Failure::failed(format!("cannot listen on {address}: {error}")).hint(hint)
    })
}

fn tls(args: &DoorArgs, data_dir: &DataDir, domains: &[String]) -> anyhow::Result<Tls> {
    let given = args.tls_cert.clone().zip(args.tls_key.clone());
    let tls = match given {
        Some((certificates, key)) => Tls::of_files(certificates, key)?,
        None => Tls::local(&data_dir.tls(), domains)?,
    };
    // For clients that read one file and then trust nobody else.
    let bundle = data_dir.ca_bundle();
    match tls.ca() {
        Some(ca) => {
            let system = SYSTEM_CAS
                .iter()
                .find_map(|path| std::fs::read_to_string(path).ok());
            std::fs::write(&bundle, system.unwrap_or_default() + ca)
                .with_context(|| format!("cannot write {}", bundle.display()))?;
        }
        // One that is left of another start would make clients trust what nobody shows.
        None => drop(std::fs::remove_file(bundle)),
    }
    Ok(tls)
}
