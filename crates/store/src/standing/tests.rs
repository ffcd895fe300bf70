//! When a patient's stream can move.

use super::*;
use crate::seal::KeyRing;
use crate::{NewPatient, Store, Tenant, idempotency::Once};
use model::{EhrId, PatientDraft};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const NOW: Timestamp = Timestamp(1_764_000_000_000);

struct Count(AtomicU64);

impl Rng for Count {
    fn next_u64(&self) -> u64 {
        self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }
}

/// A realtime tenant with one linked patient, on each engine.
async fn wards() -> Vec<(testing::Database, Tenant, PatientId)> {
    let mut wards = Vec::new();
    for database in testing::databases().await {
        let ring = KeyRing::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let store = Store::open(database.url(), ring, Arc::new(Count(AtomicU64::new(1)))).await.unwrap();
        store.migrate().await.unwrap();
        let tenant = store.tenant(&TenantId::new("a").unwrap());
        let body = serde_json::json!({"enabled": true, "baseUrl": "https://ehr.example/fhir", "authType": "basic",
            "authConfig": {"username": "u", "password": "p"}, "syncFrequency": "realtime"});
        let built = model::Connection::build(body.as_object().unwrap(), None).unwrap();
        tenant.put_connection(NOW, &built, None, "ana").await.unwrap().unwrap();
        let draft = PatientDraft {
            name: "Maria".to_owned(),
            birth_date: "1970-01-02".to_owned(),
            gender: None,
            phone: None,
            email: None,
            cpf: None,
            cns: None,
            external_id: None,
        };
        let new = NewPatient { draft, link: Some((EhrId::new("e").unwrap(), "ana".to_owned())) };
        let Once::Done(patient) = tenant.create_patient(NOW, new, None).await.unwrap().unwrap() else { panic!("not made") };
        wards.push((database, tenant, patient.id));
    }
    wards
}

async fn intend(tenant: &Tenant, now: Timestamp, patient: PatientId, what: Vec<Intended>) -> Vec<DeliveryId> {
    let (id, rng) = (tenant.id.clone(), tenant.inner.rng.clone());
    tenant
        .inner
        .db
        .write(move |tx| {
            Box::pin(async move {
                let standing = standing(tx, &id).await?;
                enqueue(tx, &*rng, &id, now, standing, patient, &what).await
            })
        })
        .await
        .unwrap()
}

fn observation(n: u128) -> ResourceKey {
    ResourceKey::Observation(ObservationId(uuid::Uuid::from_u128(n)))
}

fn fresh(n: u128, version: i64) -> Intended {
    Intended { resource: observation(n), version, hold: None, backlog: false }
}

async fn go(tenant: &Tenant, patient: PatientId, id: DeliveryId, from: State, to: State, due: Option<i64>) -> bool {
    let tenant_id = tenant.id.clone();
    tenant
        .inner
        .db
        .write(move |tx| {
            Box::pin(async move {
                let moved = move_state(tx, &tenant_id, NOW, id, from, to, due.map(Timestamp)).await?;
                touch_stream(tx, &tenant_id, patient, NOW).await?;
                Ok(moved)
            })
        })
        .await
        .unwrap()
}

async fn execute(tenant: &Tenant, sql: &'static str, args: Vec<crate::engine::Value>, patient: PatientId) {
    untouched(tenant, sql, args).await;
    let id = tenant.id.clone();
    tenant.inner.db.write(move |tx| Box::pin(async move { touch_stream(tx, &id, patient, NOW).await })).await.unwrap();
}

/// The stream and its lane are left as they are.
async fn untouched(tenant: &Tenant, sql: &'static str, args: Vec<crate::engine::Value>) {
    tenant.inner.db.write(move |tx| Box::pin(async move { tx.execute(sql, args).await })).await.unwrap();
}

