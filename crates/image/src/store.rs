//! The store: images by name, and who uses them now.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use parking_lot::Mutex;
use skerry_sys::idmap::Ids;
use skerry_types::ImageId;

use crate::error::{ImageError, Result};
use crate::host::{self, Stamp};
use crate::image::{Image, Kind};
use crate::index;
use crate::layers::{Folders, tree_bytes};
use crate::progress::Progress;
use crate::reach::Reach;
use crate::reference::{self, BASE, HOST};
use crate::registry::Auth;
use crate::room::{Room, Scratch};
use crate::turns::Turns;
use crate::unpack::{Budget, Limits};

/// All images of this machine. Cheap to clone; one process owns the folder.
#[derive(Clone)]
pub struct Images {
    pub(crate) inner: Arc<Inner>,
}

/// What a store may take, and from where.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// What one image may cost.
    pub limits: Limits,
    /// Where images may come from; nowhere, unless said.
    pub reach: Reach,
    /// What of the disk it may use.
    pub room: Room,
}

pub(crate) struct Inner {
    pub(crate) folders: Folders,
    pub(crate) limits: Limits,
    pub(crate) reach: Reach,
    pub(crate) room: Room,
    /// Whom the files of layers can belong to.
    pub(crate) ids: Ids,
    /// Whoever makes a layer or an image takes a turn on its name.
    pub(crate) turns: Turns,
    /// Taken to write a record, which waits for the disk; nobody who only reads waits for it.
    writing: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    images: BTreeMap<String, Arc<Image>>,
    /// `host`, as long as the host looks like this.
    host: Option<(Stamp, Arc<Image>)>,
    /// How many hold each image.
    held: HashMap<ImageId, usize>,
    /// How many need each layer to stay, by holding an image or by making one.
    pinned: HashMap<PathBuf, usize>,
}

impl Images {
    /// Opens the store under `data_dir`, made if need be, and clears away what a crash left.
    ///
    /// The folder is closed to other users: a layer may hold setuid programs of strangers.
    /// Layers that nothing names stay until [`Images::collect`], so that holders can come back first.
    pub fn open(data_dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(data_dir, Options::default())
    }

    /// As [`Images::open`], with other limits than the usual.
    pub fn open_with(data_dir: impl AsRef<Path>, options: Options) -> Result<Self> {
        let ids = Ids::own().map_err(ImageError::io("read", "/proc/self/uid_map"))?;
        let folders = Folders::open(&data_dir.as_ref().join(folder_name(ids)))?;
        let images = index::read_all(&folders.index, &folders.layers)?
            .into_iter()
            .filter(has_layers)
            .map(|image| (image.reference.clone(), Arc::new(image)))
            .collect();
        Ok(Self {
            inner: Arc::new(Inner {
                folders,
                limits: options.limits,
                reach: options.reach,
                room: options.room,
                ids,
                turns: Turns::default(),
                writing: Mutex::new(()),
                state: Mutex::new(State {
                    images,
                    ..State::default()
                }),
            }),
        })
    }

    /// The image of that name or id if it is on this machine; `host` always is.
    ///
    /// Takes microseconds, except for the first time that `host` is asked for after the host changed.
    /// A local name wins over a registry's.
    pub fn resolve(&self, reference: &str) -> Result<Arc<Image>> {
        if reference == HOST {
            return self.resolve_host();
        }
        let state = self.inner.state.lock();
        state.find(reference).ok_or_else(|| ImageError::Unknown {
            reference: reference.chars().take(256).collect(),
            known: state.names(),
        })
    }

    /// The image, got first where it is not here: `base` is built, what names a registry is pulled.
    pub async fn ensure(&self, reference: &str, progress: Progress) -> Result<Arc<Image>> {
        match self.resolve(reference) {
            Err(ImageError::Unknown { .. }) if reference == BASE => self.build_base(progress).await,
            Err(ImageError::Unknown { .. }) if reference::looks_remote(reference) => {
                self.pull(reference, Auth::Anonymous, progress).await
            }
            other => other,
        }
    }

