//! PRODUCT, "A moved hospital, a restored database": a database elsewhere sends nothing until a person has said what it is;
//! another base URL is another generation, and nothing goes there again by itself.

use crate::gate::{FHIR, Which, outcome};
use crate::world::{DAY, Dice, HOUR, MINUTE, Node, SETTLE, Ward, World, bare, keys, on_each, own_id};
use model::{EhrId, HeldReason, State};
use sandbox::Fault;
use serde_json::json;
use std::path::{Path, PathBuf};
use store::installation::Adopt;
use store::{DeliveryFilter, Home, PageRequest, Store};

/// The file of a SQLite database.
fn file(url: &str) -> Option<PathBuf> {
    url.strip_prefix("sqlite://").map(|path| PathBuf::from(path.split('?').next().unwrap_or(path)))
}

/// Copies a database file with what belongs to it, but not the marker of its home.
fn copy(from: &Path, to: &Path) {
    for suffix in ["", "-wal"] {
        let with = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        if with(from).exists() {
            std::fs::copy(with(from), with(to)).unwrap();
        }
    }
}

/// A node on a copy of the world's database, taken now; `None` on an engine whose files are not ours to copy.
async fn copied(w: &World, folder: &Path) -> Option<(Store, Node, Home)> {
    let from = file(w.db.url())?;
    let to = folder.join("copy.db");
    copy(&from, &to);
    let store = Store::open(&format!("sqlite://{}", to.display()), keys(), Dice::new(991)).await.unwrap();
    store.migrate().await.unwrap();
    let home = store.come_home(w.clock.now()).await.unwrap();
    let node = Node::on(store.clone(), &w.clock, 992);
    Some((store, node, home))
}

async fn drive(w: &World, node: &Node, store: &Store, ms: i64) {
    let until = w.clock.now().plus_ms(ms);
    loop {
        w.work_on(node).await;
        let Some(next) = store.fleet().next_due().await.unwrap().filter(|at| *at <= until) else { break };
        w.clock.to(next.max(w.clock.now().plus_ms(1)));
    }
    w.clock.to(until);
    w.ward.sandbox.settle_due();
}

#[tokio::test]
async fn a_copied_database_sends_nothing_until_a_person_says_what_it_is() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        let pain = w.observe(patient, "3").await;
        let folder = tempfile::tempdir().unwrap();
        let Some((store, node, home)) = copied(w, folder.path()).await else {
            w.settle_down().await;
            return;
        };
        assert_eq!(home, Home::Elsewhere);
        drive(w, &node, &store, DAY).await;
        assert_eq!(node.gate.passed().len(), 0, "a copy talked to the EHR");
        let tenant = store.tenant(w.tenant.id());
        let (filter, page) =
            (DeliveryFilter { observation_id: Some(pain), ..DeliveryFilter::default() }, PageRequest { limit: 9, before: None });
        let waiting = tenant.deliveries(w.clock.now(), &filter, &page).await.unwrap();
        assert_eq!(waiting.items[0].state, State::Held(HeldReason::Paused));
        store.adopt(w.clock.now(), Adopt::Copy, SETTLE).await.unwrap();
        drive(w, &node, &store, DAY).await;
        assert_eq!(node.gate.passed().len(), 0, "a copy never pushes");
        // The original goes on as if nothing had been.
        w.settle_down().await;
        w.holds(pain, "3");
    })
    .await;
}

#[tokio::test]
async fn a_moved_database_goes_on_after_a_persons_word() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        let pain = w.observe(patient, "3").await;
        let folder = tempfile::tempdir().unwrap();
        let Some((store, node, _)) = copied(w, folder.path()).await else {
            w.settle_down().await;
            return;
        };
        w.work_on(&node).await;
        w.holds_nothing(pain);
        store.adopt(w.clock.now(), Adopt::Moved, SETTLE).await.unwrap();
        drive(w, &node, &store, HOUR).await;
        w.holds(pain, "3");
        assert_eq!(w.effects(pain).len(), 1);
    })
    .await;
}

/// A backup of before: what happened since is settled first, and nothing is doubled or set back.
#[tokio::test]
async fn a_restored_database_doubles_nothing_and_sets_nothing_back() {
    for options in [own_id(), bare()] {
        on_each(options, async |w| {
            let patient = w.known_patient().await;
            let (before, open) = (w.observe(patient, "2").await, w.patient().await);
            w.settle_down().await;
            // Two of one patient: each is asked about for itself, or they would wait for each other.
            let (sent_since, second_since) = (w.observe(patient, "3").await, w.observe(patient, "5").await);
            let also_since = w.observe(open, "4").await;
            // The backup is taken while they wait; then they are sent, and one of them corrected.
            let folder = tempfile::tempdir().unwrap();
            let Some(from) = file(w.db.url()) else {
                w.settle_down().await;
                return;
            };
            let to = folder.path().join("copy.db");
            copy(&from, &to);
            w.settle_down().await;
            w.correct(before, "9").await;
            w.settle_down().await;
            w.holds(before, "9");
            let store = Store::open(&format!("sqlite://{}", to.display()), keys(), Dice::new(991)).await.unwrap();
            store.migrate().await.unwrap();
            assert_eq!(store.come_home(w.clock.now()).await.unwrap(), Home::Elsewhere);
            let node = Node::on(store.clone(), &w.clock, 992);
            store.adopt(w.clock.now(), Adopt::Restored, SETTLE).await.unwrap();
            drive(w, &node, &store, 2 * HOUR).await;
            for (id, score) in [(before, "9"), (sent_since, "3"), (second_since, "5"), (also_since, "4")] {
                w.holds(id, score);
                let filter = DeliveryFilter { observation_id: Some(id), ..DeliveryFilter::default() };
                let known = store
                    .tenant(w.tenant.id())
                    .deliveries(w.clock.now(), &filter, &PageRequest { limit: 200, before: None })
                    .await
                    .unwrap();
                assert!(!known.items.is_empty() && known.items.iter().all(|delivery| delivery.state.is_final()), "{known:?}");
            }
            assert_eq!(w.versions(before), [1, 2], "the restored database set it back");
            assert!(w.ehr().doubled().is_empty(), "{:?}", w.ehr().doubled());
        })
        .await;
    }
}

