//! Who asks: every function of the store takes one of these two, so that no query can forget its tenant.

use skerry_types::OrgId;

/// The org on whose behalf a request runs. Made by the code that checked the key, and nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tenant(OrgId);

impl Tenant {
    /// The context of a request that was found to belong to `org`.
    pub const fn of(org: OrgId) -> Self {
        Self(org)
    }

    /// The org.
    pub const fn org(&self) -> OrgId {
        self.0
    }
}

/// The system itself: reconcilers, key checks and set-up, which look across orgs. Never made on behalf of a request's body.
#[derive(Debug, Clone, Copy)]
pub struct System(());

impl System {
    /// Says, where it stands in the code, that what follows sees every org.
    pub const fn on_its_own_behalf() -> Self {
        Self(())
    }
}