    /// As [`Images::ensure`], but asks the registry again: a tag may mean something else by now.
    ///
    /// Who asks for this means a registry, also by a name without one; what is made here needs no login and takes none.
    pub async fn refresh(
        &self,
        reference: &str,
        auth: Auth,
        progress: Progress,
    ) -> Result<Arc<Image>> {
        match (reference, &auth) {
            (HOST, Auth::Anonymous) => self.resolve_host(),
            (BASE, Auth::Anonymous) => self.build_base(progress).await,
            _ => self.pull(reference, auth, progress).await,
        }
    }

    /// Every image on this machine, by name; `host` is among them.
    pub fn list(&self) -> Result<Vec<Arc<Image>>> {
        self.resolve_host()?;
        Ok(self.inner.state.lock().images.values().cloned().collect())
    }

    /// The image, and how many hold it now.
    pub fn inspect(&self, reference: &str) -> Result<(Arc<Image>, usize)> {
        let image = self.resolve(reference)?;
        let holders = self.inner.state.lock().holders(image.id);
        Ok((image, holders))
    }

    /// Keeps the image from being removed, and its layers on disk, until the hold is dropped.
    ///
    /// Also for an image written down earlier, whose name may mean something else by now. Fails when its
    /// layers are gone, so that a hold is proof of the layers.
    pub fn hold(&self, image: &Image) -> Result<Hold> {
        *self.inner.state.lock().held.entry(image.id).or_default() += 1;
        let hold = Hold {
            id: image.id,
            pin: self.inner.clone().pin(image.layers.clone()),
        };
        if has_layers(image) {
            return Ok(hold);
        }
        Err(ImageError::Gone {
            reference: image.reference.clone(),
        })
    }

    /// Keeps the image's layers on disk, not the image from being removed. Fails when they are gone.
    pub fn pin(&self, image: &Image) -> Result<Pin> {
        let pin = self.inner.clone().pin(image.layers.clone());
        if has_layers(image) {
            return Ok(pin);
        }
        Err(ImageError::Gone {
            reference: image.reference.clone(),
        })
    }

    /// Forgets the image, and removes the layers that no other needs.
    ///
    /// Refused while it is held, or while `in_use` names somebody who needs it.
    pub fn remove(
        &self,
        reference: &str,
        in_use: impl FnOnce(&Image) -> Option<String>,
    ) -> Result<()> {
        let image = self.resolve(reference)?;
        let refuse = |by: String| {
            Err(ImageError::InUse {
                reference: image.reference.clone(),
                by,
            })
        };
        if let Some(by) = in_use(&image) {
            return refuse(by);
        }
        {
            let _writing = self.inner.writing.lock();
            let mut state = self.inner.state.lock();
            let holders = state.holders(image.id);
            if holders > 0 {
                return refuse(format!("{holders} sandboxes and snapshots need it"));
            }
            index::remove(&self.inner.folders.index, &image.reference)?;
            state.images.remove(&image.reference);
            state.host.take_if(|(_, host)| host.id == image.id);
        }
        self.collect().map(drop)
    }

    /// Removes the layers that no image, holder or running work needs; gives how many those were.
    pub fn collect(&self) -> Result<usize> {
        let swept = {
            let state = self.inner.state.lock();
            let named = state.images.values().flat_map(|image| &image.layers);
            let used: HashSet<PathBuf> = named.chain(state.pinned.keys()).cloned().collect();
            self.inner.folders.sweep(&used)?
        };
        swept.remove()
    }

    fn resolve_host(&self) -> Result<Arc<Image>> {
        let inner = &self.inner;
        let stamp = Stamp::now();
        if let Some((of, image)) = &inner.state.lock().host
            && *of == stamp
        {
            return Ok(image.clone());
        }
        let image = self.make_host(&stamp.layer_name(inner.ids))?;
        inner.state.lock().host = Some((stamp, image.clone()));
        Ok(image)
    }