/// When the stream can move, in ms from now; and how many of its rows are open.
async fn stream(tenant: &Tenant, patient: PatientId) -> (Option<i64>, i64) {
    let id = tenant.id.clone();
    tenant
        .inner
        .db
        .read(move |tx| {
            Box::pin(async move {
                let sql = "SELECT head_due, (SELECT COUNT(*) FROM deliveries d WHERE d.tenant_id = $1 AND d.patient_id = $2 \
                     AND d.state IN ('pending', 'in_flight', 'retry_scheduled', 'held', 'uncertain')) AS open_count \
                     FROM streams WHERE tenant_id = $1 AND patient_id = $2";
                let row = tx.row(sql, args![&id, patient]).await?.ok_or(Error::Corrupt("streams"))?;
                Ok((row.int_opt("head_due")?.map(|at| at - NOW.0), row.int("open_count")?))
            })
        })
        .await
        .unwrap()
}

async fn counters(tenant: &Tenant) -> Vec<(String, i64)> {
    let id = tenant.id.clone();
    tenant
        .inner
        .db
        .read(move |tx| {
            Box::pin(async move {
                let sql = "SELECT state, CAST(SUM(n) AS BIGINT) AS n FROM counters WHERE tenant_id = $1 GROUP BY state HAVING SUM(n) <> 0 ORDER BY state";
                tx.rows(sql, args![&id]).await?.iter().map(|row| Ok((row.text("state")?, row.int("n")?))).collect::<Result<Vec<_>>>()
            })
        })
        .await
        .unwrap()
}

#[test]
fn a_patients_lane_is_the_same_for_ever_and_all_lanes_are_used() {
    // Written down once: a change of it would give patients of a running installation two owners.
    assert_eq!(shard_of(PatientId(uuid::Uuid::from_u128(0x0193_5d8c_0000_7000_8000_0000_0000_0001))), 2);
    let mut used = [0; SHARDS as usize];
    for n in 0..8000u128 {
        used[usize::try_from(shard_of(PatientId(uuid::Uuid::from_u128(n << 64 | n)))).unwrap()] += 1;
    }
    assert!(used.iter().all(|n| *n > 700), "{used:?}");
}

#[tokio::test]
async fn sequence_is_the_order_of_acceptance_and_counters_follow() {
    for (_database, tenant, patient) in wards().await {
        let ids =
            intend(&tenant, NOW, patient, vec![fresh(1, 1), fresh(2, 1), Intended { hold: Some(HeldReason::CodeMisused), ..fresh(3, 1) }])
                .await;
        assert_eq!(stream(&tenant, patient).await, (Some(0), 3));
        assert_eq!(counters(&tenant).await, [("held".to_owned(), 1), ("pending".to_owned(), 2)]);
        assert!(go(&tenant, patient, ids[0], State::Pending, State::Delivered, None).await);
        assert!(!go(&tenant, patient, ids[0], State::Pending, State::Dead, None).await, "it is not pending any more");
        assert_eq!(counters(&tenant).await, [("delivered".to_owned(), 1), ("held".to_owned(), 1), ("pending".to_owned(), 1)]);
        assert_eq!(stream(&tenant, patient).await, (Some(0), 2));
        assert!(go(&tenant, patient, ids[0], State::Delivered, State::RetryScheduled, Some(NOW.0 + 5)).await);
        assert_eq!(stream(&tenant, patient).await, (Some(5), 3), "the earlier one goes first again");
    }
}

/// A worker that does not yet see the enqueue releases its lane until its next audit, an hour from now.
#[tokio::test]
async fn a_lane_that_was_released_beside_an_uncommitted_enqueue_is_found_by_the_sweep() {
    for (_database, tenant, patient) in wards().await {
        let fleet = crate::Fleet { inner: tenant.inner.clone() };
        for (n, released_until) in [(1, None), (2, Some(NOW.plus_ms(3_600_000)))] {
            intend(&tenant, NOW, patient, vec![fresh(n, 1)]).await;
            let sql = "UPDATE lanes SET due_at = $2, served_at = $3, lease_until = NULL WHERE tenant_id = $1";
            untouched(&tenant, sql, args![&tenant.id, released_until, NOW.plus_ms(20)]).await;
            assert!(fleet.claim_lane(NOW.plus_ms(5000), "node", 60_000).await.unwrap().is_none());
            fleet.sweep_lanes(NOW.plus_ms(5000)).await.unwrap();
            let claimed = fleet.claim_lane(NOW.plus_ms(5000), "node", 60_000).await.unwrap();
            assert!(claimed.is_some(), "nobody comes for it: {released_until:?}");
        }
    }
}

