//! SQLite's one writer: takes everything that waits, commits it together, and only then answers everybody.
//!
//! Each write runs in a savepoint of its own and is rolled back alone if it errs. One `fsync` then carries many writes:
//! some 400 commits a second alone become thousands together, and still every acknowledged write is durable.
//! Who comes first writes for all who come while it does.

use super::sqlite::{Sqlite, Use, apart, at_once, beside};
use super::{Tx, args};
use crate::{Error, Result};
use futures::future::BoxFuture;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// At most so many writes in one commit.
const GROUP: usize = 256;
/// So often the beginning of a transaction is tried while another process writes (each try waits for some seconds).
const BEGINS: u32 = 6;

/// The door to the writer.
pub(super) struct Writer {
    desk: Arc<Desk>,
}

struct Desk {
    file: PathBuf,
    queue: Mutex<Queue>,
    /// Whoever holds it writes.
    conn: Mutex<Option<Tx>>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Box<dyn Job>>,
    /// Somebody writes, or is about to, and will see what is queued now.
    served: bool,
    closed: bool,
}

/// A write, its type forgotten.
trait Job: Send {
    /// Runs inside a savepoint; says what to answer once it is known whether the commit held.
    fn run(self: Box<Self>, tx: &mut Tx) -> Finish;
    /// It cannot even begin.
    fn refuse(self: Box<Self>, error: String);
}

/// What to tell the caller of a write that has run.
struct Finish {
    ok: bool,
    tell: Box<dyn FnOnce(Result<(), String>) + Send>,
}

struct Write<T, F> {
    f: F,
    answer: oneshot::Sender<Result<(T, bool)>>,
}

impl<T, F> Job for Write<T, F>
where
    T: Send + 'static,
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
{
    fn run(self: Box<Self>, tx: &mut Tx) -> Finish {
        let Self { f, answer } = *self;
        tx.take_rings();
        let whole = || {
            at_once(async {
                let value = f(&mut *tx).await?;
                tx.write_counts().await?;
                Ok(value)
            })
        };
        let result =
            catch_unwind(AssertUnwindSafe(whole)).unwrap_or_else(|_| Err(Error::Database("a write of ours broke off".to_owned())));
        tx.forget_counts();
        let rings = tx.take_rings();
        Finish {
            ok: result.is_ok(),
            tell: Box::new(move |committed| {
                let _ = answer.send(match (result, committed) {
                    (Ok(value), Ok(())) => Ok((value, rings)),
                    (Ok(_), Err(error)) => Err(Error::Database(error)),
                    (Err(error), _) => Err(error),
                });
            }),
        }
    }

    fn refuse(self: Box<Self>, error: String) {
        let _ = self.answer.send(Err(Error::Database(error)));
    }
}

impl Writer {
    /// Opens (and makes) the file.
    pub(super) async fn open(file: PathBuf) -> Result<Self> {
        let place = file.clone();
        let conn = apart(move || Sqlite::open(&place, Use::Write)).await?;
        Ok(Self { desk: Arc::new(Desk { file, queue: Mutex::default(), conn: Mutex::new(Some(Tx::sqlite(conn))) }) })
    }

    /// Takes no more, commits what waits and closes the connection. The last one closed folds the write-ahead log into the
    /// file, so that the file alone is whole.
    pub(super) async fn close(&self) {
        self.desk.queue().closed = true;
        let desk = self.desk.clone();
        apart(move || {
            desk.serve();
            drop(desk.conn().take());
        })
        .await;
    }

    /// Runs `f` in the next group; answers its value and whether to ring, once committed.
    pub(super) async fn write<T, F>(&self, f: F) -> Result<(T, bool)>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        let gone = || Error::Database("the writer has stopped".to_owned());
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut queue = self.desk.queue();
            if queue.closed {
                return Err(gone());
            }
            queue.jobs.push_back(Box::new(Write { f, answer }));
            !std::mem::replace(&mut queue.served, true)
        };
        if first {
            let desk = self.desk.clone();
            // In a task of its own: the caller may give up waiting, and those behind it may not.
            drop(beside(move || desk.serve()));
        }
        answered.await.map_err(|_| gone())?
    }
}

impl Desk {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn conn(&self) -> MutexGuard<'_, Option<Tx>> {
        self.conn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits group after group until nothing waits.
    fn serve(&self) {
        let mut conn = self.conn();
        loop {
            let mut group: Vec<_> = {
                let mut queue = self.queue();
                let most = queue.jobs.len().min(GROUP);
                queue.jobs.drain(..most).collect()
            };
            if group.is_empty() {
                let mut queue = self.queue();
                if queue.jobs.is_empty() {
                    queue.served = false;
                    return;
                }
                continue;
            }
            let open = match conn.take() {
                Some(open) => Ok(open),
                None => Sqlite::open(&self.file, Use::Write).map(Tx::sqlite),
            };
            match open {
                // A connection on which a transaction could not be ended is not used again.
                Ok(mut open) => *conn = commit_together(&mut open, &mut group).then_some(open),
                Err(error) => refuse(&mut group, &error),
            }
        }
    }
}

fn refuse(group: &mut Vec<Box<dyn Job>>, error: &Error) {
    let words = error.to_string();
    group.drain(..).for_each(|job| job.refuse(words.clone()));
}

/// Runs and commits one group; whether the connection is still good.
fn commit_together(tx: &mut Tx, group: &mut Vec<Box<dyn Job>>) -> bool {
    if let Err(error) = begin(tx) {
        refuse(group, &error);
        return false;
    }
    let mut finished = Vec::with_capacity(group.len());
    let mut broken = None;
    for job in group.drain(..) {
        if let Some(words) = &broken {
            job.refuse(String::clone(words));
            continue;
        }
        if let Err(error) = say(tx, "SAVEPOINT one_write") {
            let words = error.to_string();
            job.refuse(words.clone());
            broken = Some(words);
            continue;
        }
        let finish = job.run(tx);
        let ended = if finish.ok { Ok(()) } else { say(tx, "ROLLBACK TO one_write") };
        let ended = ended.and_then(|()| say(tx, "RELEASE one_write"));
        finished.push(finish);
        if let Err(error) = ended {
            broken = Some(error.to_string());
        }
    }
    let committed = match &broken {
        None => say(tx, "COMMIT").map_err(|error| error.to_string()),
        Some(words) => Err(words.clone()),
    };
    let good = committed.is_ok() || say(tx, "ROLLBACK").is_ok();
    for finish in finished {
        (finish.tell)(committed.clone());
    }
    good
}

fn say(tx: &mut Tx, sql: &'static str) -> Result<()> {
    at_once(tx.execute(sql, args![])).map(drop)
}

fn begin(tx: &mut Tx) -> Result<()> {
    let mut tries = 1;
    loop {
        match say(tx, "BEGIN IMMEDIATE") {
            Ok(()) => return Ok(()),
            // Another process (`ponte status`, a migration) writes just now.
            Err(_) if tries < BEGINS => tries += 1,
            Err(error) => return Err(error),
        }
    }
}
