//! A database knows where it lives: what is copied, moved or restored sends nothing until a person has said what it is.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to end")]

mod house;

use house::{KEY, NOW, observation, open, patient, person, reading, realtime, stores, tenant};
use model::{EhrId, HeldReason, State};
use ponte_store as store;
use std::path::Path;
use store::Home;
use store::installation::Adopt;
use testing::Engine;

fn url(file: &Path) -> String {
    format!("sqlite://{}", file.display())
}

/// Copies the database as a backup does: a whole file, its WAL written back into it first.
async fn back_up(from: &Path, to: &Path) {
    let mut conn =
        sqlx::ConnectOptions::connect(&std::str::FromStr::from_str(&url(from)).map(|o: sqlx::sqlite::SqliteConnectOptions| o).unwrap())
            .await
            .unwrap();
    sqlx::query("VACUUM INTO $1").bind(to.display().to_string()).execute(&mut conn).await.unwrap();
}

#[tokio::test]
async fn the_same_place_is_home_at_every_start() {
    for (database, store) in stores().await {
        assert!(store.may_send().await.unwrap());
        for n in 0..3 {
            assert_eq!(store.come_home(NOW.plus_ms(n)).await.unwrap(), Home::Here);
            assert!(store.may_send().await.unwrap());
        }
        assert_eq!(open(database.url(), KEY, 3).await.come_home(NOW).await.unwrap(), Home::Here);
    }
}