#[tokio::test]
async fn a_lane_is_due_only_when_something_of_a_patient_can_move() {
    for (_database, tenant, patient) in wards().await {
        let ids = intend(&tenant, NOW, patient, vec![fresh(1, 1), fresh(2, 1)]).await;
        // The first waits for its retry: the second, due now, waits behind it.
        go(&tenant, patient, ids[0], State::Pending, State::RetryScheduled, Some(NOW.0 + 50)).await;
        assert_eq!(stream(&tenant, patient).await.0, Some(50));
        // A used-up round waits for the sweep, and so does what stands behind it.
        go(&tenant, patient, ids[0], State::RetryScheduled, State::RetryScheduled, None).await;
        assert_eq!(stream(&tenant, patient).await.0, None);
        // In flight: its worker will say.
        go(&tenant, patient, ids[0], State::RetryScheduled, State::InFlight, None).await;
        assert_eq!(stream(&tenant, patient).await.0, None);
        // Uncertain: it is asked about at its time, and nothing new goes meanwhile.
        go(&tenant, patient, ids[0], State::InFlight, State::Uncertain, Some(NOW.0 + 70)).await;
        assert_eq!(stream(&tenant, patient).await.0, Some(70));
        execute(&tenant, "UPDATE streams SET blocked = 'not_found' WHERE tenant_id = $1", args![&tenant.id], patient).await;
        assert_eq!(stream(&tenant, patient).await.0, Some(70), "asking goes on for a blocked patient");
        // Held: it stops only its own resource.
        go(&tenant, patient, ids[0], State::Uncertain, State::Held(HeldReason::Conflict), None).await;
        assert_eq!(stream(&tenant, patient).await.0, None, "blocked");
        execute(&tenant, "UPDATE streams SET blocked = NULL WHERE tenant_id = $1", args![&tenant.id], patient).await;
        assert_eq!(stream(&tenant, patient).await.0, Some(0));
        go(&tenant, patient, ids[1], State::Pending, State::Delivered, None).await;
        intend(&tenant, NOW, patient, vec![fresh(1, 2)]).await;
        assert_eq!(stream(&tenant, patient).await.0, None, "a newer version waits behind the held one");
        execute(
            &tenant,
            "UPDATE deliveries SET audit_at = $2 WHERE tenant_id = $1 AND state = 'delivered'",
            args![&tenant.id, NOW.plus_ms(90)],
            patient,
        )
        .await;
        assert_eq!(stream(&tenant, patient).await.0, Some(90), "an audit is due by itself");
    }
}

#[tokio::test]
async fn the_next_write_of_a_resource_waits_until_its_open_attempts_have_settled() {
    for (_database, tenant, patient) in wards().await {
        let ids = intend(&tenant, NOW, patient, vec![fresh(1, 1)]).await;
        go(&tenant, patient, ids[0], State::Pending, State::Delivered, None).await;
        intend(&tenant, NOW, patient, vec![fresh(1, 2), fresh(2, 1)]).await;
        const ATTEMPT: &str = "INSERT INTO attempts (tenant_id, id, delivery_id, shard, resource_id, epoch, at, request, class, is_write, settle_until) \
                               VALUES ($1, $2, $2, 0, $3, 1, 0, 'PUT', $4, true, $5)";
        let resource = observation(1).uuid();
        execute(&tenant, ATTEMPT, args![&tenant.id, ids[0], resource, "uncertain", NOW.plus_ms(30)], patient).await;
        assert_eq!(stream(&tenant, patient).await.0, Some(31));
        execute(&tenant, "UPDATE attempts SET class = NULL, settle_until = NULL WHERE tenant_id = $1", args![&tenant.id], patient).await;
        assert_eq!(stream(&tenant, patient).await.0, None, "one is still flying");
        execute(&tenant, "UPDATE attempts SET class = 'delivered' WHERE tenant_id = $1", args![&tenant.id], patient).await;
        assert_eq!(stream(&tenant, patient).await.0, Some(0));
    }
}

