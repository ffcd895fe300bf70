//! Sending: one resource by itself, several in one batch Bundle, the culprit of a refused batch alone.
//!
//! Recorded before any byte leaves, checked against the lease last, settled by what came back. Each entry of a batch is
//! judged on its own; an attempt's write is never repeated inside the attempt.

mod batch;
mod prepare;

pub(crate) use prepare::{Planned, Target, write_patient};

use crate::ask::{ended, judge_read, told_apart};
use crate::found::{Judged, found_in, judge, judge_content};
use crate::lane::{AT_ONCE, LaneTurn, limit_ms};
use crate::settle::{Written, settle_not_repeated, settle_refused_by_us, settle_write};
use crate::{late, learn};
use ehr::client::{Answer, Call, Next, Put};
use ehr::reply::Outcome;
use fhir::resource::{ParseError, Resource};
use fhir::search::Query;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use model::delivery::Found;
use model::failure::Scope;
use model::{Class, Means, Proof, State};
use store::{Begin, Error, PatientWork, Settlement, WorkRow};

/// Writes the observations whose turn has come.
pub(crate) async fn write_all(lane: &mut LaneTurn, ready: Vec<(PatientWork, usize)>) -> Result<(), Error> {
    learn::learn(lane).await?;
    if lane.stopped() {
        return Ok(());
    }
    let mut planned = Vec::new();
    let mut refused = Vec::new();
    for (work, at) in &ready {
        match prepare::write_observation(lane, work, &work.rows[*at]) {
            Ok(one) => planned.push(one),
            Err(message) => refused.push(settle_refused_by_us(&lane.terms(), &work.rows[*at], message)),
        }
    }
    lane.settle(refused).await?;
    // A means that is not proven here goes alone, once; the others wait for what it teaches.
    if let Some(at) = planned.iter().position(|p| p.alone) {
        let first = planned.swap_remove(at);
        send_one(lane, first).await?;
        if lane.stopped() {
            return Ok(());
        }
        planned.retain(|p| !p.alone);
    }
    // A row that twice went down with its process goes alone.
    let (suspects, planned): (Vec<Planned>, Vec<Planned>) = planned.into_iter().partition(|p| p.row.claims >= 2);
    for suspect in suspects {
        if lane.stopped() {
            return Ok(());
        }
        send_one(lane, suspect).await?;
    }
    if lane.stopped() || planned.is_empty() {
        return Ok(());
    }
    if planned.len() > 1 && lane.runtime.plan.batch.may_try() && !lane.probe {
        return batch::send(lane, planned).await;
    }
    send_each(lane, planned).await
}

/// The same request again, with the same precondition.
pub(crate) async fn repeat(lane: &mut LaneTurn, work: &PatientWork, row: WorkRow) -> Result<(), Error> {
    match prepare::again(lane, work, &row) {
        Ok(planned) => send_one(lane, planned).await,
        Err(why) => lane.settle(vec![settle_not_repeated(&lane.terms(), &row, why)]).await,
    }
}

/// Sends one and settles it.
pub(crate) async fn send_one(lane: &mut LaneTurn, planned: Planned) -> Result<(), Error> {
    send_each(lane, vec![planned]).await
}

/// Several single requests at once.
pub(crate) async fn send_each(lane: &mut LaneTurn, planned: Vec<Planned>) -> Result<(), Error> {
    let at_once = if lane.probe { 1 } else { AT_ONCE };
    let mut rest = planned.into_iter().peekable();
    while rest.peek().is_some() && !lane.stopped() {
        let chunk: Vec<Planned> = rest.by_ref().take(at_once).collect();
        if !lane.begin(chunk.iter().map(begin).collect()).await? {
            return Ok(());
        }
        let this = &*lane;
        let sending: Vec<BoxFuture<'_, Answer>> = chunk.iter().map(|one| send(this, one).boxed()).collect();
        let answers: Vec<Answer> = futures::stream::iter(sending).buffered(at_once).collect().await;
        let mut settlements = Vec::new();
        for (one, answer) in chunk.iter().zip(answers) {
            late::keep(lane, one.attempt, answer.late);
            log(lane, one, &answer.outcome, answer.elapsed_ms);
            settlements.push(settled(lane, one, answer.outcome).await?);
        }
        lane.way.leave();
        write_down(lane, &chunk, settlements).await?;
    }
    Ok(())
}