    fn make_host(&self, content: &str) -> Result<Arc<Image>> {
        let inner = &self.inner;
        let layer = inner.folders.layer(content);
        if let Some(image) = inner.state.lock().images.get(HOST)
            && image.layers == [layer.as_path()]
        {
            return Ok(image.clone());
        }
        let _pin = inner.clone().pin(vec![layer.clone()]);
        let tree = inner.folders.work_folder()?;
        host::build(tree.path(), inner.ids)?;
        inner.folders.keep(tree, content)?;
        inner.enter(Image {
            id: ImageId::new(),
            reference: HOST.to_owned(),
            digest: format!("sha256:{content}"),
            size_bytes: tree_bytes(&layer).map_err(ImageError::io("measure", &layer))?,
            layers: vec![layer],
            binds: host::binds(),
            config: host::config(inner.ids),
            created_at: Timestamp::now(),
            kind: Kind::Host,
        })
    }
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images")
            .field("folders", &self.inner.folders)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// What the layers of one image may cost.
    pub(crate) fn budget(&self, cancelled: Arc<AtomicBool>) -> Budget {
        Budget::new(self.limits.clone(), self.room.clone(), cancelled)
    }

    /// A file without a name, gone with its handle.
    pub(crate) fn scratch(&self) -> Result<Scratch> {
        let file = tempfile::tempfile_in(&self.folders.work)
            .map_err(ImageError::io("make a file in", &self.folders.work))?;
        Ok(Scratch::new(file, self.room.clone()))
    }

    /// Makes the image known, durably; the same content under the same name stays the image it was.
    pub(crate) fn enter(&self, image: Image) -> Result<Arc<Image>> {
        self.folders.sync()?;
        let _writing = self.writing.lock();
        if let Some(old) = self.state.lock().images.get(&image.reference)
            && (&old.digest, &old.layers) == (&image.digest, &image.layers)
        {
            return Ok(old.clone());
        }
        index::write(&self.folders.index, &image)?;
        let image = Arc::new(image);
        let name = image.reference.clone();
        self.state.lock().images.insert(name, image.clone());
        Ok(image)
    }

    /// Keeps layers, there already or to come, from being collected.
    pub(crate) fn pin(self: Arc<Self>, layers: Vec<PathBuf>) -> Pin {
        let mut state = self.state.lock();
        for layer in &layers {
            *state.pinned.entry(layer.clone()).or_default() += 1;
        }
        drop(state);
        Pin {
            inner: self,
            layers,
        }
    }
}

impl State {
    fn find(&self, reference: &str) -> Option<Arc<Image>> {
        if let Some(image) = self.images.get(reference) {
            return Some(image.clone());
        }
        if let Ok(id) = reference.parse::<ImageId>() {
            return self.images.values().find(|image| image.id == id).cloned();
        }
        let local = reference::local(reference).ok();
        let remote = || reference::registry(reference).ok().map(|name| name.whole());
        local
            .and_then(|name| self.images.get(&name))
            .or_else(|| self.images.get(&remote()?))
            .cloned()
    }

    /// What can be had without a network: what is here, and what can be made.
    fn names(&self) -> Vec<String> {
        let made = [HOST.to_owned(), BASE.to_owned()];
        let others = self.images.keys().filter(|name| !made.contains(name));
        made.iter().chain(others).cloned().collect()
    }

    fn holders(&self, id: ImageId) -> usize {
        self.held.get(&id).copied().unwrap_or(0)
    }
}

/// Keeps an image from being removed; dropping it lets go.
#[derive(Debug)]
#[must_use = "dropping a hold lets the image go"]
pub struct Hold {
    id: ImageId,
    pin: Pin,
}

impl Drop for Hold {
    fn drop(&mut self) {
        release(&mut self.pin.inner.state.lock().held, &self.id);
    }
}

/// Keeps layers from being collected; dropping it lets go.
#[must_use = "dropping a pin lets the layers go"]
pub struct Pin {
    inner: Arc<Inner>,
    layers: Vec<PathBuf>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.inner.state.lock();
        for layer in &self.layers {
            release(&mut state.pinned, layer);
        }
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.layers).finish()
    }
}

fn release<K: Eq + std::hash::Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

/// What was unpacked with other owners on disk is of no use, so it has another folder.
fn folder_name(ids: Ids) -> &'static str {
    match ids {
        Ids::Range { .. } => "images-range",
        Ids::All | Ids::One => "images",
    }
}

fn has_layers(image: &Image) -> bool {
    let complete = image.layers.iter().all(|layer| layer.is_dir());
    if !complete {
        tracing::warn!(reference = image.reference, "an image lost its layers");
    }
    complete
}
