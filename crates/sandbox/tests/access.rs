//! The ways in: open, tokens, Basic, API key, and the control endpoint's own door.
#![allow(clippy::unwrap_used)] // the functions around the tests are tests too

mod ward;

use reqwest::Method;
use sandbox::{Auth, Fault, FaultPlan, OAuth2, Options, Script};
use serde_json::json;
use ward::*;

async fn guarded(auth: Vec<Auth>) -> Ward {
    ward(Options { auth, ..Options::default() }).await
}

async fn token(ward: &Ward, form: &[(&str, &str)]) -> reqwest::Response {
    ward.client.post(format!("{}/oauth/token", ward.origin)).form(form).send().await.unwrap()
}

const FORM: &[(&str, &str)] =
    &[("grant_type", "client_credentials"), ("client_id", "me"), ("client_secret", "s+/%:"), ("scope", "system/*.cruds")];

#[tokio::test]
async fn a_token_from_client_credentials_opens_the_door_until_it_expires() {
    let hand = Hand::new();
    let auth = vec![Auth::OAuth2(OAuth2::new("me", "s+/%:"))];
    let ward = ward(Options { auth, clock: hand.clock(), ..Options::default() }).await;
    let closed = ward.get("Observation").await;
    assert_eq!(status(&closed), 401);
    assert!(header(&closed, "www-authenticate").starts_with("Bearer"));
    assert_eq!(body(closed).await["resourceType"], "OperationOutcome");
    assert_eq!(status(&ward.get("metadata").await), 200);
    let smart = ward.search(".well-known/smart-configuration").await;
    assert_eq!(smart["token_endpoint"], format!("{}/oauth/token", ward.origin));
    let answer = body(token(&ward, FORM).await).await;
    assert_eq!((answer["token_type"].as_str(), answer["expires_in"].as_u64()), (Some("Bearer"), Some(300)));
    let access = answer["access_token"].as_str().unwrap().to_owned();
    let read = || ward.request(Method::GET, "Observation").bearer_auth(&access).send();
    assert_eq!(status(&read().await.unwrap()), 200);
    hand.forward(300_001);
    let expired = read().await.unwrap();
    assert_eq!(status(&expired), 401);
    assert!(header(&expired, "www-authenticate").contains("invalid_token"));
    assert_eq!(ward.sandbox.ledger().tokens_issued, 1);
}

#[tokio::test]
async fn the_secret_may_come_as_basic_encoded_or_not() {
    let ward = guarded(vec![Auth::OAuth2(OAuth2::new("me", "s+/%:"))]).await;
    let form = [("grant_type", "client_credentials")];
    for secret in ["s+/%:", "s%2B%2F%25%3A"] {
        let answer =
            ward.client.post(format!("{}/oauth/token", ward.origin)).basic_auth("me", Some(secret)).form(&form).send().await.unwrap();
        assert_eq!(status(&answer), 200, "{secret}");
    }
    let wrong = ward.client.post(format!("{}/oauth/token", ward.origin)).basic_auth("me", Some("no")).form(&form).send().await.unwrap();
    assert_eq!(status(&wrong), 401);
    assert!(header(&wrong, "www-authenticate").starts_with("Basic"));
    assert_eq!(body(wrong).await["error"], "invalid_client");
}

#[tokio::test]
async fn the_token_endpoint_refuses_by_the_book() {
    let mut client = OAuth2::new("me", "secret");
    client.accepts_post = false;
    client.tells_expiry = false;
    client.scopes = vec!["system/Patient.rs".to_owned()];
    let ward = guarded(vec![Auth::OAuth2(client)]).await;
    let posted = token(&ward, &[("grant_type", "client_credentials"), ("client_id", "me"), ("client_secret", "secret")]).await;
    assert_eq!(body(posted).await["error"], "invalid_client");
    assert_eq!(body(token(&ward, &[("grant_type", "password")]).await).await["error"], "unsupported_grant_type");
    assert_eq!(body(token(&ward, &[("x", "y")]).await).await["error"], "invalid_request");
    let ask = |scope: &'static str| {
        ward.client
            .post(format!("{}/oauth/token", ward.origin))
            .basic_auth("me", Some("secret"))
            .form(&[("grant_type", "client_credentials"), ("scope", scope)])
            .send()
    };
    assert_eq!(body(ask("system/Observation.c").await.unwrap()).await["error"], "invalid_scope");
    let less = body(ask("system/Observation.c system/Patient.read").await.unwrap()).await;
    assert_eq!(less["scope"], "system/Patient.read");
    assert!(less.get("expires_in").is_none());
    let access = less["access_token"].as_str().unwrap();
    let refused = ward.request(Method::GET, "Observation").bearer_auth(access).send().await.unwrap();
    assert_eq!(status(&refused), 403);
    assert_eq!(status(&ward.request(Method::GET, "Patient").bearer_auth(access).send().await.unwrap()), 200);
}

#[tokio::test]
async fn each_entry_of_a_batch_is_judged_by_the_scopes() {
    let mut client = OAuth2::new("me", "s+/%:");
    client.scopes = vec!["system/Observation.c".to_owned()];
    let ward = guarded(vec![Auth::OAuth2(client)]).await;
    let form: Vec<(&str, &str)> = FORM[..3].to_vec();
    let access = body(token(&ward, &form).await).await["access_token"].as_str().unwrap().to_owned();
    let read = json!({"request": {"method": "GET", "url": "Observation"}});
    let sent = batch("batch", vec![post_entry(observation("1")), read]);
    let answer = ward.send(Method::POST, "", &sent).bearer_auth(access).send().await.unwrap();
    assert_eq!(statuses(&body(answer).await), ["201", "403"]);
}

