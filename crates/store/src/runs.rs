//! Long jobs with progress: sync-all, bulk replay, and connection checks (an api node never calls an EHR, so a worker does).

mod make;

use crate::engine::args;
use crate::{Error, Result, Tenant, audit};
use model::{RunId, Timestamp};

pub(crate) use make::replay_dead;

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// All that is unsynced.
    SyncAll,
    /// Dead letters.
    Replay,
    /// A connection check.
    Check,
}

impl RunKind {
    fn word(self) -> &'static str {
        match self {
            Self::SyncAll => "sync_all",
            Self::Replay => "replay",
            Self::Check => "check",
        }
    }

    fn parse(word: &str) -> Result<Self> {
        [Self::SyncAll, Self::Replay, Self::Check].into_iter().find(|kind| kind.word() == word).ok_or(Error::Corrupt("runs"))
    }
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunState {
    /// Under way.
    Running,
    /// Nothing of it waits any more.
    Finished,
    /// It broke off.
    Failed,
}

/// A run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What it does.
    pub kind: RunKind,
    /// Where it stands.
    pub state: RunState,
    /// What of it is done.
    pub progress: Progress,
    /// Input of a check, JSON.
    pub input: Option<String>,
    /// Result of a check, JSON.
    pub result: Option<String>,
    /// Asked for.
    pub created_at: Timestamp,
    /// Ended.
    pub finished_at: Option<Timestamp>,
}

/// Rows of a run. `failed`: dead, or its round used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// All.
    pub total: u64,
    /// At the EHR (or superseded by what is).
    pub synced: u64,
    /// Dead, or its round used up, or held for a person.
    pub failed: u64,
    /// On its way.
    pub waiting: u64,
}

impl Tenant {
    /// A run over all that is unsynced: due now as backlog, rounds begin anew. The explicit run that a moved connection needs:
    /// what an older generation holds gets a delivery to the present one. What is dead or held is counted and left to a
    /// person; what a person discarded is left out.
    pub async fn sync_all(&self, now: Timestamp, actor: &str) -> Result<Run> {
        make::sync_all(self, now, actor).await
    }

    /// A connection check for a worker to make.
    pub async fn request_check(&self, now: Timestamp, input: &str, actor: &str) -> Result<Run> {
        let key = self.key(now).await?;
        let id = RunId(self.inner.rng.uuid_v7(now));
        let (tenant, input, by) = (self.clone(), input.to_owned(), actor.to_owned());
        self.inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    let sealed = key.seal_text("runs", "sealed_input", id, &input)?;
                    tx.execute(
                        "INSERT INTO runs (tenant_id, id, kind, state, by_whom, sealed_input, created_at) VALUES ($1, $2, $3, 'running', $4, $5, $6)",
                        args![&tenant.id, id, RunKind::Check.word(), by.as_str(), sealed, now],
                    )
                    .await?;
                    audit::record(tx, &*tenant.inner.rng, &tenant.id, now, &by, "connection_checked", &format!("run/{id}")).await?;
                    tx.wake(true).await
                })
            })
            .await?;
        self.run(now, id).await?.ok_or(Error::Corrupt("runs"))
    }

    /// The worker's result of a check. The first one stays.
    pub async fn finish_check(&self, now: Timestamp, id: RunId, result: &str) -> Result<()> {
        let key = self.key(now).await?;
        let sealed = key.seal_text("runs", "sealed_result", id, result)?;
        let tenant = self.id.clone();
        self.inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    tx.execute(
                        "UPDATE runs SET state = 'finished', sealed_result = $3, finished_at = $4, lease_until = NULL \
                         WHERE tenant_id = $1 AND id = $2 AND kind = 'check' AND state = 'running'",
                        args![&tenant, id, sealed, now],
                    )
                    .await
                    .map(drop)
                })
            })
            .await
    }

    /// A sign of life of a connection check under way: nobody else begins it again before `until`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_check(&self, id: RunId, owner: &str, until: Timestamp) -> Result<()> {
        let (tenant, owner) = (self.id.clone(), owner.to_owned());
        self.inner
            .db
            .write(move |tx| {
                Box::pin(async move {
                    tx.execute(
                        "UPDATE runs SET lease_until = $4 WHERE tenant_id = $1 AND id = $2 AND kind = 'check' AND state = 'running' AND owner = $3",
                        args![&tenant, id, owner, until],
                    )
                    .await
                    .map(drop)
                })
            })
            .await
    }

    /// A run and its progress.
    pub async fn run(&self, now: Timestamp, id: RunId) -> Result<Option<Run>> {
        let Some(key) = self.key_if_any().await? else { return Ok(None) };
        let tenant = self.id.clone();
        let found = self
            .inner
            .db
            .read(move |tx| {
                Box::pin(async move {
                    let sql = "SELECT kind, state, sealed_input, sealed_result, lease_until, created_at, finished_at FROM runs \
                               WHERE tenant_id = $1 AND id = $2";
                    let Some(row) = tx.row(sql, args![&tenant, id]).await? else { return Ok(None) };
                    let open =
                        |column, sealed: Option<Vec<u8>>| sealed.map(|sealed| key.open_text("runs", column, id, &sealed)).transpose();
                    let run = Run {
                        id,
                        kind: RunKind::parse(&row.text("kind")?)?,
                        state: match row.text("state")?.as_str() {
                            "running" => RunState::Running,
                            "finished" => RunState::Finished,
                            "failed" => RunState::Failed,
                            _ => return Err(Error::Corrupt("runs")),
                        },
                        progress: make::progress(tx, &tenant, id).await?,
                        input: open("sealed_input", row.bytes_opt("sealed_input")?)?,
                        result: open("sealed_result", row.bytes_opt("sealed_result")?)?,
                        created_at: row.ts("created_at")?,
                        finished_at: row.ts_opt("finished_at")?,
                    };
                    // While it is still being made, that nothing waits means nothing.
                    let made = row.ts_opt("lease_until")?.is_none_or(|until| until <= now);
                    Ok(Some((run, made)))
                })
            })
            .await?;
        let Some((mut run, made)) = found else { return Ok(None) };
        if run.kind != RunKind::Check && run.state == RunState::Running && made && run.progress.waiting == 0 {
            let tenant = self.id.clone();
            self.inner
                .db
                .write(move |tx| {
                    Box::pin(async move {
                        let sql = "UPDATE runs SET state = 'finished', finished_at = $3, lease_until = NULL \
                                   WHERE tenant_id = $1 AND id = $2 AND state = 'running'";
                        tx.execute(sql, args![&tenant, id, now]).await.map(drop)
                    })
                })
                .await?;
            run.state = RunState::Finished;
            run.finished_at = Some(now);
        }
        Ok(Some(run))
    }
}
