//! What each profile is known for.
#![allow(clippy::unwrap_used)] // the functions around the tests are tests too

mod ward;

use reqwest::Method;
use sandbox::{Fault, FaultPlan, Options, Profile, Settings};
use serde_json::json;
use ward::*;

async fn racing_creates(profile: Profile) -> usize {
    let settings = Settings { race_delay_ms: 50, ..Settings::default() };
    let ward = ward(Options { profile, settings, ..Options::default() }).await;
    let answers = futures::future::join_all((0..8).map(|_| ward.create_once("1").send())).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().status().is_success()));
    ward.held("1")
}

#[tokio::test]
async fn parallel_conditional_creates_double_where_the_real_server_doubles() {
    for profile in [Profile::Helios, Profile::Wso2, Profile::Hapi] {
        assert!(racing_creates(profile).await > 1, "{profile}");
    }
    for profile in [Profile::Plain, Profile::Medplum] {
        assert_eq!(racing_creates(profile).await, 1, "{profile}");
    }
}

#[tokio::test]
async fn epic_has_neither_conditions_nor_own_ids_nor_batches_nor_history() {
    let ward = like(Profile::Epic).await;
    ward.patient("p1");
    for value in 0..3 {
        let created = ward.post("Observation", &observation_of(&value.to_string(), "p1")).await;
        assert_eq!(status(&created), 201);
        assert!(!header(&created, "location").contains("_history"));
        assert_eq!(created.text().await.unwrap(), "");
    }
    assert_eq!(status(&ward.create_once("9").send().await.unwrap()), 400);
    assert_eq!(status(&ward.put("Observation/mine", &with_id(observation("9"), "mine")).await), 405);
    assert_eq!(status(&ward.put("Patient/p1", &json!({"resourceType": "Patient", "id": "p1"})).await), 405);
    assert_eq!(status(&ward.post("", &batch("batch", vec![post_entry(observation("9"))])).await), 400);
    assert_eq!(status(&ward.get("Observation/_history").await), 404);
    assert_eq!(status(&ward.get("Observation").await), 400);
    let shoe = ward.get("Shoe?_count=1").await;
    assert!(status(&shoe) == 404 && shoe.text().await.unwrap().starts_with("<!DOCTYPE html>"));
    let page = ward.search("Observation?patient=p1&_count=2&_lastUpdated=gt2020").await;
    assert_eq!((page["total"].as_u64(), ids(&page).len()), (Some(2), 2));
    assert!(next(&page).unwrap().contains("Observation?sessionID="));
    assert_eq!(page["entry"][2]["search"]["mode"], "outcome");
    assert!(page["entry"][0]["resource"]["meta"].get("lastUpdated").is_none());
    let rest = body(ward.client.get(next(&page).unwrap()).send().await.unwrap()).await;
    assert_eq!(ids(&rest).len(), 1);
    let claims = &ward.search("metadata").await["rest"][0];
    assert!(claims.get("interaction").is_none());
    assert_eq!(claims["resource"][1]["conditionalCreate"], false);
    assert!(!claims["resource"][1]["searchParam"].as_array().unwrap().iter().any(|one| one["name"] == "_lastUpdated"));
}

