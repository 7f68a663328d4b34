//! Who asks: a tenant, through a key, with scopes.

use skerry_store::Tenant;
use skerry_types::{Error, ErrorCode, KeyId, Result, SandboxId};

use crate::Control;

macro_rules! scopes {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What a key may be used for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Scope {
            $($(#[$doc])* $name,)*
        }

        impl Scope {
            /// Every scope.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The name on the wire and in the store.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// The scope with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|s| s.as_str() == name)
            }
        }
    };
}

scopes! {
    /// Create and fork sandboxes.
    SandboxCreate = "sandbox:create";
    /// Look at sandboxes, their events and metrics.
    SandboxRead = "sandbox:read";
    /// Stop, delete, pause sandboxes and change their times.
    SandboxWrite = "sandbox:write";
    /// Start execs, give them input and signals.
    ExecCreate = "exec:create";
    /// Look at execs and their output.
    ExecRead = "exec:read";
    /// Open sessions and terminals.
    SessionCreate = "session:create";
    /// Look at sessions and their output.
    SessionRead = "session:read";
    /// Give sessions input, end them.
    SessionWrite = "session:write";
    /// Read and list files.
    FileRead = "file:read";
    /// Write, move and remove files.
    FileWrite = "file:write";
    /// Reach what listens in sandboxes.
    PortUse = "port:use";
    /// Look at artifacts.
    ArtifactRead = "artifact:read";
    /// Register artifacts.
    ArtifactWrite = "artifact:write";
}

/// What a sandbox's own token is good for: all that is inside of it, and nothing of its life.
const INSIDE: [Scope; 8] = [
    Scope::ExecCreate,
    Scope::ExecRead,
    Scope::SessionCreate,
    Scope::SessionRead,
    Scope::SessionWrite,
    Scope::FileRead,
    Scope::FileWrite,
    Scope::PortUse,
];

/// Who asks. Only [`Control::authenticate`] and [`Control::inside`] make one for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose things may be seen and changed.
    pub tenant: Tenant,
    /// The key that was shown; `None`: the token of one sandbox was.
    pub key_id: Option<KeyId>,
    /// What the key may be used for; `None`: everything.
    pub scopes: Option<Vec<Scope>>,
}

impl Control {
    /// Who asks with the token of a sandbox, for what is inside of it. Whoever calls this has looked at the token. `None`: it has ended.
    pub fn inside(&self, sandbox: SandboxId) -> Option<Caller> {
        Some(Caller {
            tenant: self.0.live.with(sandbox, |entry| entry.row.tenant())?,
            key_id: None,
            scopes: Some(INSIDE.to_vec()),
        })
    }

    /// Whether everybody may reach what listens in it.
    pub fn has_public_ports(&self, sandbox: SandboxId) -> bool {
        let is_public = self.0.live.with(sandbox, |entry| entry.row.public_ports);
        is_public.unwrap_or(false)
    }

    /// The sandboxes that have not ended, of all tenants: for finding the one that a link was made for.
    pub fn live_sandboxes(&self) -> Vec<SandboxId> {
        self.0.live.ids()
    }
}

impl Caller {
    /// Whether a sandbox's own token gives this caller nothing that its key does not.
    pub fn may_enter(&self) -> bool {
        INSIDE.iter().all(|scope| self.require(*scope).is_ok())
    }

    /// Refuses with 403 if the key lacks this scope.
    pub fn require(&self, scope: Scope) -> Result<()> {
        match &self.scopes {
            Some(scopes) if !scopes.contains(&scope) => Err(Error::new(
                ErrorCode::Forbidden,
                format!("this key lacks the scope {}", scope.as_str()),
            )
            .with_hint("use a key that has it, or make one")),
            _ => Ok(()),
        }
    }
}