#[tokio::test]
async fn the_patients_own_delivery_exists_once_a_version_and_goes_first() {
    for (_database, tenant, patient) in wards().await {
        let waiting = intend(&tenant, NOW, patient, vec![fresh(1, 1)]).await;
        let own = Intended { resource: ResourceKey::Patient(patient), version: 1, hold: None, backlog: false };
        let first = intend(&tenant, NOW, patient, vec![own]).await;
        assert_eq!(intend(&tenant, NOW, patient, vec![own]).await, first);
        assert_eq!(stream(&tenant, patient).await, (Some(0), 2));
        go(&tenant, patient, first[0], State::Pending, State::RetryScheduled, Some(NOW.0 + 40)).await;
        assert_eq!(stream(&tenant, patient).await.0, Some(40), "the observation needs its patient");
        go(&tenant, patient, first[0], State::RetryScheduled, State::Held(HeldReason::PatientUnlinked), None).await;
        assert_eq!(stream(&tenant, patient).await.0, None);
        go(&tenant, patient, first[0], State::Held(HeldReason::PatientUnlinked), State::Canceled, None).await;
        assert_eq!(stream(&tenant, patient).await, (Some(0), 1));
        assert_ne!(waiting, first);
    }
}

#[tokio::test]
async fn concurrent_acceptance_gives_every_row_its_own_place_in_the_patients_order() {
    for (_database, tenant, patient) in wards().await {
        let writes = (0..40u128).map(|n| intend(&tenant, NOW, patient, vec![fresh(2 * n, 1), fresh(2 * n + 1, 1)]));
        futures::future::join_all(writes).await;
        let id = tenant.id.clone();
        let seqs = tenant
            .inner
            .db
            .read(move |tx| {
                Box::pin(async move {
                    let sql = "SELECT seq FROM deliveries WHERE tenant_id = $1 AND patient_id = $2 ORDER BY seq";
                    tx.rows(sql, args![&id, patient]).await?.iter().map(|row| row.int("seq")).collect::<Result<Vec<_>>>()
                })
            })
            .await
            .unwrap();
        assert_eq!(seqs, (1..=80).collect::<Vec<i64>>());
        assert_eq!(counters(&tenant).await, [("pending".to_owned(), 80)]);
        assert_eq!(stream(&tenant, patient).await, (Some(0), 80));
    }
}

#[tokio::test]
async fn a_newer_version_supersedes_only_what_cannot_have_been_applied() {
    for (_database, tenant, patient) in wards().await {
        let ids = intend(&tenant, NOW, patient, vec![fresh(1, 1), fresh(1, 2), fresh(1, 3), fresh(1, 4)]).await;
        execute(&tenant, "UPDATE deliveries SET sent_before = true WHERE tenant_id = $1 AND version IN (2, 3)", args![&tenant.id], patient)
            .await;
        execute(
            &tenant,
            "UPDATE deliveries SET proven_not_applied = true WHERE tenant_id = $1 AND version = 3",
            args![&tenant.id],
            patient,
        )
        .await;
        go(&tenant, patient, ids[1], State::Pending, State::Uncertain, Some(NOW.0)).await;
        let id = tenant.id.clone();
        let moved = tenant
            .inner
            .db
            .write(move |tx| Box::pin(async move { apply_to_resource(tx, &id, NOW, observation(1), 4, &Event::NewerAccepted).await }))
            .await
            .unwrap();
        assert_eq!(moved, 2);
        let wanted = [("pending", 1), ("superseded", 2), ("uncertain", 1)].map(|(state, n)| (state.to_owned(), n));
        assert_eq!(counters(&tenant).await, wanted);
    }
}