#[tokio::test]
async fn basic_and_api_key_stand_side_by_side() {
    let ward = guarded(vec!["basic:ana:pass:word".parse().unwrap(), "api-key:X-Key:k1".parse().unwrap()]).await;
    assert_eq!(status(&ward.get("Patient").await), 401);
    let ask = || ward.request(Method::GET, "Patient");
    assert_eq!(status(&ask().basic_auth("ana", Some("pass:word")).send().await.unwrap()), 200);
    assert_eq!(status(&ask().basic_auth("ana", Some("no")).send().await.unwrap()), 401);
    assert_eq!(status(&ask().header("x-key", "k1").send().await.unwrap()), 200);
    assert_eq!(status(&ask().header("x-key", "k2").send().await.unwrap()), 401);
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_a_new_one_works() {
    let auth = vec![Auth::OAuth2(OAuth2::new("me", "s+/%:"))];
    let ward = ward(Options { auth, faults: FaultPlan::none().next(Fault::TokenRevoked, 1), ..Options::default() }).await;
    let first = body(token(&ward, FORM).await).await["access_token"].as_str().unwrap().to_owned();
    let read = |token: String| ward.request(Method::GET, "Patient").bearer_auth(token).send();
    assert_eq!(status(&read(first.clone()).await.unwrap()), 401);
    assert_eq!(status(&read(first).await.unwrap()), 401);
    let second = body(token(&ward, FORM).await).await["access_token"].as_str().unwrap().to_owned();
    assert_eq!(status(&read(second).await.unwrap()), 200);
    assert_eq!(ward.sandbox.ledger().shown(Fault::TokenRevoked), 1);
}

#[tokio::test]
async fn the_token_endpoint_shows_scripted_faults_too() {
    let auth = vec![Auth::OAuth2(OAuth2::new("me", "s+/%:"))];
    let script = Script { fault: Fault::Status503, next: 1, method: None, path: Some("/oauth/token".to_owned()), identifier: None };
    let ward = ward(Options { auth, faults: FaultPlan::none().script(script), ..Options::default() }).await;
    assert_eq!(status(&token(&ward, FORM).await), 503);
    assert_eq!(status(&token(&ward, FORM).await), 200);
}

#[tokio::test]
async fn the_control_endpoint_changes_faults_and_refuses_nonsense() {
    let ward = plain().await;
    let change = json!({"on": ["search_lag"], "rates": {"hang": 0.5}, "scripts": [{"fault": "status_500", "path": "/fhir/Patient"}], "settings": {"searchLagMs": 7}});
    let shown = body(ward.control(Method::POST, "faults", change).await).await;
    assert_eq!(
        (shown["on"][0].as_str(), shown["settings"]["searchLagMs"].as_u64(), shown["scripts"][0]["next"].as_u64()),
        (Some("search_lag"), Some(7), Some(1))
    );
    assert_eq!(status(&ward.control(Method::POST, "faults", json!({"rates": {"no_such": 1}})).await), 400);
    assert_eq!(status(&ward.control(Method::POST, "faults", json!({"rates": {"hang": 2}})).await), 400);
    assert_eq!(status(&ward.control(Method::POST, "faults", json!({"settings": {"typo": 2}})).await), 400);
    let replaced = body(ward.control(Method::PUT, "faults", json!({"on": ["total_lies"]})).await).await;
    assert_eq!(
        (
            replaced["on"].as_array().unwrap().len(),
            replaced["rates"].as_object().unwrap().len(),
            replaced["settings"]["searchLagMs"].as_u64()
        ),
        (1, 0, Some(1000))
    );
    let cleared = body(ward.control(Method::DELETE, "faults", json!({})).await).await;
    assert!(cleared["on"].as_array().unwrap().is_empty());
    assert_eq!(cleared["known"].as_array().unwrap().len(), Fault::ALL.len());
    assert_eq!(status(&ward.control(Method::POST, "resources", json!({"resourceType": "Patient", "id": "p1"})).await), 201);
    assert_eq!(status(&ward.get("Patient/p1").await), 200);
    assert_eq!(status(&ward.control(Method::DELETE, "resources/Patient/p1", json!({})).await), 204);
    assert_eq!(status(&ward.get("Patient/p1").await), 410);
    assert_eq!(status(&ward.control(Method::POST, "reset", json!({})).await), 204);
    assert_eq!(status(&ward.get("Patient/p1").await), 404);
}

#[tokio::test]
async fn the_control_endpoint_is_closed_to_other_machines() {
    use tower::ServiceExt;
    let ward = plain().await;
    for (peer, expected) in [("127.0.0.1:9", 200), ("[::ffff:127.0.0.1]:9", 200), ("10.0.0.7:9", 403)] {
        let mut request = http::Request::get("/_sandbox/ledger").body(axum::body::Body::empty()).unwrap();
        request.extensions_mut().insert(axum::extract::ConnectInfo(peer.parse::<std::net::SocketAddr>().unwrap()));
        let answer = ward.sandbox.router().oneshot(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), expected, "{peer}");
    }
}
