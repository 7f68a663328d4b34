//! Layers: what earlier builds left that this one need not do again.

use jiff::SignedDuration;
use skerry_proto::node::{Defaults, MemoryWish};
use skerry_recipe::{Key, Recipe};
use skerry_store::{Defaults as Shown, Tenant};
use skerry_types::{Result, SandboxId, SnapshotId};

use crate::service::SYSTEM;
use crate::{Caller, Control, SnapshotRequest};

/// Layers of an org that no template needs are kept for so long after their last use …
const KEEP_FOR: SignedDuration = SignedDuration::from_hours(24);
/// … and only so many.
const KEEP: u32 = 64;

/// A layer, and what it gives to what is made from it.
pub(super) struct Layer {
    pub(super) id: SnapshotId,
    pub(super) defaults: Shown,
}

/// Where a build can begin.
#[derive(Default)]
pub(super) struct Begin {
    /// Steps that need not be done.
    pub(super) done: usize,
    /// What they led to; `None`: none is done.
    pub(super) layer: Option<Layer>,
    /// The layer is the whole template.
    pub(super) is_whole: bool,
}

impl Control {
    /// The last of these that is there. `keys` has one more than the recipe has steps, for its end.
    pub(super) async fn begin_at(
        &self,
        tenant: &Tenant,
        recipe: &Recipe,
        keys: &[Key],
    ) -> Result<Begin> {
        let steps = recipe.steps.len();
        let layers = (0..steps).filter(|step| recipe.steps[*step].action.makes_layer());
        let ends = layers
            .map(|step| (step + 1, keys[step]))
            .chain([(steps, keys[steps])]);
        // What is to be done again is not to be found.
        let last = recipe.steps.iter().position(|step| step.force);
        let ends: Vec<_> = ends
            .take_while(|(done, _)| last.is_none_or(|forced| *done <= forced))
            .collect();
        for (done, key) in ends.iter().rev() {
            let found = self.0.store.use_layer(tenant, key.bytes(), self.now());
            if let Some((snapshot, defaults)) = found.await? {
                // Where the end has no key of its own, the last step's layer is the template.
                let is_whole = *key == keys[steps];
                return Ok(Begin {
                    done: *done,
                    layer: Some(Layer {
                        id: snapshot.id,
                        defaults,
                    }),
                    is_whole,
                });
            }
        }
        Ok(Begin::default())
    }

    /// Keeps the sandbox as it is.
    pub(super) async fn keep_layer(
        &self,
        caller: &Caller,
        sandbox: SandboxId,
        key: Key,
        memory: MemoryWish,
        defaults: Defaults,
    ) -> Result<Layer> {
        let layer = Layer {
            id: SnapshotId::new(),
            defaults: shown(&defaults),
        };
        let (store, tenant) = (&self.0.store, &caller.tenant);
        let begun = store.begin_layer(tenant, layer.id, key.bytes(), &layer.defaults, self.now());
        begun.await?;
        let request = SnapshotRequest {
            id: Some(layer.id),
            memory,
            defaults: Some(defaults),
            ..SnapshotRequest::default()
        };
        self.take_snapshot(caller, sandbox, request).await?;
        Ok(layer)
    }

    /// Removes layers that nobody needs.
    pub(crate) async fn clean_layers(&self) -> Result<()> {
        let in_use = self.sources_in_use();
        let store = &self.0.store;
        let found = store.superfluous_layers(&SYSTEM, KEEP, self.now() - KEEP_FOR);
        for (org, layer) in found.await? {
            let Some(member) = self.0.nodes.get(layer.node_id) else {
                continue;
            };
            if !in_use.contains(&layer.id) {
                self.remove_from(member, &Tenant::of(org), layer.id).await?;
            }
        }
        Ok(())
    }
}

/// Without the values of variables.
fn shown(defaults: &Defaults) -> Shown {
    Shown {
        workdir: defaults.workdir.clone(),
        user: defaults.user.clone(),
        env_names: defaults.env.keys().cloned().collect(),
        ..Shown::default()
    }
}
