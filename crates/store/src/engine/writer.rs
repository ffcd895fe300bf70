//! SQLite's one writer: takes everything that waits, commits it together, and only then answers everybody.
//!
//! One `fsync` then carries many writes: some 400 commits a second alone become thousands together, and still every acknowledged
//! write is durable. One that errs is rolled back alone: then the group runs again, each in a savepoint of its own.
//! Who comes first writes for all who come while it does.

use super::sqlite::{Sqlite, Use, apart, at_once, beside};
use super::{Lasting, Tx, args};
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
    /// What its commit is to survive.
    fn lasting(&self) -> Lasting;
    /// Runs in the transaction that is open; whether it succeeded. Only the last run counts.
    fn run(&mut self, tx: &mut Tx) -> bool;
    /// Answers the caller, once it is known whether the commit held, or in which words it did not.
    fn tell(self: Box<Self>, failed: Option<&str>);
}

struct Write<T, F> {
    f: F,
    lasting: Lasting,
    result: Option<Result<(T, bool)>>,
    answer: oneshot::Sender<Result<(T, bool)>>,
}

impl<T, F> Job for Write<T, F>
where
    T: Send + 'static,
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
{
    fn lasting(&self) -> Lasting {
        self.lasting
    }

    fn run(&mut self, tx: &mut Tx) -> bool {
        let f = self.f.clone();
        tx.take_rings();
        let whole = || {
            at_once(async {
                let value = f(&mut *tx).await?;
                tx.write_counts().await?;
                Ok((value, tx.take_rings()))
            })
        };
        let result = catch_unwind(AssertUnwindSafe(whole)).unwrap_or_else(|_| Err(Error::Database("a write of ours broke off".to_owned())));
        tx.forget_counts();
        self.result.insert(result).is_ok()
    }

    fn tell(self: Box<Self>, failed: Option<&str>) {
        let _ = self.answer.send(match (self.result, failed) {
            (Some(Err(error)), _) => Err(error),
            (Some(done), None) => done,
            (_, failed) => Err(Error::Database(failed.unwrap_or("a write of ours was not run").to_owned())),
        });
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

    /// Runs `f` in the next group; answers its value and whether to ring, once committed to survive what `lasting` says.
    pub(super) async fn write<T, F>(&self, lasting: Lasting, f: F) -> Result<(T, bool)>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Clone + Send + 'static,
    {
        let gone = || Error::Database("the writer has stopped".to_owned());
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut queue = self.desk.queue();
            if queue.closed {
                return Err(gone());
            }
            queue.jobs.push_back(Box::new(Write { f, lasting, result: None, answer }));
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
            let group: Vec<_> = {
                let mut queue = self.queue();
                if queue.jobs.is_empty() {
                    queue.served = false;
                    return;
                }
                let most = queue.jobs.len().min(GROUP);
                queue.jobs.drain(..most).collect()
            };
            let open = match conn.take() {
                Some(open) => Ok(open),
                None => Sqlite::open(&self.file, Use::Write).map(Tx::sqlite),
            };
            match open {
                // A connection on which a transaction could not be ended is not used again.
                Ok(mut open) => *conn = commit_together(&mut open, group).then_some(open),
                Err(error) => tell(group, Some(&error)),
            }
        }
    }
}

fn tell(group: Vec<Box<dyn Job>>, failed: Option<&Error>) {
    let words = failed.map(ToString::to_string);
    group.into_iter().for_each(|job| job.tell(words.as_deref()));
}

/// Runs and commits one group; whether the connection is still good.
fn commit_together(tx: &mut Tx, mut group: Vec<Box<dyn Job>>) -> bool {
    let done = run_all(tx, &mut group).and_then(|()| say(tx, "COMMIT"));
    let good = done.is_ok() || say(tx, "ROLLBACK").is_ok();
    tell(group, done.as_ref().err());
    good
}

fn run_all(tx: &mut Tx, group: &mut [Box<dyn Job>]) -> Result<()> {
    tx.set_lasting(group.iter().map(|job| job.lasting()).max().unwrap_or(Lasting::OnDisk))?;
    begin(tx)?;
    // Nearly always all of them succeed, and a savepoint has SQLite copy every page that is changed after it.
    if group.iter_mut().all(|job| job.run(tx)) {
        return Ok(());
    }
    say(tx, "ROLLBACK")?;
    begin(tx)?;
    for job in group {
        say(tx, "SAVEPOINT one_write")?;
        if !job.run(tx) {
            say(tx, "ROLLBACK TO one_write")?;
        }
        say(tx, "RELEASE one_write")?;
    }
    Ok(())
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
