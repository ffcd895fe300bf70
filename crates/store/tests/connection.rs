//! A tenant's connection: kept sealed, changed by revision, moved to another EHR, failing and working again.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to end")]

mod house;

use ponte_store as store;

use futures::future::join_all;
use house::{KEY, NOW, OTHER_KEY, built, observation, open, patient, person, reading, realtime, stores, tenant};
use model::{AuthConfig, Class, EhrId, LinkState, MeansPlan, Proof};
use secrecy::ExposeSecret;
use serde_json::json;
use store::Error;
use store::config::ConnectionFailed;

const EHR: &str = "https://ehr.example/fhir";

#[tokio::test]
async fn every_setting_comes_back_and_the_secrets_with_it() {
    for (database, store) in stores().await {
        let auths = [
            ("oauth2", json!({"clientId": "c", "clientSecret": "s-1", "tokenUrl": "https://ehr.example/token", "scope": "system/*.*"})),
            ("basic", json!({"username": "u", "password": "s-1"})),
            ("apikey", json!({"apiKey": "s-1", "apiKeyHeader": "X-Key"})),
        ];
        for (kind, auth) in auths {
            let tenant = tenant(&store, kind);
            let body = json!({
                "enabled": true, "baseUrl": EHR, "authType": kind, "authConfig": auth, "syncDirection": "push", "syncFrequency": "daily",
                "maxRetries": 7, "initialDelay": 5, "maxDelay": 50, "backoffMultiplier": 1.5, "metadata": serde_json::from_str::<serde_json::Value>(r#"{"n":1.10,"k":[null]}"#).unwrap(),
                "identifierSystem": "urn:x", "patientCreate": false, "requestTimeout": 1000, "settleTime": 2000, "pullOverlap": 3000,
                "patience": 4000, "maxConcurrency": 2, "maxRequestsPerSecond": 9, "batchSize": 11, "scoreCategory": "exam", "misusedCodes": "refuse"
            });
            let wanted = built(body, None);
            tenant.put_connection(NOW, &wanted, None, "ana").await.unwrap().unwrap();
            // Another process, with nothing in its cache.
            let stored = self::tenant(&open(database.url(), KEY, 8).await, kind).connection().await.unwrap().unwrap();
            let secret = match &stored.connection.auth {
                AuthConfig::OAuth2 { client_secret, .. } => client_secret,
                AuthConfig::Basic { password, .. } => password,
                AuthConfig::ApiKey { api_key, .. } => api_key,
            };
            assert_eq!(secret.expose_secret(), "s-1");
            assert_eq!(format!("{:?}", stored.connection), format!("{:?}", wanted.connection));
            assert_eq!(stored.connection.metadata.as_ref().map(ToString::to_string).as_deref(), Some(r#"{"n":1.10,"k":[null]}"#));
            assert_eq!((stored.revision, stored.generation, stored.secret_updated_at), (1, 1, NOW));
        }
    }
}

#[tokio::test]
async fn of_two_changes_over_the_same_revision_one_is_told_to_read_again() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        let new = realtime(EHR);
        let first = join_all((0..8).map(|_| tenant.put_connection(NOW, &new, None, "ana"))).await;
        assert_eq!(first.iter().filter(|put| put.as_ref().unwrap().is_some()).count(), 1);
        let stored = tenant.connection().await.unwrap().unwrap();
        let kept = built(json!({"maxRetries": 9}), Some(&stored.connection));
        let later = NOW.plus_ms(7);
        let changed = tenant.put_connection(later, &kept, Some(1), "ana").await.unwrap().unwrap();
        assert_eq!(
            (changed.revision, changed.connection.retry.max_retries, changed.secret_updated_at, changed.updated_at),
            (2, 9, NOW, later)
        );
        assert!(tenant.put_connection(NOW, &kept, Some(1), "ana").await.unwrap().is_none());
        assert!(tenant.put_connection(NOW, &kept, None, "ana").await.unwrap().is_none());
        let read = tenant.connection().await.unwrap().unwrap();
        assert_eq!((read.id, read.revision, read.connection.retry.max_retries), (stored.id, 2, 9));
    }
}

#[tokio::test]
async fn another_key_opens_nothing_and_rotation_needs_the_old_key_once() {
    for (database, store) in stores().await {
        tenant(&store, "a").put_connection(NOW, &realtime(EHR), None, "ana").await.unwrap().unwrap();
        let id = patient(&tenant(&store, "b"), person("Maria")).await;
        let foreign = open(database.url(), OTHER_KEY, 9).await;
        assert!(matches!(tenant(&foreign, "a").connection().await, Err(Error::Sealed)));
        assert!(matches!(tenant(&foreign, "b").patient(id).await, Err(Error::Sealed)));
        assert!(matches!(foreign.rotate_keys().await, Err(Error::Sealed)));
        let both = open(database.url(), &format!("{OTHER_KEY},{KEY}"), 10).await;
        assert_eq!(both.rotate_keys().await.unwrap(), 2);
        assert_eq!(both.rotate_keys().await.unwrap(), 0);
        let new = open(database.url(), OTHER_KEY, 11).await;
        assert_eq!(tenant(&new, "b").patient(id).await.unwrap().unwrap().draft.name, "Maria");
        assert!(tenant(&new, "a").connection().await.unwrap().is_some());
        let old = open(database.url(), KEY, 12).await;
        assert!(matches!(tenant(&old, "b").patient(id).await, Err(Error::Sealed)));
    }
}

#[tokio::test]
async fn twenty_changes_of_the_plan_at_once_lose_none_and_an_old_generation_changes_nothing() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        tenant.put_connection(NOW, &realtime(EHR), None, "ana").await.unwrap().unwrap();
        for done in join_all((0..20).map(|_| tenant.change_plan(1, Box::new(|plan| plan.batch_limit += 1)))).await {
            done.unwrap();
        }
        tenant.change_plan(2, Box::new(|plan| plan.batch = Proof::Proven)).await.unwrap();
        let plan = tenant.runtime().await.unwrap().plan;
        assert_eq!(plan, MeansPlan { batch_limit: 30, ..MeansPlan::default() });
    }
}