#[tokio::test]
async fn a_copied_file_sends_nothing_until_it_is_adopted() {
    let home = testing::sqlite();
    let first = open(home.url(), KEY, 1).await;
    first.migrate().await.unwrap();
    first.come_home(NOW).await.unwrap();
    let check = tenant(&first, "a").request_check(NOW, r#"{"writeProbe":true,"testPatientId":"p"}"#, "ana").await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("ponte.db");
    back_up(home.file().unwrap(), &copy).await;
    let second = open(&url(&copy), KEY, 2).await;
    assert_eq!(second.come_home(NOW).await.unwrap(), Home::Elsewhere);
    assert!(!second.may_send().await.unwrap());
    assert!(second.fleet().claim(NOW, "worker", 60_000, true).await.unwrap().is_none(), "what somebody wished elsewhere is made here");
    let broken_off = tenant(&second, "a").run(NOW, check.id).await.unwrap().unwrap();
    assert_eq!((broken_off.state, broken_off.result), (store::RunState::Finished, None));
    assert!(matches!(first.fleet().claim(NOW, "worker", 60_000, true).await.unwrap(), Some(store::Due::Check(..))));
    assert_eq!(second.come_home(NOW).await.unwrap(), Home::Elsewhere, "starting again does not make it a home");
    assert_eq!(first.come_home(NOW).await.unwrap(), Home::Here, "the original is not concerned");
    second.adopt(NOW, Adopt::Copy, 60_000).await.unwrap();
    assert_eq!((second.come_home(NOW).await.unwrap(), second.may_send().await.unwrap()), (Home::Elsewhere, false));
    second.adopt(NOW, Adopt::Moved, 60_000).await.unwrap();
    assert_eq!((second.come_home(NOW).await.unwrap(), second.may_send().await.unwrap()), (Home::Here, true));
}

/// It is adopted before anybody has started it.
#[tokio::test]
async fn a_copy_makes_no_check_that_somebody_wished_elsewhere() {
    for what in [Adopt::Copy, Adopt::Restored] {
        let home = testing::sqlite();
        let first = open(home.url(), KEY, 1).await;
        first.migrate().await.unwrap();
        first.come_home(NOW).await.unwrap();
        tenant(&first, "a").request_check(NOW, "{}", "ana").await.unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let copy = elsewhere.path().join("ponte.db");
        back_up(home.file().unwrap(), &copy).await;
        let second = open(&url(&copy), KEY, 2).await;
        second.adopt(NOW, what, 60_000).await.unwrap();
        assert!(second.fleet().claim(NOW, "worker", 60_000, true).await.unwrap().is_none());
    }
}

#[tokio::test]
async fn after_an_orderly_end_the_file_alone_is_whole() {
    let home = testing::sqlite();
    let first = open(home.url(), KEY, 1).await;
    first.migrate().await.unwrap();
    first.come_home(NOW).await.unwrap();
    let known = patient(&tenant(&first, "hospital-1"), person("Ana Teste")).await;
    first.close().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("ponte.db");
    std::fs::copy(home.file().unwrap(), &copy).unwrap();
    let second = open(&url(&copy), KEY, 2).await;
    assert_eq!(second.come_home(NOW).await.unwrap(), Home::Elsewhere);
    assert!(tenant(&second, "hospital-1").patient(known).await.unwrap().is_some(), "the last write stayed beside the file");
    assert!(first.come_home(NOW).await.is_err(), "nothing is read or written after the end");
}

#[tokio::test]
async fn a_folder_copied_with_its_marker_is_not_taken_for_the_original() {
    let home = testing::sqlite();
    let first = open(home.url(), KEY, 1).await;
    first.migrate().await.unwrap();
    first.come_home(NOW).await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("ponte.db");
    back_up(home.file().unwrap(), &copy).await;
    std::fs::copy(home.folder().unwrap().join("ponte.db.home"), elsewhere.path().join("ponte.db.home")).unwrap();
    assert_eq!(open(&url(&copy), KEY, 2).await.come_home(NOW).await.unwrap(), Home::Elsewhere);
}

#[tokio::test]
async fn a_backup_put_back_in_its_old_place_is_seen() {
    let home = testing::sqlite();
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup.db");
    {
        let store = open(home.url(), KEY, 1).await;
        store.migrate().await.unwrap();
        store.come_home(NOW).await.unwrap();
        back_up(home.file().unwrap(), &backup).await;
        store.come_home(NOW.plus_ms(1)).await.unwrap();
        store.come_home(NOW.plus_ms(2)).await.unwrap();
    }
    let restored = folder.path().join("ponte.db");
    std::fs::rename(&backup, &restored).unwrap();
    // The old place: the marker that lies there has gone on since.
    std::fs::hard_link(home.folder().unwrap().join("ponte.db.home"), folder.path().join("ponte.db.home")).unwrap();
    assert_eq!(open(&url(&restored), KEY, 2).await.come_home(NOW.plus_ms(3)).await.unwrap(), Home::Elsewhere);
}

#[tokio::test]
async fn a_postgresql_database_knows_its_server_and_its_own_number() {
    for (database, store) in stores().await.into_iter().filter(|(database, _)| database.engine() == Engine::Postgres) {
        store.come_home(NOW).await.unwrap();
        let mut conn = sqlx::ConnectOptions::connect(&database.url().parse::<sqlx::postgres::PgConnectOptions>().unwrap()).await.unwrap();
        let home: String = sqlx::query_scalar("SELECT home FROM installation").fetch_one(&mut conn).await.unwrap();
        let parts: Vec<&str> = home.split(':').collect();
        assert!(parts.len() == 3 && parts[1..].iter().all(|part| part.parse::<u64>().is_ok_and(|n| n > 0)), "{home}");
        sqlx::query("UPDATE installation SET home = 'postgres:1:2'").execute(&mut conn).await.unwrap();
        assert_eq!(store.come_home(NOW).await.unwrap(), Home::Elsewhere);
        assert!(!store.may_send().await.unwrap());
        store.adopt(NOW, Adopt::Moved, 60_000).await.unwrap();
        assert_eq!(store.come_home(NOW).await.unwrap(), Home::Here);
    }
}

#[tokio::test]
async fn after_a_restore_what_was_open_is_asked_about_and_what_a_person_holds_stays_held() {
    for (_database, store) in stores().await {
        store.come_home(NOW).await.unwrap();
        let tenant = tenant(&store, "a");
        tenant.put_connection(NOW, &realtime("https://ehr.example/fhir"), None, "ana").await.unwrap().unwrap();
        let id = patient(&tenant, person("Maria")).await;
        tenant.link_by_person(NOW, id, Some(EhrId::new("e").unwrap()), "ana").await.unwrap().unwrap();
        let open = observation(&tenant, reading(id, "72514-3", "3")).await;
        let misused = vec![(reading(id, "8310-5", "4"), Some(HeldReason::CodeMisused))];
        let store::idempotency::Once::Done(held) = tenant.create_observations(NOW, misused, None).await.unwrap() else {
            panic!("not done")
        };
        let store::Accepted::Stored(held) = &held[0] else { panic!("not stored") };
        store.adopt(NOW, Adopt::Restored, 60_000).await.unwrap();
        let state = async |id| tenant.observation(NOW, id).await.unwrap().unwrap().delivery.map(|d| d.state);
        assert_eq!(state(open.id).await, Some(State::Uncertain));
        assert_eq!(state(held.id).await, Some(State::Held(HeldReason::CodeMisused)));
        // It may be there: what is withdrawn now has to be withdrawn there too.
        assert!(tenant.withdraw_observation(NOW, open.id).await.unwrap());
        assert_ne!(state(open.id).await, Some(State::Canceled));
    }
}
