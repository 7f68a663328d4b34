//! File work: requests, answers, and the data that belongs to them. None outlives its link.

mod attributes;
mod edit;
mod entry;
pub(crate) mod error;
mod flow;
mod folders;
mod remove;
mod tar_in;
mod tar_out;
mod transfer;
mod watch;

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use skerry_proto::agent::from_agent::Body;
use skerry_proto::agent::{
    self, Call, Data, Done, Overwrite, Processes, Read, Release, Reply, Request, Response, TarIn,
    TarOut, Write,
};
use skerry_proto::glob::Globs;
use skerry_types::limits::MAX_PATH_BYTES;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::task::{AbortHandle, spawn_blocking, spawn_local};

use crate::files::error::FileError;
use crate::files::flow::{Flow, Sink, Source};
use crate::files::watch::Watch;
use crate::hold::Hold;
use crate::outbox::Outbox;
use crate::procs;
use crate::renew::renew;
use crate::users::{User, UserError, Users};

/// Requests open at once on a link.
const MAX_REQUESTS: usize = 256;
/// Threads that file work may use.
pub(crate) const THREADS: usize = 32;
/// Of these, for transfers, which wait for the other side; the rest is for what is soon done.
const TRANSFERS: usize = 24;

/// A request under way.
#[derive(Debug)]
struct Open {
    flow: Rc<Flow>,
    task: AbortHandle,
}

/// All requests of the current link.
#[derive(Debug)]
pub(crate) struct Files {
    open: RefCell<HashMap<u64, Open>>,
    transfers: Semaphore,
    hold: Arc<Mutex<Hold>>,
    outbox: Rc<Outbox>,
}

/// What ends a request without an answer of its own.
pub(crate) type Work = Result<Reply, FileError>;

impl Files {
    pub(crate) fn new(outbox: Rc<Outbox>) -> Rc<Self> {
        Rc::new(Self {
            open: RefCell::default(),
            transfers: Semaphore::new(TRANSFERS),
            hold: Arc::default(),
            outbox,
        })
    }

    /// Does what is asked, and answers.
    pub(crate) fn request(self: &Rc<Self>, request: Request) {
        let id = request.id;
        let Some(call) = request.call else {
            return;
        };
        if self.open.borrow().len() >= MAX_REQUESTS {
            self.answer(id, Err(FileError::TooMany(MAX_REQUESTS)));
            return;
        }
        let flow = Rc::new(Flow::new(id));
        let (this, own) = (self.clone(), flow.clone());
        let task = spawn_local(async move {
            let reply = this.work(id, &own, call).await;
            this.open.borrow_mut().remove(&id);
            this.answer(id, reply);
        });
        let task = task.abort_handle();
        let replaced = self.open.borrow_mut().insert(id, Open { flow, task });
        if let Some(replaced) = replaced {
            replaced.task.abort();
        }
    }

    /// Answers a request.
    pub(crate) fn answer(&self, id: u64, reply: Work) {
        let reply = Some(reply.unwrap_or_else(|error| Reply::Failed(error.failed())));
        self.outbox.send(Body::Response(Response { id, reply }));
    }

    /// Takes data for a request. False if the node breaks the rules.
    pub(crate) fn data(&self, data: Data) -> bool {
        let open = self.open.borrow();
        // Data of a request that has failed meanwhile is nobody's.
        open.get(&data.id)
            .is_none_or(|open| open.flow.arrived(data))
    }

    /// The node takes more of a request's data.
    pub(crate) fn credit(&self, id: u64, bytes: u32) {
        if let Some(open) = self.open.borrow().get(&id) {
            open.flow.credit(bytes);
        }
    }

    /// Forgets a request. Its thread notices at its next chunk, and undoes what is half done.
    pub(crate) fn cancel(&self, id: u64) {
        if let Some(open) = self.open.borrow_mut().remove(&id) {
            open.task.abort();
        }
    }

    /// Forgets all requests: their link is gone.
    pub(crate) fn cancel_all(&self) {
        for (_, open) in self.open.borrow_mut().drain() {
            open.task.abort();
        }
    }

    async fn work(&self, id: u64, flow: &Flow, call: Call) -> Work {
        match call {
            Call::Read(read) => self.read(id, flow, read).await,
            Call::Write(write) => self.write(flow, write).await,
            Call::Overwrite(overwrite) => self.overwrite(flow, overwrite).await,
            Call::TarOut(tar) => self.tar_out(flow, tar).await,
            Call::TarIn(tar) => self.tar_in(flow, tar).await,
            Call::Watch(request) => {
                let root = path(&request.path)?;
                let watch = blocking(move || Watch::start(id, &root, request.recursive)).await?;
                self.answer(id, Ok(done(0)));
                // Only the kernel can end it, and then there is nothing more to tell.
                let _: std::io::Result<()> = watch.tell(&self.outbox).await;
                Err(FileError::GivenUp)
            }
            Call::Hold(_) => self.with_hold(|hold| Ok(hold.stop()?)).await,
            Call::Release(Release { renew: None }) => {
                // A few signals, which are not worth a thread.
                self.hold.lock().await.go_on();
                Ok(done(0))
            }
            Call::Release(Release { renew: Some(new) }) => {
                // First what must be new, then whoever would notice.
                self.with_hold(move |hold| renew(&new).map(|()| hold.go_on()))
                    .await
            }
            short => blocking(move || quick(short)).await,
        }
    }

