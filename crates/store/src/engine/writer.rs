//! SQLite's one writer: takes everything that waits, commits it together, and only then answers everybody.
//!
//! Each write runs in a savepoint of its own and is rolled back alone if it errs. One `fsync` then carries many writes:
//! some 400 commits a second alone become thousands together, and still every acknowledged write is durable.

use super::Tx;
use crate::{Error, Result};
use futures::FutureExt;
use futures::future::BoxFuture;
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

/// At most so many writes in one commit.
const GROUP: usize = 256;
/// So often the beginning of a transaction is tried while another process writes (each try waits `busy_timeout`).
const BEGINS: u32 = 6;

/// The door to the writer. The writer ends when the last door is gone.
pub(super) struct Writer {
    jobs: mpsc::Sender<Box<dyn Job>>,
    stop: Arc<Notify>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// A write, its type forgotten.
trait Job: Send {
    /// Runs inside a savepoint; says what to answer once it is known whether the commit held.
    fn run<'t>(self: Box<Self>, tx: &'t mut Tx) -> BoxFuture<'t, Finish>;
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
    fn run<'t>(self: Box<Self>, tx: &'t mut Tx) -> BoxFuture<'t, Finish> {
        Box::pin(async move {
            let Self { f, answer } = *self;
            tx.take_rings();
            let whole = async {
                let value = f(tx).await?;
                tx.write_counts().await?;
                Ok(value)
            };
            let result = match AssertUnwindSafe(whole).catch_unwind().await {
                Ok(result) => result,
                Err(_) => Err(Error::Database("a write of ours broke off".to_owned())),
            };
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
        })
    }

    fn refuse(self: Box<Self>, error: String) {
        let _ = self.answer.send(Err(Error::Database(error)));
    }
}

impl Writer {
    /// Opens (and makes) the file and starts the writer.
    pub(super) async fn open(options: SqliteConnectOptions) -> Result<Self> {
        let conn = options.connect().await?;
        let (jobs, waiting) = mpsc::channel(1024);
        let stop = Arc::new(Notify::new());
        let task = Mutex::new(Some(tokio::spawn(work(options, Tx::sqlite_writer(conn), waiting, stop.clone()))));
        Ok(Self { jobs, stop, task })
    }

    /// Takes no more, commits what waits and closes the connection. The last one closed folds the write-ahead log into the
    /// file, so that the file alone is whole.
    pub(super) async fn close(&self) {
        self.stop.notify_one();
        if let Some(task) = self.task.lock().await.take() {
            let _ = task.await;
        }
    }

    /// Runs `f` in the next group; answers its value and whether to ring, once committed.
    pub(super) async fn write<T, F>(&self, f: F) -> Result<(T, bool)>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T>> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let gone = || Error::Database("the writer has stopped".to_owned());
        self.jobs.send(Box::new(Write { f, answer })).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

async fn work(options: SqliteConnectOptions, tx: Tx, mut waiting: mpsc::Receiver<Box<dyn Job>>, stop: Arc<Notify>) {
    let mut tx = Some(tx);
    let mut group = Vec::with_capacity(GROUP);
    loop {
        tokio::select! {
            taken = waiting.recv_many(&mut group, GROUP) => if taken == 0 { break },
            () = stop.notified() => {
                waiting.close();
                continue;
            }
        }
        let mut open = match tx.take() {
            Some(open) => open,
            None => match options.connect().await {
                Ok(conn) => Tx::sqlite_writer(conn),
                Err(error) => {
                    let words = Error::from(error).to_string();
                    group.drain(..).for_each(|job| job.refuse(words.clone()));
                    continue;
                }
            },
        };
        // A connection on which a transaction could not be ended is not used again.
        if commit_together(&mut open, &mut group).await {
            tx = Some(open);
        }
    }
    if let Some(tx) = tx {
        tx.close().await;
    }
}

/// Runs and commits one group; whether the connection is still good.
async fn commit_together(tx: &mut Tx, group: &mut Vec<Box<dyn Job>>) -> bool {
    if let Err(error) = begin(tx).await {
        let words = error.to_string();
        group.drain(..).for_each(|job| job.refuse(words.clone()));
        return false;
    }
    let mut finished = Vec::with_capacity(group.len());
    let mut broken = None;
    for job in group.drain(..) {
        if let Some(words) = &broken {
            job.refuse(String::clone(words));
            continue;
        }
        if let Err(error) = tx.execute("SAVEPOINT one_write", vec![]).await {
            let words = error.to_string();
            job.refuse(words.clone());
            broken = Some(words);
            continue;
        }
        let finish = job.run(tx).await;
        let ended = if finish.ok {
            tx.execute("RELEASE one_write", vec![]).await
        } else {
            match tx.execute("ROLLBACK TO one_write", vec![]).await {
                Ok(_) => tx.execute("RELEASE one_write", vec![]).await,
                failed => failed,
            }
        };
        finished.push(finish);
        if let Err(error) = ended {
            broken = Some(error.to_string());
        }
    }
    let committed = match &broken {
        None => tx.execute("COMMIT", vec![]).await.map(drop).map_err(|error| error.to_string()),
        Some(words) => Err(words.clone()),
    };
    let mut good = true;
    if committed.is_err() {
        good = tx.execute("ROLLBACK", vec![]).await.is_ok();
    }
    for finish in finished {
        (finish.tell)(committed.clone());
    }
    good
}

async fn begin(tx: &mut Tx) -> Result<()> {
    let mut tries = 1;
    loop {
        match tx.execute("BEGIN IMMEDIATE", vec![]).await {
            Ok(_) => return Ok(()),
            // Another process (`ponte status`, a migration) writes just now.
            Err(_) if tries < BEGINS => tries += 1,
            Err(error) => return Err(error),
        }
    }
}