#[tokio::test]
async fn hapi_caches_searches_and_pages_at_the_base() {
    let ward = like(Profile::Hapi).await;
    assert_eq!(status(&ward.get("Observation?shoe=44").await), 400);
    assert!(ids(&ward.search("Observation?identifier=urn:t|1").await).is_empty());
    let mut sourced = observation("1");
    sourced["meta"] = json!({"source": "urn:ponte"});
    let created = body(ward.post("Observation", &sourced).await).await;
    assert!(created["meta"]["source"].as_str().unwrap().starts_with("urn:ponte#"));
    assert!(created["id"].as_str().unwrap().bytes().all(|byte| byte.is_ascii_digit()));
    assert!(ids(&ward.search("Observation?identifier=urn:t|1").await).is_empty());
    assert_eq!(ids(&ward.search("Observation?identifier=urn:t|1&_count=7").await).len(), 1);
    let fresh = ward.request(Method::GET, "Observation?identifier=urn:t|1").header("cache-control", "no-cache").send().await.unwrap();
    assert_eq!(ids(&body(fresh).await).len(), 1);
    assert_eq!(ward.sandbox.ledger().shown(Fault::SearchCache), 1);
    for value in 2..5 {
        ward.post("Observation", &observation(&value.to_string())).await;
    }
    let page = ward.search("Observation?_count=3").await;
    let link = next(&page).unwrap();
    assert!(link.starts_with(&format!("{}/fhir?_getpages=", ward.origin)));
    assert_eq!(ids(&body(ward.client.get(link).send().await.unwrap()).await).len(), 1);
    assert_eq!(status(&ward.put("Observation/77", &with_id(observation("9"), "77")).await), 400);
    let id = created["id"].as_str().unwrap();
    let same = ward.put(&format!("Observation/{id}"), &created).await;
    assert_eq!(header(&same, "etag"), "W/\"1\"");
    assert_eq!(status(&ward.request(Method::DELETE, &format!("Observation/{id}")).send().await.unwrap()), 200);
}

#[tokio::test]
async fn helios_takes_anything_and_only_bare_conditions() {
    let ward = like(Profile::Helios).await;
    assert_eq!(status(&ward.post("Observation", &json!({"resourceType": "Observation"})).await), 201);
    assert_eq!(status(&ward.post("Observation", &observation_of("1", "nobody")).await), 201);
    let marked =
        ward.send(Method::POST, "Observation", &observation("1")).header("if-none-exist", "?identifier=urn:t|1").send().await.unwrap();
    assert_eq!(status(&marked), 400);
    let matched = ward.create_once("1").send().await.unwrap();
    assert_eq!((status(&matched), header(&matched, "location")), (200, String::new()));
    ward.put("Observation/x", &with_id(observation("2"), "x")).await;
    let over = ward.send(Method::PUT, "Observation/x", &with_id(observation("2"), "x")).header("if-none-match", "*").send().await.unwrap();
    assert_eq!(status(&over), 200);
    let delete = || ward.request(Method::DELETE, "Observation/x").send();
    assert_eq!((status(&delete().await.unwrap()), status(&delete().await.unwrap())), (204, 404));
}

#[tokio::test]
async fn helios_pages_by_cursor_and_loses_rows_that_move() {
    let hand = Hand::new();
    let ward = ward(Options { profile: Profile::Helios, clock: hand.clock(), ..Options::default() }).await;
    for value in 0..6 {
        ward.put(&format!("Observation/o{value}"), &with_id(observation(&value.to_string()), &format!("o{value}"))).await;
        hand.forward(10);
    }
    let page = ward.search("Observation?_count=3").await;
    assert_eq!(ids(&page), ["o5", "o4", "o3"]);
    ward.put("Observation/o0", &with_id(observation("0"), "o0")).await;
    let rest = body(ward.client.get(next(&page).unwrap()).send().await.unwrap()).await;
    assert_eq!(ids(&rest), ["o2", "o1"]);
}

#[tokio::test]
async fn the_medplum_router_answers_200_to_a_put_that_creates_and_finds_everybodys_rows() {
    let ward = like(Profile::MedplumRouter).await;
    for id in ["mine", "other"] {
        assert_eq!(status(&ward.put(&format!("Observation/{id}"), &with_id(observation(id), id)).await), 200);
    }
    let found = body(ward.get("Observation?patient=nobody").await).await;
    assert_eq!(ids(&found).len(), 2, "{found}");
    assert!(found["link"][0]["url"].as_str().unwrap().contains("patient=nobody"), "it does not say that it ignored it: {found}");
}

