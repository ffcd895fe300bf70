//! Nothing of a person, no secret and no reading stands in the database's files in the clear.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to end")]

mod house;

use house::{NOW, observation, reading, realtime, stores, tenant};
use model::{Cns, Cpf, EhrId, PatientDraft};
use ponte_store as store;
use sqlx::Row;
use store::idempotency::{Key, Once};
use store::patients::NewPatient;

const MARKERS: [&str; 12] = [
    "Marcadora",
    "1931-07-19",
    "91234-5678",
    "maria@marker.example",
    "52998224725",
    "700500572752652",
    "EXT-marker-1",
    "geheim",
    "ponte-user",
    "31415926",
    "Texto livre",
    "idem-marker",
];

#[tokio::test]
async fn no_marker_is_in_any_file_or_row() {
    for (database, store) in stores().await {
        let tenant = tenant(&store, "a");
        let mut config = realtime("https://ehr.example/fhir");
        config.connection.auth = model::AuthConfig::Basic { username: "ponte-user".to_owned(), password: "geheim".to_owned().into() };
        let stored = tenant.put_connection(NOW, &config, None, "ana").await.unwrap().unwrap();
        tenant.put_connection(NOW, &config, Some(stored.revision), "ana").await.unwrap().unwrap();
        let draft = PatientDraft {
            name: "Maria Marcadora".to_owned(),
            birth_date: "1931-07-19".to_owned(),
            gender: None,
            phone: Some("+55 11 91234-5678".to_owned()),
            email: Some("maria@marker.example".to_owned()),
            cpf: Some(Cpf::parse("52998224725").unwrap()),
            cns: Some(Cns::parse("700500572752652").unwrap()),
            external_id: Some("EXT-marker-1".to_owned()),
        };
        let key = Key { key: "idem-marker".to_owned(), fingerprint: "52998224725".to_owned() };
        let new = NewPatient { draft: draft.clone(), link: Some((EhrId::new("e").unwrap(), "ana".to_owned())) };
        let Once::Done(patient) = tenant.create_patient(NOW, new, Some(&key)).await.unwrap().unwrap() else { panic!("not made") };
        tenant.update_patient(NOW, patient.id, 1, PatientDraft { name: "Rita Marcadora".to_owned(), ..draft }).await.unwrap().unwrap();
        let made = observation(&tenant, reading(patient.id, "72514-3", "31415926")).await;
        let mut words = reading(patient.id, "72514-3", "1");
        words.value = Some(model::Value::Text("Texto livre".to_owned()));
        words.external_id = Some("EXT-marker-1".to_owned());
        tenant.update_observation(NOW, made.id, 1, words, None).await.unwrap().unwrap();
        tenant.idempotency_begin(NOW, &Key { key: "idem-marker-2".to_owned(), fingerprint: "x".to_owned() }).await.unwrap();
        tenant
            .idempotency_finish(NOW, &Key { key: "idem-marker-2".to_owned(), fingerprint: "x".to_owned() }, 200, "Maria Marcadora")
            .await
            .unwrap();
        tenant.withdraw_observation(NOW, made.id).await.unwrap();
        assert_eq!(tenant.patient(patient.id).await.unwrap().unwrap().draft.name, "Rita Marcadora");

        let haystack = match database.folder() {
            Some(folder) => files(folder),
            None => rows(database.url()).await,
        };
        // What may stand there does: the search itself is not blind.
        assert!(finds(&haystack, "72514-3") && finds(&haystack, &patient.id.to_string()));
        for marker in MARKERS {
            assert!(!finds(&haystack, marker), "{marker} is readable in {:?}", database.engine());
        }
    }
}

fn files(folder: &std::path::Path) -> Vec<u8> {
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.iter().any(|file| file.to_string_lossy().ends_with("-wal")), "the WAL is searched too");
    files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect()
}

/// All rows of all tables as text; bytes are shown as hexadecimal there, so they are decoded once more.
async fn rows(url: &str) -> Vec<u8> {
    let mut conn = sqlx::ConnectOptions::connect(&url.parse::<sqlx::postgres::PgConnectOptions>().unwrap()).await.unwrap();
    let tables = sqlx::query("SELECT CAST(table_name AS TEXT) AS name FROM information_schema.tables WHERE table_schema = 'public'")
        .fetch_all(&mut conn)
        .await
        .unwrap();
    let mut all = Vec::new();
    for table in tables {
        let name: String = table.get("name");
        let dump = sqlx::AssertSqlSafe(format!("SELECT CAST(t AS TEXT) AS line FROM \"{name}\" t"));
        for row in sqlx::query(dump).fetch_all(&mut conn).await.unwrap() {
            let line: String = row.get("line");
            all.extend_from_slice(line.as_bytes());
            for part in line.split("\\x").skip(1) {
                let digits: Vec<u8> = part.bytes().take_while(u8::is_ascii_hexdigit).collect();
                all.extend(digits.chunks_exact(2).filter_map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()));
            }
            all.push(b'\n');
        }
    }
    all
}

fn finds(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle.as_bytes())
}