/// Writes settlements; a delivered Patient brings its link along in the same transaction.
async fn write_down(lane: &mut LaneTurn, chunk: &[Planned], settlements: Vec<Settlement>) -> Result<(), Error> {
    let mut plain = Vec::new();
    for (one, settlement) in chunk.iter().zip(settlements) {
        match crate::linking::created(lane, one, &settlement) {
            Some(change) => lane.settle_link(one.patient, change, Some(settlement)).await?,
            None => plain.push(settlement),
        }
    }
    lane.settle(plain).await
}

fn begin(planned: &Planned) -> Begin {
    Begin {
        delivery: planned.row.id,
        attempt: planned.attempt,
        request: planned.request.clone(),
        means: Some(planned.means),
        match_etag: planned.match_etag.clone(),
        subject: planned.subject.clone(),
    }
}

pub(crate) fn call(lane: &LaneTurn) -> Call {
    Call {
        request_id: Some(lane.engine.rng.uuid_v7(lane.engine.now()).to_string()),
        only_if: Some(lane.last_check()),
        after_loss: false,
        strict: false,
        deadline_ms: Some(limit_ms(&lane.engine, &lane.stored)),
    }
}

async fn send(lane: &LaneTurn, planned: &Planned) -> Answer {
    let kind = planned.ours.resource_type;
    let call = call(lane);
    match &planned.target {
        Target::Put(id) if planned.means == Means::OwnId => lane.ehr.put(kind, id, planned.body.clone(), Put::OwnId, &call).await,
        Target::Put(id) => {
            lane.ehr.put(kind, id, planned.body.clone(), Put::Update { version: planned.match_etag.as_deref() }, &call).await
        }
        Target::Post => {
            let condition =
                (planned.means == Means::ConditionalCreate).then_some((planned.ours.system.as_str(), planned.ours.value.as_str()));
            lane.ehr.create(kind, planned.body.clone(), condition, &call).await
        }
    }
}

/// Looks into an answer, learns from it, and says the new standing.
pub(crate) async fn settled(lane: &mut LaneTurn, planned: &Planned, outcome: Outcome) -> Result<Settlement, Error> {
    let mut end = ended(planned.attempt, &outcome);
    let mut note = None;
    let mut works = false;
    let written = match outcome.class {
        Class::Applied | Class::Exists => {
            let judged = look(lane, planned, &outcome).await;
            refute(lane, planned, &outcome).await?;
            works = lane.took_a_write();
            let place = match &judged {
                Some(_) => place_of_first_put(lane, planned, &outcome).await?,
                None => Place::Unseen,
            };
            match (judged, place) {
                (Some(_), Place::SomethingElses) => {
                    end.class = Class::Conflict;
                    end.message = Some(
                        "The EHR answered the first PUT of an id that we chose with 200 instead of 201: something else lives there."
                            .to_owned(),
                    );
                    Written::SomethingElse
                }
                (Some(judged), Place::Ours) => {
                    let stored = outcome.resource.as_deref().map(Resource::parse);
                    if identifier_dropped(planned, &outcome, stored.as_ref()) {
                        lane.change_plan(|plan| plan.identifier_search = Proof::Refused).await?;
                    }
                    prove(lane, planned, &judged).await?;
                    note = stored.and_then(|stored| differences(planned, &stored.ok()?));
                    Written::Applied(judged)
                }
                // Taken, but what stands there could not be seen: ask.
                (None, _) | (_, Place::Unseen) => {
                    end.class = Class::Uncertain;
                    Written::Failed { connection_next: None }
                }
            }
        }
        Class::MeansRefused => {
            refuse(lane, planned).await?;
            Written::Failed { connection_next: None }
        }
        Class::AuthDenied => {
            let third = lane.engine.denied.note(lane.lane.tenant().id(), planned.patient);
            if third {
                end.class = Class::AuthToken;
                Written::Failed { connection_next: Some(lane.connection_failed(&outcome, Class::AuthDenied).await?) }
            } else {
                Written::Failed { connection_next: None }
            }
        }
        // Our own last check kept it: the connection did nothing wrong.
        _ if outcome.withheld => {
            end.class = Class::Unreachable;
            end.message = Some("Not sent: the time left of the lease was too short.".to_owned());
            Written::Failed { connection_next: Some(lane.engine.now()) }
        }
        class if class.scope() == Scope::Connection && class != Class::BadResponse => {
            Written::Failed { connection_next: Some(lane.connection_failed(&outcome, class).await?) }
        }
        Class::Gone if planned.means != Means::OwnId && lane_is_wrong(lane).await => {
            end.class = Class::Redirect;
            Written::Failed { connection_next: Some(lane.connection_failed(&outcome, Class::Gone).await?) }
        }
        _ => Written::Failed { connection_next: None },
    };
    let settlement = settle_write(&lane.terms(), &planned.row, &end, &written);
    if matches!(settlement.state, State::Dead | State::Held(_)) {
        lane.refused_rows += 1;
    }
    Ok(Settlement { message: note.or(settlement.message), works, ..settlement })
}