#[tokio::test]
async fn medplum_refuses_own_ids_rounds_decimals_and_runs_transactions_as_batches() {
    let ward = like(Profile::Medplum).await;
    let uuid = "0190a0a0-0000-4000-8000-000000000001";
    assert_eq!(status(&ward.put(&format!("Observation/{uuid}"), &with_id(observation("1"), uuid)).await), 404);
    assert_eq!(status(&ward.put("Observation/mine", &with_id(observation("1"), "mine")).await), 400);
    let text = observation("1").to_string().replace("72", "1.10");
    let created =
        ward.request(Method::POST, "Observation").header("content-type", "application/fhir+json").body(text).send().await.unwrap();
    assert_eq!(header(&created, "etag").len(), "W/\"\"".len() + 36);
    let created = created.text().await.unwrap();
    assert!(created.contains("\"value\":1.1,"), "{created}");
    let mut bad = observation("3");
    bad.as_object_mut().unwrap().remove("code");
    let mixed = body(ward.post("", &batch("transaction", vec![post_entry(observation("2")), post_entry(bad)])).await).await;
    assert_eq!(statuses(&mixed), ["201", "400"]);
    let mut odd = observation("4");
    odd["shoe"] = json!(44);
    assert_eq!(status(&ward.post("Observation", &odd).await), 400);
    let mut code = observation("5");
    code["status"] = json!("done");
    assert_eq!(status(&ward.post("Observation", &code).await), 201);
    assert_eq!(status(&ward.get("Observation?shoe=44").await), 400);
    assert_eq!(status(&ward.get("Observation/_history").await), 404);
    let marked =
        ward.send(Method::POST, "Observation", &observation("6")).header("if-none-exist", "?identifier=urn:t|6").send().await.unwrap();
    assert_eq!(status(&marked), 412);
    let stored: serde_json::Value = serde_json::from_str(&created).unwrap();
    let same = ward.put(&format!("Observation/{}", stored["id"].as_str().unwrap()), &stored).await;
    assert_eq!(header(&same, "etag"), format!("W/\"{}\"", stored["meta"]["versionId"].as_str().unwrap()));
}

#[tokio::test]
async fn wso2_checks_a_batch_less_and_ignores_marked_conditions() {
    let ward = like(Profile::Wso2).await;
    let mut bad = observation("1");
    bad.as_object_mut().unwrap().remove("code");
    assert_eq!(status(&ward.post("Observation", &bad).await), 422);
    let taken = body(ward.post("", &batch("batch", vec![post_entry(bad)])).await).await;
    assert_eq!(statuses(&taken), ["201"]);
    assert!(taken["entry"][0].get("resource").is_none() && taken["entry"][0]["response"].get("etag").is_none());
    for _ in 0..2 {
        let doubled =
            ward.send(Method::POST, "Observation", &observation("2")).header("if-none-exist", "?identifier=urn:t|2").send().await.unwrap();
        assert_eq!(status(&doubled), 201);
    }
    assert_eq!(ward.held("2"), 2);
    assert!(ids(&ward.search("Observation?shoe=44").await).is_empty());
    assert_eq!(status(&ward.request(Method::HEAD, "metadata").send().await.unwrap()), 405);
    assert_eq!(status(&ward.post("Observation", &observation(&"x".repeat(192))).await), 500);
    let kept = body(ward.post("Observation", &with_id(observation("3"), "mine")).await).await;
    assert_eq!(kept["id"], "mine");
    let stamp = kept["meta"]["lastUpdated"].as_str().unwrap().to_owned();
    assert_eq!(stamp.len(), "2024-01-01T00:00:00Z".len());
    assert_eq!(ids(&ward.search(&format!("Observation?identifier=urn:t|3&_lastUpdated=ge{stamp}")).await), ["mine"]);
    assert_eq!(ward.search("Shoe?_count=1").await["total"].as_u64(), Some(0));
    let mut once = post_entry(observation("4"));
    once["request"]["ifNoneExist"] = json!("identifier=urn:t|4");
    let twice = body(ward.post("", &batch("transaction", vec![once.clone(), once])).await).await;
    assert_eq!(statuses(&twice), ["201", "201"]);
}

#[tokio::test]
async fn a_profile_fault_can_be_switched_off() {
    let ward = ward(Options { profile: Profile::Epic, faults: FaultPlan::none().never(Fault::NoUpdateCreate), ..Options::default() }).await;
    assert_eq!(status(&ward.put("Observation/mine", &with_id(observation("9"), "mine")).await), 201);
}