#[tokio::test]
async fn a_check_that_shows_signs_of_life_is_begun_by_nobody_else() {
    for (_database, store) in stores().await {
        let (tenant, minute) = (tenant(&store, "a"), 60_000);
        tenant.put_connection(NOW, &realtime(EHR), None, "ana").await.unwrap().unwrap();
        let asked = tenant.request_check(NOW, "{}", "ana").await.unwrap();
        let claim = async |owner: &str, at: model::Timestamp| store.fleet().claim_check(at, owner, minute).await.unwrap();
        assert_eq!(claim("one", NOW).await.unwrap().1.id, asked.id);
        tenant.keep_check(asked.id, "one", NOW.plus_ms(2 * minute)).await.unwrap();
        // Somebody else's word does not count.
        tenant.keep_check(asked.id, "two", NOW.plus_ms(9 * minute)).await.unwrap();
        assert!(claim("two", NOW.plus_ms(minute + 1)).await.is_none());
        assert!(claim("two", NOW.plus_ms(2 * minute + 1)).await.is_some(), "the first one is dead");
    }
}

#[tokio::test]
async fn a_circuit_opens_lets_one_probe_through_and_closes() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        let stored = tenant.put_connection(NOW, &realtime(EHR), None, "ana").await.unwrap().unwrap();
        let failed = ConnectionFailed {
            class: Class::Unreachable,
            failures: 4,
            not_before: NOW.plus_ms(1000),
            circuit_open: true,
            auth_refused: false,
            down: true,
            sentence: "The EHR does not answer.".to_owned(),
        };
        assert!(tenant.connection_failed(NOW, &stored, &failed).await.unwrap());
        let runtime = tenant.runtime().await.unwrap();
        assert_eq!(
            (runtime.failures, runtime.circuit_open, runtime.down_since, runtime.last_class),
            (4, true, Some(NOW), Some(Class::Unreachable))
        );
        assert_eq!(tenant.connection().await.unwrap().unwrap().last_error.as_deref(), Some("The EHR does not answer."));
        assert!(!tenant.take_probe(NOW.plus_ms(999), NOW.plus_ms(9000)).await.unwrap(), "not before its time");
        let probes = join_all((0..8).map(|_| tenant.take_probe(NOW.plus_ms(1000), NOW.plus_ms(9000)))).await;
        assert_eq!(probes.into_iter().filter(|taken| *taken.as_ref().unwrap()).count(), 1);
        assert!(tenant.take_probe(NOW.plus_ms(9000), NOW.plus_ms(9999)).await.unwrap(), "whoever had it died");
        tenant.give_back_probe(NOW.plus_ms(9000)).await.unwrap();
        assert!(!tenant.take_probe(NOW.plus_ms(9001), NOW.plus_ms(9999)).await.unwrap(), "somebody gave back what another has");
        tenant.give_back_probe(NOW.plus_ms(9999)).await.unwrap();
        assert!(tenant.take_probe(NOW.plus_ms(9001), NOW.plus_ms(9999)).await.unwrap(), "nobody has it");
        tenant.connection_works(NOW.plus_ms(10_000), true, false).await.unwrap();
        let runtime = tenant.runtime().await.unwrap();
        assert_eq!((runtime.failures, runtime.circuit_open, runtime.not_before, runtime.last_class), (0, false, None, None));
        assert_eq!((runtime.down_since, runtime.down_total_ms, runtime.last_push_at), (None, 10_000, Some(NOW.plus_ms(10_000))));
        let stored = tenant.connection().await.unwrap().unwrap();
        assert_eq!((stored.last_error, stored.last_sync_at), (None, Some(NOW.plus_ms(10_000))));
        // Within the same second nothing new is written; a pull is another matter.
        tenant.connection_works(NOW.plus_ms(10_400), true, false).await.unwrap();
        assert_eq!(tenant.runtime().await.unwrap().last_push_at, Some(NOW.plus_ms(10_000)));
        tenant.connection_works(NOW.plus_ms(10_500), false, true).await.unwrap();
        assert_eq!(tenant.runtime().await.unwrap().last_pull_at, Some(NOW.plus_ms(10_500)));
    }
}

