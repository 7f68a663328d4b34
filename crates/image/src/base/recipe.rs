//! What goes into `base`, and from which of the machine's package sources.

use std::fs;
use std::path::Path;

use crate::digest::hex_of;

use super::BaseError;

/// The program that builds the system.
pub(super) const TOOL: &str = "mmdebstrap";
/// What it needs to do so with one id.
const FAKES: [&str; 2] = ["fakechroot", "fakeroot"];

const PACKAGES: &[&str] = &[
    "bash",
    "ca-certificates",
    "curl",
    "git",
    "less",
    "procps",
    "python3",
    "sudo",
];

/// Run by the tool with the new root as `$1`. The name of this machine and its resolver stay out.
const STEPS: &[&str] = &[
    "chroot \"$1\" useradd --create-home --uid 1000 --shell /bin/bash user",
    "printf 'user ALL=(ALL:ALL) NOPASSWD:ALL\\n' >\"$1/etc/sudoers.d/user\"",
    "chmod 0440 \"$1/etc/sudoers.d/user\"",
    "printf 'LANG=C.UTF-8\\n' >\"$1/etc/default/locale\"",
    "rm -f \"$1\"/etc/machine-id \"$1\"/etc/ssh/ssh_host_* \"$1\"/etc/hostname \"$1\"/etc/resolv.conf",
    "printf '127.0.0.1 localhost\\n::1 localhost ip6-localhost\\n' >\"$1/etc/hosts\"",
    "touch \"$1/etc/resolv.conf\"; chmod 0644 \"$1/etc/hosts\" \"$1/etc/resolv.conf\"",
];

/// With one id there is nobody to whom the package manager could leave its downloads.
const ONE_ID: &str = "printf 'APT::Sandbox::User \"root\";\n' >\"$1/etc/apt/apt.conf.d/90-one-id\"";

/// Everything that decides what the image holds.
pub(super) struct Recipe {
    pub(super) release: String,
    pub(super) sources: Sources,
    /// Written as root, of the machine or of a user namespace; else by one user who only seems to be root.
    pub(super) as_root: bool,
}

/// The machine's own sources for its own release, in the two notations that apt knows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sources {
    pub(super) lines: String,
    pub(super) stanzas: String,
}

impl Recipe {
    pub(super) fn of_this_machine(as_root: bool) -> Result<Self, BaseError> {
        if !in_path(TOOL) {
            return Err(BaseError::NoTool { tool: TOOL });
        }
        if !as_root && !FAKES.iter().all(|tool| in_path(tool)) {
            return Err(BaseError::NoIds);
        }
        let release = release().ok_or(BaseError::NoRelease)?;
        let sources = Sources::read(&release);
        if sources == Sources::default() {
            return Err(BaseError::NoSources { release });
        }
        Ok(Self {
            release,
            sources,
            as_root,
        })
    }

    /// The same for the same recipe, so that nothing is built twice.
    pub(super) fn digest(&self) -> String {
        let parts = [
            self.release.as_str(),
            &self.sources.lines,
            &self.sources.stanzas,
            &PACKAGES.join(" "),
            &STEPS.join("\n"),
            if self.as_root { "" } else { ONE_ID },
        ];
        format!("sha256:{}", hex_of(parts.join("\0").as_bytes()))
    }

    /// The tool's arguments; it writes the archive to its output.
    pub(super) fn arguments(&self, sources: &[&Path], proxies: &[String]) -> Vec<String> {
        let mut arguments = vec![
            format!(
                "--mode={}",
                if self.as_root { "root" } else { "fakechroot" }
            ),
            "--variant=minbase".to_owned(),
            "--format=tar".to_owned(),
            format!("--include={}", PACKAGES.join(",")),
        ];
        let one_id = (!self.as_root).then_some(&ONE_ID);
        let steps = STEPS.iter().chain(one_id);
        arguments.extend(steps.map(|step| format!("--customize-hook={step}")));
        arguments.extend(proxies.iter().map(|line| format!("--aptopt={line}")));
        arguments.extend([self.release.clone(), "-".to_owned()]);
        arguments.extend(sources.iter().map(|path| path.display().to_string()));
        arguments
    }
}