    /// Are all processes held, and nobody is just changing that?
    pub(crate) fn is_holding(&self) -> bool {
        self.hold.try_lock().is_ok_and(|hold| hold.stands())
    }

    /// In the order in which it was asked for: a release that comes late would let go whom the next has stopped.
    async fn with_hold(
        &self,
        work: impl FnOnce(&mut Hold) -> Result<(), FileError> + Send + 'static,
    ) -> Work {
        let mut hold = self.hold.clone().lock_owned().await;
        blocking(move || work(&mut hold).map(|()| done(0))).await
    }

    async fn read(&self, id: u64, flow: &Flow, request: Read) -> Work {
        let _place = self.transfers.acquire().await;
        let path = path(&request.path)?;
        let (file, entry) = {
            let path = path.clone();
            blocking(move || transfer::open(&path, request.offset)).await?
        };
        self.answer(id, Ok(Reply::Entry(entry)));
        self.outgoing(flow, move |mut sink| {
            transfer::read(file, request.limit, &mut sink, &path)
        })
        .await?;
        // The data's own end is the answer; the one to the request was the entry.
        flow.send_end(&self.outbox);
        self.finished(id).await
    }

    /// Nothing more is to be said about a request.
    async fn finished(&self, id: u64) -> Work {
        self.open.borrow_mut().remove(&id);
        std::future::pending().await
    }

    async fn write(&self, flow: &Flow, request: Write) -> Work {
        let path = path(&request.path)?;
        let user = user(&request.user)?;
        let entry = self
            .incoming(flow, move |mut source| {
                transfer::write(&path, request.mode, &user, &mut source)
            })
            .await?;
        Ok(Reply::Entry(entry))
    }

    async fn overwrite(&self, flow: &Flow, request: Overwrite) -> Work {
        let path = path(&request.path)?;
        let user = user(&request.user)?;
        let entry = self
            .incoming(flow, move |mut source| {
                transfer::overwrite(&path, &request, &user, &mut source)
            })
            .await?;
        Ok(Reply::Entry(entry))
    }

    async fn tar_out(&self, flow: &Flow, request: TarOut) -> Work {
        let _place = self.transfers.acquire().await;
        let path = path(&request.path)?;
        self.outgoing(flow, move |sink| {
            tar_out::pack(&path, &Globs::new(&request.exclude), sink)
        })
        .await?;
        flow.send_end(&self.outbox);
        Ok(done(0))
    }

    async fn tar_in(&self, flow: &Flow, request: TarIn) -> Work {
        let path = path(&request.path)?;
        let user = user(&request.user)?;
        let bytes = self
            .incoming(flow, move |source| tar_in::unpack(&path, &user, source))
            .await?;
        Ok(done(bytes))
    }

    /// Runs a thread that sends.
    async fn outgoing(
        &self,
        flow: &Flow,
        work: impl FnOnce(Sink) -> Result<(), FileError> + Send + 'static,
    ) -> Result<(), FileError> {
        let (sink, chunks) = mpsc::channel(1);
        let work = blocking(move || work(Sink(sink)));
        let (done, ()) = tokio::join!(work, flow.send(&self.outbox, chunks));
        done
    }

    /// Runs a thread that receives.
    async fn incoming<T: Send + 'static>(
        &self,
        flow: &Flow,
        work: impl FnOnce(Source) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, FileError> {
        let _place = self.transfers.acquire().await;
        let (chunks, source) = mpsc::channel(1);
        let work = blocking(move || work(Source::new(source)));
        let receive = async {
            flow.receive(&self.outbox, chunks).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            done = work => done,
            () = receive => Err(FileError::GivenUp),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    spawn_blocking(work).await.map_err(|_| FileError::GivenUp)?
}

/// Calls that are soon done and have no data.
fn quick(call: Call) -> Work {
    match call {
        Call::Stat(stat) => Ok(Reply::Entry(entry::stat(&path(&stat.path)?)?)),
        Call::List(list) => Ok(Reply::Entries(entry::list(&path(&list.path)?, &list)?)),
        Call::MakeDir(dir) => {
            edit::make_dir(&path(&dir.path)?, dir.mode, &user(&dir.user)?)?;
            Ok(done(0))
        }
        Call::Move(moved) => {
            user(&moved.user)?;
            edit::rename(&path(&moved.from)?, &path(&moved.to)?)?;
            Ok(done(0))
        }
        Call::Remove(removed) => {
            remove::remove(&path(&removed.path)?)?;
            Ok(done(0))
        }
        Call::FindUser(find) => {
            let found = user(&find.user).map_err(FileError::NoUser)?;
            Ok(Reply::User(agent::User {
                home: Bytes::from(found.home.unwrap_or("/".to_owned())),
                name: found.name,
            }))
        }
        Call::ListProcesses(_) => Ok(Reply::Processes(Processes {
            processes: procs::list(),
        })),
        _ => Ok(done(0)),
    }
}

pub(crate) fn done(bytes: u64) -> Reply {
    Reply::Done(Done { bytes })
}

fn user(spec: &str) -> Result<User, UserError> {
    Users::load().find(spec)
}

fn path(bytes: &Bytes) -> Result<PathBuf, FileError> {
    if bytes.len() > MAX_PATH_BYTES {
        return Err(FileError::TooLong(bytes.len()));
    }
    let path = PathBuf::from(OsString::from_vec(bytes.to_vec()));
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(FileError::NotAbsolute(path))
    }
}