#[tokio::test]
async fn what_a_429_asked_for_holds_although_another_answer_is_good() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        let stored = tenant.put_connection(NOW, &realtime(EHR), None, "ana").await.unwrap().unwrap();
        let busy = ConnectionFailed {
            class: Class::RateLimited,
            failures: 0,
            not_before: NOW.plus_ms(30_000),
            circuit_open: false,
            auth_refused: false,
            down: false,
            sentence: "The EHR asks us to wait.".to_owned(),
        };
        assert!(tenant.connection_failed(NOW, &stored, &busy).await.unwrap());
        tenant.connection_works(NOW.plus_ms(10), true, false).await.unwrap();
        assert_eq!(tenant.runtime().await.unwrap().not_before, Some(NOW.plus_ms(30_000)));
        tenant.connection_works(NOW.plus_ms(30_000), true, false).await.unwrap();
        assert_eq!(tenant.runtime().await.unwrap().not_before, None);
        // What an answer to the old settings says is not said of the new ones.
        tenant.put_connection(NOW.plus_ms(40_000), &realtime(EHR), Some(stored.revision), "ana").await.unwrap().unwrap();
        assert!(!tenant.connection_failed(NOW.plus_ms(40_001), &stored, &busy).await.unwrap());
        assert_eq!(tenant.runtime().await.unwrap().not_before, None);
        assert_eq!(tenant.connection().await.unwrap().unwrap().last_error, None);
    }
}

#[tokio::test]
async fn another_base_url_is_another_ehr_of_which_nothing_is_known() {
    for (_database, store) in stores().await {
        let tenant = tenant(&store, "a");
        tenant.put_connection(NOW, &realtime(EHR), None, "ana").await.unwrap().unwrap();
        tenant.change_plan(1, Box::new(|plan| plan.batch = Proof::Proven)).await.unwrap();
        let id = patient(&tenant, person("Maria")).await;
        tenant.link_by_person(NOW, id, Some(EhrId::new("e-1").unwrap()), "ana").await.unwrap().unwrap();
        let waiting = observation(&tenant, reading(id, "72514-3", "3")).await;
        // Deleting the configuration in between does not hide the move.
        tenant.delete_connection(NOW, "ana").await.unwrap();
        let moved = tenant.put_connection(NOW, &realtime("https://other.example/fhir"), None, "ana").await.unwrap().unwrap();
        assert_eq!(moved.generation, 2);
        assert_eq!(tenant.runtime().await.unwrap().plan, MeansPlan::default());
        let patient = tenant.patient(id).await.unwrap().unwrap();
        assert_eq!((patient.link.state, patient.link.ehr_id), (LinkState::Unlinked, None));
        let read = tenant.observation(NOW, waiting.id).await.unwrap().unwrap();
        assert_eq!(read.delivery.map(|d| d.state), Some(model::State::Pending), "what was never sent goes to the new one");
        let same = tenant.put_connection(NOW, &realtime("https://other.example/fhir"), Some(moved.revision), "ana").await.unwrap().unwrap();
        assert_eq!(same.generation, 2);
    }
}
