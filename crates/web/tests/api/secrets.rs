//! Nothing of a person and no secret in a log line or in an error answer (PRODUCT, law 5): planted markers are looked for.

use crate::house::{Answer, houses, original_config, pain};
use crate::worker::{Ehr, work};
use http::Method;
use serde_json::json;
use std::io::Write;
use std::sync::{Arc, Mutex};
use tracing_subscriber::fmt::MakeWriter;

const MARKERS: [&str; 9] = [
    "Marker-Name",
    "52998224725",
    "529.982.247-25",
    "700500572752652",
    "+55 11 5555-1234",
    "marker@example.com",
    "1961-04-02",
    "secret-marker",
    "777.77",
];

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Written {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[track_caller]
fn clean(answer: &Answer) {
    assert!(answer.status.is_client_error(), "{}", answer.text);
    let said = format!("{} {:?}", answer.text, answer.headers);
    for marker in MARKERS {
        assert!(!said.contains(marker), "{marker} in {said}");
    }
}

#[tokio::test]
async fn markers_are_in_no_log_and_in_no_error() {
    let written = Written::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(written.clone()).finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    for house in houses().await {
        let admin = house.admin("a");
        let person = json!({"name": "Marker-Name", "birthDate": "1961-04-02", "cpf": "529.982.247-25", "cns": "700500572752652",
            "phone": "+55 11 5555-1234", "email": "marker@example.com", "externalId": "secret-marker", "ehrPatientId": "p-1"});
        let patient = admin.post("/patients", person.clone()).await.is(201).id();
        clean(&admin.post("/patients", person.clone()).await);
        let mut wrong = person.clone();
        wrong
            .as_object_mut()
            .unwrap()
            .extend([("phone".to_owned(), json!(["+55 11 5555-1234"])), ("gender".to_owned(), json!("Marker-Name"))]);
        wrong["email"] = json!("marker@example.com Marker-Name");
        clean(&admin.post("/patients", wrong).await);
        clean(&admin.post("/patients/search", json!({"cpf": "529.982.247-25 1", "externalId": 7})).await);
        clean(&admin.get("/patients?cpf=529.982.247-25").await);
        clean(&admin.get("/patients?name=Marker-Name&name=Marker-Name").await);
        clean(&admin.get("/observations?code=Marker-Name%00").await);
        clean(&admin.get("/patients/Marker-Name").await);
        clean(&admin.get("/Marker-Name/52998224725").await);
        clean(&admin.post_text("/patients", r#"{"name":"Marker-Name","name":"#).await);
        clean(&admin.post_text("/patients", r#"{"cpf":"52998224725","cpf":"52998224725"}"#).await);

        let mut value = pain(&patient);
        value["valueQuantity"] = json!("777.77");
        clean(&admin.post("/observations", value.clone()).await);
        value["valueQuantity"] = json!(777.77);
        value["valueString"] = json!("Marker-Name");
        clean(&admin.post("/observations", value.clone()).await);
        value["valueString"] = json!(null);
        let id = admin.post("/observations", value).await.is(201).id();
        clean(&admin.ask(&format!("/fhir/observations/{id}/sync")).await);

        let mut config = original_config();
        config["authConfig"]["clientSecret"] = json!("secret-marker");
        admin.post("/fhir/config", config.clone()).await.is(201);
        config["baseUrl"] = json!("https://secret-marker@127.0.0.1/fhir");
        clean(&admin.post("/fhir/config", config.clone()).await);
        config["authConfig"]["surplus"] = json!("secret-marker");
        config["authType"] = json!("secret-marker");
        clean(&admin.call(Method::PUT, "/fhir/config", Some(&config.to_string())).await);
        clean(&admin.clone().with("idempotency-key", &"secret-marker".repeat(30)).post("/patients", person.clone()).await);
        // The EHR's own words are for the tenant that they concern, and for no log.
        assert_eq!(work(&house, Ehr::Refuses("Marker-Name has no 777.77")).await, 1);
        admin.get("/fhir/dead-letters").await.is(200);
    }
    let logged = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
    assert!(
        logged.contains("answered") && logged.contains("/api/v1/patients/{id}"),
        "{}",
        logged.lines().filter(|l| l.contains("answered")).take(3).collect::<String>()
    );
    for marker in MARKERS {
        let line = logged.lines().find(|line| line.contains(marker));
        assert!(line.is_none(), "{marker} in {line:?}");
    }
}