/// Whose place a write went to.
enum Place {
    Ours,
    /// Something stood there before our first `PUT`.
    SomethingElses,
    /// It could not be seen now.
    Unseen,
}

/// 200 instead of 201 on a first send under our own id (PRODUCT, means 2). Some servers answer 200 to every `PUT`: one whose
/// history of what we just made has no other version than ours is one of them, and is remembered as such.
async fn place_of_first_put(lane: &mut LaneTurn, planned: &Planned, outcome: &Outcome) -> Result<Place, Error> {
    let suspicious = planned.means == Means::OwnId && !planned.row.sent_before && outcome.status == Some(200);
    if !suspicious || lane.runtime.plan.put_tells_created == Proof::Refused {
        return Ok(Place::Ours);
    }
    let Target::Put(id) = &planned.target else { return Ok(Place::SomethingElses) };
    let history = lane.ehr.history(&[planned.ours.resource_type, id.as_str()], &Query::new(), &call(lane)).await;
    let Some(found) = history.content else {
        // Said to be none here: then the status has the last word.
        let none_here = matches!(history.outcome.status, Some(400 | 404 | 405 | 501));
        return Ok(if none_here { Place::SomethingElses } else { Place::Unseen });
    };
    let versions: Vec<_> = found.page.entries.iter().filter_map(|entry| entry.resource.as_ref()).collect();
    let ours = |raw: &str| matches!(judge(raw, &planned.ours).found, Found::Version { version, .. } if version == planned.row.version);
    let created =
        found.next == Next::End && versions.len() == 1 && found.page.entries.len() == 1 && versions.iter().all(|raw| ours(raw.get()));
    if created {
        lane.change_plan(|plan| plan.put_tells_created = Proof::Refused).await?;
    }
    Ok(if created { Place::Ours } else { Place::SomethingElses })
}

/// What stands at the EHR now, by the answer's body, or by a read where it has none.
async fn look(lane: &LaneTurn, planned: &Planned, outcome: &Outcome) -> Option<Judged> {
    if outcome.class == Class::Applied {
        // Done by us just now: it is the version that we sent.
        let found = Found::Version { version: planned.row.version, etag: outcome.ehr_version.clone() };
        return Some(Judged { found, ehr_id: outcome.ehr_id.clone(), raw: None });
    }
    let read;
    let raw = match &outcome.resource {
        Some(raw) => raw,
        None => {
            let id = outcome.ehr_id.as_ref()?;
            read = lane.ehr.read(planned.ours.resource_type, id, &call(lane)).await.outcome;
            if read.class == Class::Gone {
                return judge_read(&read, &planned.ours, &planned.row, Some(id));
            }
            read.resource.as_ref().filter(|_| read.class == Class::Applied)?
        }
    };
    let judged = judge_content(raw, &planned.ours, &planned.row);
    let subject = planned.subject.as_ref().is_none_or(|subject| crate::found::subject_is(raw, subject, &lane.stored.connection.base_url));
    Some(if subject { told_apart(lane, &planned.row, &planned.ours, judged).await } else { Judged::bare(Found::Foreign) })
}

/// A server that drops our identifier from what it just created leaves us no proof (FHIR.md §14, row 23).
fn identifier_dropped(planned: &Planned, outcome: &Outcome, stored: Option<&Result<Resource, ParseError>>) -> bool {
    let foreign =
        |stored: &Result<Resource, ParseError>| stored.as_ref().map_or(true, |stored| found_in(stored, &planned.ours) == Found::Foreign);
    outcome.class == Class::Applied && planned.means.creates() && stored.is_some_and(foreign)
}

