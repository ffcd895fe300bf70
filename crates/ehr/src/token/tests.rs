//! One token for all who ask, the right way of sending the secret, and an end that is believed only so far.

use super::*;
use crate::testing::{HandClock, oauth2, serve, transport};
use axum::Router;
use axum::extract::Form;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering as Order};

type Fields = HashMap<String, String>;

fn tokens(clock: &Arc<HandClock>) -> Tokens {
    Tokens::new(transport(|_| {}), Arc::clone(clock) as Arc<dyn Clock>)
}

fn settings(url: &str) -> TokenSettings {
    TokenSettings::new(&oauth2(url), None, 5000).unwrap()
}

/// A token endpoint with one answer; gives its URL and how often it was asked.
async fn endpoint(answer: impl Fn(usize, HeaderMap, Fields) -> Response + Clone + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let handler = move |headers: HeaderMap, Form(fields): Form<Fields>| {
        let number = counted.fetch_add(1, Order::SeqCst);
        let answer = answer(number, headers, fields);
        async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            answer
        }
    };
    let address = serve(Router::new().route("/token", post(handler))).await;
    (format!("http://{address}/token"), count)
}

fn json(body: &str) -> Response {
    ([("content-type", "application/json")], body.to_owned()).into_response()
}

#[tokio::test]
async fn fifty_callers_make_one_token_request() {
    let (url, count) = endpoint(|n, _, _| json(&format!(r#"{{"access_token":"t{n}","token_type":"BEARER","expires_in":300}}"#))).await;
    let clock = HandClock::at(0);
    let tokens = Arc::new(tokens(&clock));
    let settings = settings(&url);
    let calls = (0..50).map(|_| {
        let (tokens, settings) = (Arc::clone(&tokens), settings.clone());
        tokio::spawn(async move { tokens.current(&settings).await.unwrap().secret.expose_secret().to_owned() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), "t0");
    }
    assert_eq!(count.load(Order::SeqCst), 1);
    clock.0.store(269_000, Order::SeqCst);
    assert_eq!(tokens.current(&settings).await.unwrap().secret.expose_secret(), "t0");
    clock.0.store(270_000, Order::SeqCst);
    assert_eq!(tokens.current(&settings).await.unwrap().secret.expose_secret(), "t1", "renewed 10 % ahead of its end");
}

#[tokio::test]
async fn fifty_callers_share_one_failure() {
    let (url, count) = endpoint(|_, _, _| (StatusCode::BAD_REQUEST, json(r#"{"error":"invalid_scope"}"#)).into_response()).await;
    let tokens = Arc::new(tokens(&HandClock::at(0)));
    let settings = settings(&url);
    let barrier = Arc::new(tokio::sync::Barrier::new(50));
    let calls = (0..50).map(|_| {
        let (tokens, settings, barrier) = (Arc::clone(&tokens), settings.clone(), Arc::clone(&barrier));
        tokio::spawn(async move {
            barrier.wait().await;
            tokens.current(&settings).await.unwrap_err().class
        })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), Class::AuthToken);
    }
    assert_eq!(count.load(Order::SeqCst), 1);
    assert!(tokens.current(&settings).await.is_err());
    assert_eq!(count.load(Order::SeqCst), 2, "who comes later asks anew");
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_for_all() {
    let (url, count) = endpoint(|n, _, _| json(&format!(r#"{{"access_token":"t{n}","expires_in":"300"}}"#))).await;
    let tokens = Arc::new(tokens(&HandClock::at(0)));
    let settings = settings(&url);
    let refused = tokens.current(&settings).await.unwrap();
    let calls = (0..20).map(|_| {
        let (tokens, settings, refused) = (Arc::clone(&tokens), settings.clone(), Arc::clone(&refused));
        tokio::spawn(async move { tokens.renewed(&settings, &refused).await.unwrap().secret.expose_secret().to_owned() })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), "t1");
    }
    assert_eq!(count.load(Order::SeqCst), 2);
}

#[tokio::test]
async fn the_secret_goes_in_the_body_whole() {
    let (url, _) = endpoint(|_, headers, fields| {
        let want = [
            ("grant_type", "client_credentials"),
            ("client_id", "client:1"),
            ("client_secret", "marker+secret/%:"),
            ("scope", "system/Observation.crus"),
        ];
        let good =
            want.iter().all(|(key, value)| fields.get(*key).map(String::as_str) == Some(value)) && !headers.contains_key("authorization");
        if good { json(r#"{"access_token":"t"}"#) } else { StatusCode::IM_A_TEAPOT.into_response() }
    })
    .await;
    assert!(tokens(&HandClock::at(0)).current(&settings(&url)).await.is_ok());
}

#[tokio::test]
async fn invalid_client_is_answered_with_basic_and_that_is_remembered() {
    let (url, count) = endpoint(|_, headers, fields| {
        let plain = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Basic ").map(str::to_owned));
        let plain = plain.and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
        if plain.as_deref() == Some(b"client%3A1:marker%2Bsecret%2F%25%3A") && !fields.contains_key("client_secret") {
            json(r#"{"access_token":"t","expires_in":60}"#)
        } else {
            (StatusCode::UNAUTHORIZED, json(r#"{"error":"invalid_client"}"#)).into_response()
        }
    })
    .await;
    let clock = HandClock::at(0);
    let tokens = tokens(&clock);
    let settings = settings(&url);
    assert_eq!(tokens.learned_basic(&settings).await, None);
    assert!(tokens.current(&settings).await.is_ok());
    assert_eq!((count.load(Order::SeqCst), tokens.learned_basic(&settings).await), (2, Some(true)));
    clock.0.store(60_000, Order::SeqCst);
    assert!(tokens.current(&settings).await.is_ok());
    assert_eq!(count.load(Order::SeqCst), 3, "the right way at once");
}

#[tokio::test]
async fn wrong_credentials_are_tried_both_ways_and_named() {
    let (url, count) = endpoint(|_, _, _| {
        (StatusCode::UNAUTHORIZED, json(r#"{"error":"invalid_client","error_description":"marker-echo"}"#)).into_response()
    })
    .await;
    let error = tokens(&HandClock::at(0)).current(&settings(&url)).await.unwrap_err();
    assert_eq!((error.class, error.error, count.load(Order::SeqCst)), (Class::AuthToken, Some("invalid_client"), 2));
    assert!(!format!("{error:?}").contains("marker"));
}

#[tokio::test]
async fn an_end_is_believed_only_so_far() {
    for (expires_in, life_ms) in [
        ("1800000", LONG_MS),
        ("9e30", LONG_MS),
        ("120", 120_000),
        ("\"90\"", 90_000),
        ("null", SHORT_MS),
        ("-5", SHORT_MS),
        ("0", SHORT_MS),
    ] {
        let body = format!(r#"{{"access_token":"t","expires_in":{expires_in}}}"#);
        let (url, _) = endpoint(move |_, _, _| json(&body)).await;
        let token = tokens(&HandClock::at(1000)).current(&settings(&url)).await.unwrap();
        assert_eq!(token.expires_at, Timestamp(1000 + life_ms), "{expires_in}");
    }
}

#[tokio::test]
async fn other_answers_have_their_class() {
    for (status, body, want) in [
        (200, "{}", Class::BadResponse),
        (200, "<html>", Class::BadResponse),
        (200, r#"{"access_token":"a b"}"#, Class::BadResponse),
        (200, r#"{"access_token":"t","token_type":"mac"}"#, Class::BadResponse),
        (302, "", Class::Redirect),
        (403, "", Class::AuthToken),
        (404, "<html>", Class::AuthToken),
        (429, "", Class::RateLimited),
        (500, "", Class::Unavailable),
        (503, r#"{"error":"temporarily_unavailable"}"#, Class::Unavailable),
        (400, r#"{"error":"unauthorized_client"}"#, Class::AuthToken),
    ] {
        let (url, _) = endpoint(move |_, _, _| (StatusCode::from_u16(status).unwrap(), [("retry-after", "3")], body).into_response()).await;
        let error = tokens(&HandClock::at(0)).current(&settings(&url)).await.unwrap_err();
        assert_eq!((error.class, error.retry_after_ms), (want, Some(3000)), "{status} {body}");
    }
}

#[tokio::test]
async fn a_token_endpoint_that_is_down_for_a_moment_does_not_stop_a_token_that_still_holds() {
    let (url, count) =
        endpoint(|n, _, _| if n == 0 { json(r#"{"access_token":"t","expires_in":100}"#) } else { StatusCode::BAD_GATEWAY.into_response() })
            .await;
    let clock = HandClock::at(0);
    let tokens = tokens(&clock);
    let settings = settings(&url);
    tokens.current(&settings).await.unwrap();
    clock.0.store(91_000, Order::SeqCst);
    for _ in 0..3 {
        assert_eq!(tokens.current(&settings).await.unwrap().secret.expose_secret(), "t");
    }
    assert_eq!(count.load(Order::SeqCst), 2, "and is not asked with every call");
    clock.0.store(100_000, Order::SeqCst);
    assert_eq!(tokens.current(&settings).await.unwrap_err().class, Class::Unavailable);
}

#[tokio::test]
async fn a_token_url_that_the_guard_refuses_is_not_asked() {
    let error = tokens(&HandClock::at(0)).current(&settings("http://169.254.169.254/token")).await.unwrap_err();
    assert_eq!(error.class, Class::AddressRefused);
}

#[test]
fn every_setting_counts_and_debug_shows_no_secret() {
    type Change = fn(&mut String, &mut SecretString, &mut String, &mut Option<String>);
    let key = |change: Change| {
        let AuthConfig::OAuth2 { mut client_id, mut client_secret, mut token_url, mut scope } = oauth2("https://h/t") else {
            unreachable!()
        };
        change(&mut client_id, &mut client_secret, &mut token_url, &mut scope);
        TokenSettings::new(&AuthConfig::OAuth2 { client_id, client_secret, token_url, scope }, None, 1).unwrap().key
    };
    let keys = [
        key(|_, _, _, _| {}),
        key(|id, _, _, _| id.push('x')),
        key(|_, secret, _, _| *secret = "other".into()),
        key(|_, _, url, _| url.push('x')),
        key(|_, _, _, scope| *scope = None),
        key(|_, _, _, scope| *scope = Some(String::new())),
    ];
    let different: std::collections::HashSet<_> = keys.iter().collect();
    assert_eq!(different.len(), keys.len());
    let token = Token {
        secret: "marker".into(),
        expires_at: Timestamp(0),
        granted_scope: None,
        expiry_known: true,
        server_date: None,
        renew_at: Timestamp(0),
        number: 0,
    };
    assert!(!format!("{token:?} {:?}", settings("https://h/t")).contains("marker"));
}
