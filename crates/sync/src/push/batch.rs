//! A backlog as batch Bundles: each entry judged on its own; a batch that is refused whole is halved until the culprit
//! stands alone. It aims at two seconds (PRODUCT, effect ledger, rule 11).

use super::{Planned, Target, begin, call, log, send_each, settled, write_down};
use crate::lane::LaneTurn;
use crate::late;
use ehr::client::{Answer, Entry};
use ehr::reply::{Interaction, Outcome};
use fhir::bundle::BatchEntry;
use model::failure::Scope;
use model::{Class, Means, Proof, State};
use serde_json::value::RawValue;
use store::Error;

/// What a batch aims at, ms.
const AIM_MS: i64 = 2000;

/// Sends all, batch by batch.
pub(super) async fn send(lane: &mut LaneTurn, planned: Vec<Planned>) -> Result<(), Error> {
    let mut rest = planned;
    let mut halves: Vec<Vec<Planned>> = Vec::new();
    let mut refused_whole = false;
    let mut culprits = 0usize;
    while let Some(chunk) = halves.pop().or_else(|| front(&mut rest, lane.batch_limit())) {
        if lane.stopped() {
            return Ok(());
        }
        if chunk.len() == 1 || lane.runtime.plan.batch == Proof::Refused {
            culprits += send_alone(lane, chunk).await?;
            continue;
        }
        if let Some((first, second)) = one_batch(lane, chunk).await? {
            refused_whole = true;
            halves.push(second);
            halves.push(first);
        }
    }
    // Every batch was refused whole and every entry went well alone: it is the batch that this EHR does not take.
    if refused_whole && culprits == 0 && !lane.stopped() && lane.runtime.plan.batch != Proof::Proven {
        lane.change_plan(|plan| plan.batch = Proof::Refused).await?;
    }
    Ok(())
}

/// The first so many.
fn front(rest: &mut Vec<Planned>, limit: u32) -> Option<Vec<Planned>> {
    let tail = rest.split_off(rest.len().min(limit.max(1) as usize));
    let front = std::mem::replace(rest, tail);
    (!front.is_empty()).then_some(front)
}

async fn send_alone(lane: &mut LaneTurn, chunk: Vec<Planned>) -> Result<usize, Error> {
    let before = lane.refused_rows;
    // What went in a refused batch is tried again: another attempt, another id.
    let chunk = chunk.into_iter().map(|one| Planned { attempt: lane.new_attempt(), ..one }).collect();
    send_each(lane, chunk).await?;
    Ok(lane.refused_rows - before)
}

/// Sends one batch. Two halves come back where it was refused whole.
async fn one_batch(lane: &mut LaneTurn, chunk: Vec<Planned>) -> Result<Option<(Vec<Planned>, Vec<Planned>)>, Error> {
    let label = format!("POST (batch of {})", chunk.len());
    let chunk: Vec<Planned> = chunk.into_iter().map(|one| Planned { request: label.clone(), attempt: lane.new_attempt(), ..one }).collect();
    if !lane.begin(chunk.iter().map(begin).collect()).await? {
        return Ok(None);
    }
    let entries = chunk.iter().filter_map(|one| entry(lane, one)).collect::<Vec<Entry>>();
    if entries.len() != chunk.len() {
        return Ok(None);
    }
    let started = lane.engine.now();
    let Answer { outcome, content, late, .. } = lane.ehr.batch(entries, &call(lane)).await;
    let took = lane.engine.now().ms_since(started);
    late::keep_batch(lane, chunk.iter().map(|one| one.attempt).collect(), late);
    if let Some(outcomes) = content.filter(|outcomes| outcomes.len() == chunk.len()) {
        lane.change_limit(took, chunk.len()).await?;
        if lane.runtime.plan.batch != Proof::Proven {
            lane.change_plan(|plan| plan.batch = Proof::Proven).await?;
        }
        if chunk.iter().zip(&outcomes).all(|(one, outcome)| says_all(lane, one, outcome)) {
            lane.way.leave();
        }
        let mut settlements = Vec::new();
        for (one, outcome) in chunk.iter().zip(outcomes) {
            log(lane, one, &outcome, Some(took));
            settlements.push(settled(lane, one, outcome).await?);
        }
        lane.way.leave();
        write_down(lane, &chunk, settlements).await?;
        return Ok(None);
    }
    let class = match outcome.class {
        // A 2xx that does not answer entry by entry proves nothing of any of them.
        Class::Applied | Class::Exists | Class::BadResponse => Class::Uncertain,
        other => other,
    };
    let whole = Outcome { class, resource: None, ehr_id: None, ehr_version: None, ..outcome };
    for one in &chunk {
        log(lane, one, &whole, Some(took));
    }
    let uncertain = class == Class::Uncertain;
    let refused = !uncertain && class.scope() != Scope::Connection && !whole.withheld && class != Class::AuthDenied;
    if uncertain || class == Class::TooLarge {
        // Two at least: what goes alone is no batch, and only a batch that goes well lets the next ones grow again.
        let half = u32::try_from(chunk.len() / 2).unwrap_or(1).max(2);
        lane.change_plan(move |plan| plan.batch_limit = plan.batch_limit.min(half)).await?;
    }
    if matches!((class, whole.status), (Class::MeansRefused, _) | (_, Some(404 | 405 | 501))) {
        lane.change_plan(|plan| plan.batch = Proof::Refused).await?;
    }
    // Refused whole says nothing of the rows: none was applied, and each goes again at once.
    let each = if refused { Outcome { class: Class::Unreachable, withheld: true, ..whole } } else { whole };
    let mut settlements = Vec::new();
    for one in &chunk {
        settlements.push(settled(lane, one, each.clone()).await?);
    }
    if refused {
        for settlement in &mut settlements {
            if let Some(ended) = &mut settlement.outcome {
                ended.class = class;
                ended.message = each.message.clone();
            }
            settlement.message = None;
        }
    }
    lane.way.leave();
    lane.settle(settlements).await?;
    if !refused {
        return Ok(None);
    }
    let mut first: Vec<Planned> = chunk.into_iter().map(|one| unsent(lane, one)).collect();
    let second = first.split_off(first.len() / 2);
    Ok(Some((first, second)))
}