/// The first success of a means proves it; under our own id it is read back first.
async fn prove(lane: &mut LaneTurn, planned: &Planned, judged: &Judged) -> Result<(), Error> {
    if !matches!(judged.found, Found::Version { .. }) {
        return Ok(());
    }
    let plan = &lane.runtime.plan;
    match planned.means {
        Means::OwnId => {
            let patient = planned.ours.resource_type == "Patient";
            let proof = if patient { plan.patient_update_create } else { plan.observation_update_create };
            let Target::Put(id) = &planned.target else { return Ok(()) };
            if proof == Proof::Proven {
                return Ok(());
            }
            let read = lane.ehr.read(planned.ours.resource_type, id, &call(lane)).await.outcome;
            let there = judge_read(&read, &planned.ours, &planned.row, Some(id));
            if matches!(there, Some(Judged { found: Found::Version { version, .. }, .. }) if version == planned.row.version) {
                lane.change_plan(move |plan| {
                    if patient { plan.patient_update_create = Proof::Proven } else { plan.observation_update_create = Proof::Proven }
                })
                .await?;
            }
        }
        Means::ConditionalCreate if plan.conditional_create != Proof::Proven => {
            lane.change_plan(|plan| plan.conditional_create = Proof::Proven).await?;
        }
        Means::ConditionalCreate | Means::PlainCreate | Means::Update => {}
    }
    Ok(())
}

/// An answer that contradicts what a probe saw: from now on less is believed. Under `If-None-Match: *` nothing may be
/// overwritten, so a 200 says that it was, except where a create is answered so too.
async fn refute(lane: &mut LaneTurn, planned: &Planned, outcome: &Outcome) -> Result<(), Error> {
    let plan = &lane.runtime.plan;
    let locked = plan.if_none_match == Proof::Proven || plan.if_none_match_in_batch == Proof::Proven;
    if planned.means == Means::OwnId && locked && outcome.status == Some(200) && plan.put_tells_created != Proof::Refused {
        lane.change_plan(|plan| {
            plan.if_none_match = Proof::Refused;
            plan.if_none_match_in_batch = Proof::Refused;
        })
        .await?;
    }
    Ok(())
}

/// The means is not offered here; the next one is taken from now on.
async fn refuse(lane: &mut LaneTurn, planned: &Planned) -> Result<(), Error> {
    let patient = planned.ours.resource_type == "Patient";
    match planned.means {
        Means::OwnId => {
            lane.change_plan(move |plan| {
                if patient { plan.patient_update_create = Proof::Refused } else { plan.observation_update_create = Proof::Refused }
            })
            .await
        }
        Means::ConditionalCreate => lane.change_plan(|plan| plan.conditional_create = Proof::Refused).await,
        Means::PlainCreate | Means::Update => Ok(()),
    }
}

/// 404 on a write has three causes: the base, the type, the row. The base is asked first.
async fn lane_is_wrong(lane: &LaneTurn) -> bool {
    let outcome = lane.ehr.capabilities(&Call { only_if: None, ..call(lane) }).await.outcome;
    outcome.class == Class::Gone
}

/// What the EHR stored otherwise than we sent, as paths (law 7); `None` where nothing is.
fn differences(planned: &Planned, stored: &Resource) -> Option<String> {
    let differing: Vec<String> =
        fhir::compare::differences(&planned.resource, stored.fields()).into_iter().map(|difference| difference.path).collect();
    if differing.is_empty() {
        return None;
    }
    Some(format!("The EHR took it, but stored something else in: {}.", differing.join(", ")))
}

/// One line per attempt: facts without anybody's data.
pub(crate) fn log(lane: &LaneTurn, planned: &Planned, outcome: &Outcome, elapsed_ms: Option<i64>) {
    metrics::counter!("ponte_attempts_total", "direction" => "push", "resource" => planned.ours.resource_type, "class" => outcome.class.word()).increment(1);
    tracing::info!(
        tenant = %lane.lane.tenant().id(), delivery = %planned.row.id, attempt = %planned.attempt, direction = "push", resource = planned.ours.resource_type,
        op = %planned.request, means = planned.means.word(), class = outcome.class.word(), status = outcome.status, duration_ms = elapsed_ms,
        bytes_out = planned.body.len(), "attempt"
    );
}