/// Another base URL is another generation.
#[tokio::test]
async fn nothing_goes_again_to_another_base_url_without_an_explicit_run() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        let there = w.observe(patient, "3").await;
        w.settle_down().await;
        let lost = w.observe(patient, "4").await;
        w.next(1, Fault::CutBeforeCommit, "PUT", lost);
        w.work().await;
        let never_sent = w.observe(patient, "5").await;
        let new = Ward::open(own_id(), &w.clock).await;
        w.configure(&w.tenant, &new.base, json!({})).await;
        w.go_on_for(30 * MINUTE).await;
        let at_new = |id: model::ObservationId| new.sandbox.ledger().by_identifier(crate::judge::SYSTEM, &id.to_string()).len();
        assert_eq!(at_new(there), 0, "it went to the new EHR by itself");
        assert_eq!(at_new(lost), 0);
        assert_eq!(w.delivery(lost).await.state, State::Held(HeldReason::ConnectionMoved));
        w.nothing_is_silent().await;
        w.store.fleet().sweep(w.clock.now(), false).await.unwrap();
        w.go_on_for(2 * DAY).await;
        assert_eq!(at_new(there), 0, "a sweep is no explicit run");
        let run = w.tenant.sync_all(w.clock.now(), "admin").await.unwrap();
        w.settle_down().await;
        for id in [there, lost, never_sent] {
            assert_eq!(at_new(id), 1);
        }
        let first = w.observed.lock().unwrap()[0].0;
        assert_eq!(at_new(first), 1);
        let run = w.tenant.run(w.clock.now(), run.id).await.unwrap().unwrap();
        assert_eq!(run.progress.waiting, 0, "{run:?}");
        let fresh = w.observe(patient, "6").await;
        w.settle_down().await;
        assert_eq!(at_new(fresh), 1);
        w.holds_nothing(fresh);
    })
    .await;
}

/// Whom a person linked to the old EHR's Patient is looked for at the new one; so is whom the old one refused, or a person gave up there.
#[tokio::test]
async fn a_patient_whom_only_the_old_ehr_knew_is_looked_for_at_the_new_one() {
    on_each(own_id(), async |w| {
        let (linked, refused, given_up) = (w.patient().await, w.patient().await, w.patient().await);
        w.tenant.link_by_person(w.clock.now(), linked, Some(EhrId::new("old-1").unwrap()), "ana").await.unwrap().unwrap();
        let words = outcome("invalid", "Not one of ours.");
        w.node.gate.answer(Which::new("PUT", "/Patient/"), 2, 422, FHIR, &words);
        w.settle_down().await;
        let dead = w.listed(DeliveryFilter::default()).await;
        let of = |patient| dead.iter().find(|delivery| delivery.patient_id == patient).unwrap().id;
        assert_eq!(w.by_id(of(refused)).await.state, State::Dead);
        w.tenant.discard(w.clock.now(), of(given_up), "admin").await.unwrap();
        let new = Ward::open(own_id(), &w.clock).await;
        w.configure(&w.tenant, &new.base, json!({})).await;
        for patient in [linked, refused, given_up] {
            let pain = w.observe(patient, "3").await;
            w.settle_down().await;
            assert_eq!(new.sandbox.ledger().by_identifier(crate::judge::SYSTEM, &pain.to_string()).len(), 1);
        }
        w.nothing_is_silent().await;
    })
    .await;
}

/// A change of anything else is the same connection.
#[tokio::test]
async fn a_change_of_other_settings_keeps_what_is_known_of_the_ehr() {
    on_each(own_id(), async |w| {
        let patient = w.known_patient().await;
        let searched = w.node.gate.count("POST", "/fhir/Patient/_search");
        let generation = w.tenant.connection().await.unwrap().unwrap().generation;
        w.configure(&w.tenant, &w.ward.base, json!({"maxRetries": 2, "authConfig": {"apiKey": "k2"}})).await;
        assert_eq!(w.tenant.connection().await.unwrap().unwrap().generation, generation);
        let plan = w.tenant.runtime().await.unwrap().plan;
        assert_eq!(plan.observation_update_create, model::Proof::Proven);
        let pain = w.observe(patient, "3").await;
        w.settle_down().await;
        w.holds(pain, "3");
        assert_eq!(w.node.gate.count("POST", "/fhir/Patient/_search"), searched, "the patient was looked for again");
    })
    .await;
}