impl Sources {
    fn read(release: &str) -> Self {
        let mut sources = Self::default();
        let mut files = vec![Path::new("/etc/apt/sources.list").to_owned()];
        if let Ok(entries) = fs::read_dir("/etc/apt/sources.list.d") {
            files.extend(entries.flatten().map(|entry| entry.path()));
        }
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).unwrap_or_default();
            match file.extension().and_then(|e| e.to_str()) {
                Some("list") => sources.add_lines(&text, release),
                Some("sources") => sources.add_stanzas(&text, release),
                _ => {}
            }
        }
        sources
    }

    fn add_lines(&mut self, text: &str, release: &str) {
        for line in text
            .lines()
            .map(str::trim)
            .filter(|l| l.starts_with("deb "))
        {
            // Options in brackets may hold blanks; the address follows them, then the suite.
            let rest = line.rsplit_once(']').map_or(&line[4..], |(_, rest)| rest);
            let mut words = rest.split_whitespace();
            let address = words.next().unwrap_or_default();
            if words.next().is_some_and(|suite| is_of(suite, release)) && !has_login(address) {
                self.lines.push_str(line);
                self.lines.push('\n');
            }
        }
    }

    fn add_stanzas(&mut self, text: &str, release: &str) {
        let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        for stanza in lines.split(|line| line.trim().is_empty()) {
            let field = |name: &str| {
                stanza.iter().find_map(|line| {
                    let (key, value) = line.split_once(':')?;
                    key.eq_ignore_ascii_case(name).then(|| value.trim())
                })
            };
            let suites = field("Suites").unwrap_or_default();
            let all_ours = suites.split_whitespace().all(|suite| is_of(suite, release));
            let enabled = field("Enabled") != Some("no");
            if !suites.is_empty() && all_ours && enabled && !has_login(field("URIs").unwrap_or(""))
            {
                self.stanzas.push_str(&stanza.join("\n"));
                self.stanzas.push_str("\n\n");
            }
        }
    }
}

/// `bookworm`, and its updates and security fixes; not what others publish for it.
fn is_of(suite: &str, release: &str) -> bool {
    suite
        .strip_prefix(release)
        .is_some_and(|rest| matches!(rest.trim_end_matches('/'), "" | "-updates" | "-security"))
}

/// An address with a name and password would be a secret of this machine in the image.
fn has_login(address: &str) -> bool {
    address.contains('@')
}

fn release() -> Option<String> {
    let text = fs::read_to_string("/etc/os-release").ok()?;
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))?;
    Some(name.trim_matches('"').to_owned()).filter(|name| !name.is_empty())
}

fn in_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// The machine's proxy settings for apt, as apt's own lines; those with a password are left out.
pub(super) fn proxies(apt_config: &str) -> Vec<String> {
    apt_config
        .lines()
        .filter(|line| {
            let name = line.split_whitespace().next().unwrap_or_default();
            let name = name.to_ascii_lowercase();
            let ours = name.starts_with("acquire::http::proxy")
                || name.starts_with("acquire::https::proxy");
            ours && !has_login(line) && !line.ends_with("\"\";")
        })
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_release_itself_is_a_source() {
        let mut sources = Sources::default();
        sources.add_lines(
            "# deb http://a.test/debian bookworm main\n\
             deb [arch=amd64 signed-by=/k] http://a.test/debian bookworm main\n\
             deb-src http://a.test/debian bookworm main\n\
             deb http://user:secret@a.test/debian bookworm main\n\
             deb http://b.test/apt cloud-bookworm main\n\
             deb http://a.test/debian bookworm-updates main",
            "bookworm",
        );
        let lines: Vec<_> = sources.lines.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains("signed-by=/k"));
        assert!(lines[1].ends_with("bookworm-updates main"));

        sources.add_stanzas(
            "Types: deb\n# a note\nURIs: http://a.test/debian\nSuites: bookworm bookworm-security\n\n\
             Types: deb\nURIs: http://b.test\nSuites: nodistro\n\n\
             Types: deb\nURIs: http://c.test\nSuites: bookworm\nEnabled: no\n",
            "bookworm",
        );
        assert!(sources.stanzas.contains("a.test/debian"));
        assert!(!sources.stanzas.contains("b.test") && !sources.stanzas.contains("c.test"));
    }

    #[test]
    fn a_proxy_with_a_password_stays_out() {
        let dump = "Acquire::http::Proxy \"http://proxy.test:3128\";\n\
                    Acquire::https::Proxy \"http://me:secret@proxy.test\";\n\
                    Acquire::Retries \"3\";";
        assert_eq!(
            proxies(dump),
            ["Acquire::http::Proxy \"http://proxy.test:3128\";"]
        );
    }
}