/// Whether a created row's answer leaves nothing to be asked of the EHR.
fn says_all(lane: &LaneTurn, one: &Planned, outcome: &Outcome) -> bool {
    let read_first = one.means == Means::OwnId && lane.runtime.plan.observation_update_create != Proof::Proven;
    outcome.class == Class::Applied && outcome.status == Some(201) && !read_first
}

/// The row as it stands after a batch that was refused whole.
fn unsent(lane: &LaneTurn, mut one: Planned) -> Planned {
    one.attempt = lane.new_attempt();
    one.row.state = State::RetryScheduled;
    one.row.sent_before = true;
    one.row.proven_not_applied = one.row.own_settle_until.is_none();
    one.row.claims = 0;
    one.request = match (&one.target, one.means) {
        (Target::Put(_), _) => format!("PUT {}/{{id}}", one.ours.resource_type),
        (Target::Post, Means::ConditionalCreate) => format!("POST {} (If-None-Exist)", one.ours.resource_type),
        (Target::Post, _) => format!("POST {}", one.ours.resource_type),
    };
    one
}

fn entry(lane: &LaneTurn, one: &Planned) -> Option<Entry> {
    let kind = one.ours.resource_type;
    let resource = RawValue::from_string(one.body.clone()).ok()?;
    let full_url = format!("urn:uuid:{}", one.row.resource.uuid());
    let (entry, interaction) = match &one.target {
        Target::Put(id) if one.means == Means::OwnId => {
            let entry = BatchEntry::put(format!("{}/{kind}/{id}", lane.stored.connection.base_url), kind, id.as_str(), resource, None);
            let locked = lane.runtime.plan.if_none_match_in_batch == Proof::Proven;
            (if locked { entry.unless_there() } else { entry }, lane.ehr.own_id_create(kind, id))
        }
        Target::Put(id) => (
            BatchEntry::put(
                format!("{}/{kind}/{id}", lane.stored.connection.base_url),
                kind,
                id.as_str(),
                resource,
                one.match_etag.as_deref().and_then(fhir::search::if_match),
            ),
            Interaction::Update { resource_type: kind.to_owned(), id: id.clone() },
        ),
        Target::Post if one.means == Means::ConditionalCreate => {
            (BatchEntry::post(full_url, kind, resource, Some(one.ours.condition())), lane.ehr.conditional_create(kind))
        }
        Target::Post => (BatchEntry::post(full_url, kind, resource, None), Interaction::PlainCreate { resource_type: kind.to_owned() }),
    };
    Some(Entry { entry, interaction })
}

impl LaneTurn {
    /// Grows by the pace of the last batch, where that was quick and full: what takes half the aim, four times as many at most.
    /// Shrinks to the aim where it was slow.
    async fn change_limit(&mut self, took_ms: i64, rows: usize) -> Result<(), Error> {
        let limit = self.runtime.plan.batch_limit;
        let most = self.stored.connection.batch_size.clamp(1, 100);
        let within = |ms: i64| u32::try_from(i64::try_from(rows).unwrap_or(1) * ms / took_ms.max(1)).unwrap_or(most);
        let wanted = if took_ms > AIM_MS {
            within(AIM_MS)
        } else if took_ms < AIM_MS / 2 && rows >= limit as usize {
            within(AIM_MS / 2).clamp(limit, limit.saturating_mul(4))
        } else {
            limit
        }
        .clamp(1, most);
        if wanted != limit {
            self.change_plan(move |plan| plan.batch_limit = wanted).await?;
        }
        Ok(())
    }
}
