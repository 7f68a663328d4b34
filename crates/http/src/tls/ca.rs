//! A CA of our own: made once, and able to vouch for nothing but the names that are served here.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use tempfile::NamedTempFile;

use super::{TlsError, provider};

/// How clients show it.
const NAME: &str = "Skerry local CA";
const DAY: Duration = Duration::from_hours(24);
const LIFE: Duration = Duration::from_hours(24 * 365 * 10);
/// How long counts what it signs.
pub(super) const LEAF_LIFE: Duration = Duration::from_hours(24 * 90);
/// The name that every machine has for itself.
const LOCALHOST: &str = "localhost";
const LOOPBACK: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// See the module.
#[derive(Debug)]
pub(super) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    /// What it vouches for, with all names below.
    names: Vec<String>,
}

impl Ca {
    /// The one in this folder, or a new one if it cannot vouch for these domains.
    pub(super) fn open(folder: &Path, domains: &[String]) -> Result<Self, TlsError> {
        let mut names = vec![LOCALHOST.to_owned()];
        names.extend_from_slice(domains);
        let found = Self::read(folder, &names)?;
        let is_first = found.is_none();
        if let Some(ca) = found.filter(Self::vouches) {
            return Ok(ca);
        }
        let ca = Self::make(folder, names)?;
        if is_first {
            tracing::info!(folder = %folder.display(), "made a local CA");
        } else {
            tracing::warn!(
                folder = %folder.display(),
                "made a new local CA: the old one cannot vouch for what is served; clients have to be told to trust it"
            );
        }
        Ok(ca)
    }

    /// `None` if there is none, or something else in its place.
    fn read(folder: &Path, names: &[String]) -> Result<Option<Self>, TlsError> {
        let (key, pem) = (read(&key_file(folder))?, read(&certificate_file(folder))?);
        let key = key.and_then(|key| KeyPair::from_pem(&key).ok());
        Ok(key.zip(pem).map(|(key, pem)| Self {
            issuer: Issuer::new(params(names), key),
            pem,
            names: names.to_vec(),
        }))
    }

    fn make(folder: &Path, names: Vec<String>) -> Result<Self, TlsError> {
        let key = KeyPair::generate().map_err(TlsError::Make)?;
        let params = params(&names);
        let pem = params.self_signed(&key).map_err(TlsError::Make)?.pem();
        write(folder, &key_file(folder), &key.serialize_pem())?;
        write(folder, &certificate_file(folder), &pem)?;
        Ok(Self {
            issuer: Issuer::new(params, key),
            pem,
            names,
        })
    }

    /// Its certificate.
    pub(super) fn pem(&self) -> &str {
        &self.pem
    }

    /// Whether this is one of its names, or below one.
    pub(super) fn covers(&self, name: &str) -> bool {
        let is_below = |domain: &String| {
            name.strip_suffix(domain.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        self.names.iter().any(is_below)
    }

    /// A certificate for whoever does not say a name: for all of its own, and for the loopback addresses.
    pub(super) fn sign_own(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let addresses = LOOPBACK.map(|address| address.to_string());
        self.sign(self.names.iter().cloned().chain(addresses).collect())
    }

    /// A certificate, with a key of its own, for these names.
    pub(super) fn sign(&self, names: Vec<String>) -> Result<Arc<CertifiedKey>, TlsError> {
        let key = KeyPair::generate().map_err(TlsError::Make)?;
        let mut params = CertificateParams::new(names).map_err(TlsError::Make)?;
        params.distinguished_name = common_name("Skerry");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        last(&mut params, LEAF_LIFE);
        let certificate = params.signed_by(&key, &self.issuer);
        let certificate = certificate.map_err(TlsError::Make)?;
        let chain = vec![certificate.der().clone()];
        CertifiedKey::from_der(chain, key.into(), &provider())
            .map(Arc::new)
            .map_err(TlsError::Own)
    }

    /// Whether it fits what is served now, and for as long as something counts that it signs.
    fn vouches(&self) -> bool {
        let leaf = self.sign_own().ok();
        leaf.is_some_and(|leaf| self.convinces(&leaf, LOCALHOST).is_ok())
    }

    /// What a client says that trusts it, a day before the end of this certificate.
    fn convinces(&self, leaf: &CertifiedKey, name: &str) -> Result<(), rustls::Error> {
        let own = CertificateDer::from_pem_slice(self.pem.as_bytes());
        let mut roots = RootCertStore::empty();
        roots.add(own.map_err(|_| rustls::CertificateError::BadEncoding)?)?;
        let client = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| rustls::CertificateError::NotValidForName)?;
        let end = SystemTime::now() + LEAF_LIFE - DAY;
        let end = end
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let end = UnixTime::since_unix_epoch(end);
        let leaf = leaf.end_entity_cert()?;
        client
            .verify_server_cert(leaf, &[], &name, &[], end)
            .map(drop)
    }
}

/// Of the CA for these names.
fn params(names: &[String]) -> CertificateParams {
    let domains = names.iter().cloned().map(GeneralSubtree::DnsName);
    let addresses = LOOPBACK.map(|address| {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits))
    });
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: domains.chain(addresses).collect(),
        excluded_subtrees: Vec::new(),
    });
    last(&mut params, LIFE);
    params
}

/// From yesterday on, for clocks that are late.
fn last(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + life).into();
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn key_file(folder: &Path) -> PathBuf {
    folder.join("ca.key")
}

fn certificate_file(folder: &Path) -> PathBuf {
    folder.join("ca.pem")
}

fn read(path: &Path) -> Result<Option<String>, TlsError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TlsError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Whole or not at all, and readable by nobody else.
fn write(folder: &Path, path: &Path, text: &str) -> Result<(), TlsError> {
    let write = || {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    write().map_err(|source| TlsError::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn open(folder: &Path, domains: &[&str]) -> Ca {
        let domains: Vec<String> = domains.iter().map(|&name| name.to_owned()).collect();
        Ca::open(folder, &domains).unwrap()
    }

    #[test]
    fn clients_take_from_it_what_is_served_here_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let ca = open(folder.path(), &["boxes.example"]);
        let convinces = |name: &str| {
            let leaf = ca.sign(vec![name.to_owned()]).unwrap();
            ca.convinces(&leaf, name).is_ok()
        };
        for ours in [
            "localhost",
            "8080-x.localhost",
            "boxes.example",
            "a.b.boxes.example",
            "127.0.0.1",
            "::1",
        ] {
            assert!(convinces(ours), "{ours}");
        }
        for theirs in [
            "evil.example",
            "evilboxes.example",
            "example",
            "10.0.0.1",
            "127.0.0.2",
        ] {
            assert!(!convinces(theirs), "{theirs}");
        }
    }

    #[test]
    fn it_stays_the_same_as_long_as_it_fits() {
        let folder = tempfile::tempdir().unwrap();
        let tls = folder.path().join("tls");
        let first = open(&tls, &["boxes.example"]);
        let mode = fs::metadata(key_file(&tls)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(open(&tls, &["boxes.example"]).pem, first.pem);
        assert_eq!(open(&tls, &[]).pem, first.pem, "it can vouch for fewer");
        let wider = open(&tls, &["boxes.example", "other.example"]);
        assert_ne!(wider.pem, first.pem);
        // What does not belong together, or is no key at all.
        fs::write(certificate_file(&tls), &first.pem).unwrap();
        assert_ne!(open(&tls, &[]).pem, first.pem);
        fs::write(key_file(&tls), "no key").unwrap();
        assert!(open(&tls, &[]).vouches());
    }
}
