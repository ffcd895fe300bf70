//! What a whole read did not show: each is read by itself, for a search never shows a delete (FHIR R4 http#delete), and
//! nothing found is not "deleted" until the row itself says so.

use super::checkpoint::Checkpoint;
use super::of_the_connection;
use super::row::Row;
use super::turn::{End, Turn};
use crate::breaker;
use model::{Class, EhrId, ObservationId};
use store::Error;
use store::lane::Fenced;

/// Reads them one by one; 404 and 410 are deletes. `Some`: the pull ends here.
pub(super) async fn look(turn: &mut Turn<'_>, at: &mut Checkpoint) -> Result<Option<End>, Error> {
    let missing = turn.claim.not_seen(at.started_at).await?;
    // A denial may be an empty 200 and a 404 on purpose (FHIR.md §1). Where the EHR shows nothing at all any more, only
    // its own word for a delete counts.
    let shows_nothing = at.own == 0 && missing.len() > 1;
    let mut hidden = 0u64;
    for (observation, ehr_id) in missing {
        if let Err(end) = turn.goes_on().await? {
            return Ok(Some(end));
        }
        if !turn.keep_lease(at).await? {
            return Ok(Some(End::Lost));
        }
        match one(turn, at, observation, &ehr_id, shows_nothing).await? {
            Missing::Settled => {}
            Missing::Hidden => hidden += 1,
            Missing::End(end) => return Ok(Some(end)),
        }
    }
    if hidden > 0 {
        let message = format!(
            "The EHR shows none of this patient's observations any more, and {hidden} cannot be read. Was our permission withdrawn? The hospital looks."
        );
        return turn.incomplete(at, &message).await.map(Some);
    }
    Ok(None)
}

enum Missing {
    /// It is known what became of it, or the EHR does not tell us and nothing was changed.
    Settled,
    /// It may be gone or withheld.
    Hidden,
    End(End),
}

async fn one(
    turn: &mut Turn<'_>,
    at: &Checkpoint,
    observation: ObservationId,
    ehr_id: &EhrId,
    shows_nothing: bool,
) -> Result<Missing, Error> {
    let outcome = turn.read_outcome(ehr_id).await;
    match outcome.class {
        Class::Gone if shows_nothing && outcome.status != Some(410) => Ok(Missing::Hidden),
        Class::Gone => gone(turn, observation).await,
        Class::Applied | Class::Exists => match outcome.resource.map(|raw| turn.reader.read_raw(&raw, Some(ehr_id))) {
            // Still there: the list did not show it.
            Some(Row::Own { row, .. }) => Ok(if turn.store(at, vec![*row]).await? { Missing::Settled } else { Missing::End(End::Lost) }),
            // Another patient's by now, as after a merge: not this patient's any more. What we sent ourselves stays; its
            // deliveries tell its story.
            Some(Row::Foreign { ours: false }) => gone(turn, observation).await,
            Some(_) | None => Ok(Missing::Settled),
        },
        class if of_the_connection(class) => {
            let until = turn.connection_failed(&outcome, class).await?;
            Ok(Missing::End(End::not_now("pull_incomplete", breaker::sentence(class), Some(until))))
        }
        _ => Ok(Missing::Settled),
    }
}

async fn gone(turn: &Turn<'_>, observation: ObservationId) -> Result<Missing, Error> {
    Ok(match turn.claim.mark_gone(turn.now(), observation).await? {
        Fenced::Mine => Missing::Settled,
        Fenced::Lost => Missing::End(End::Lost),
    })
}
