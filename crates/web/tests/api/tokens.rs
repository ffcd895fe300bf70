//! Tokens that somebody made up: every one of them gets the contract's 401, and none learns why from more than its sentence.

use crate::house::{SECRET, houses};
use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use http::Method;
use sha2::Sha256;

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
const MARKER: &str = "marker-7f3a";

fn signed(header: &str, claims: &str, secret: &[u8]) -> String {
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret).unwrap();
    mac.update(text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// Good claims with these members in place of theirs; an empty value takes one out.
fn claims(changes: &[(&str, &str)]) -> String {
    let good = [("sub", "\"u-1\""), ("tenantId", "\"a\""), ("role", "\"ADMIN\""), ("exp", "9999999999")];
    let kept = good.iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    let members: Vec<String> =
        kept.chain(changes).filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

/// Signed with our own secret, by these claims.
fn with(changes: &[(&str, &str)]) -> String {
    signed(HS256, &claims(changes), SECRET.as_bytes())
}

/// Our claims under this header, signed with our own secret.
fn under(header: &str) -> String {
    signed(header, &claims(&[]), SECRET.as_bytes())
}

/// Our claims under this header, signed with a secret of theirs.
fn theirs(header: &str) -> String {
    signed(header, &claims(&[]), b"an attacker's own secret of many bytes")
}

fn bad() -> Vec<(&'static str, String)> {
    let good = with(&[]);
    let parts: Vec<&str> = good.split('.').collect();
    let none = |alg: &str| format!("{}.{}.", URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{alg}"}}"#)), parts[1]);
    let long = "x".repeat(20_000);
    vec![
        ("no parts", MARKER.to_owned()),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("four parts", format!("{good}.{}", parts[2])),
        ("five parts, as if encrypted", format!("{good}.{}.{}", parts[1], parts[2])),
        ("only dots", "..".to_owned()),
        ("two tokens", format!("{good} {good}")),
        ("alg none", none("none")),
        ("alg None", none("NoNe")),
        ("alg HS256 and no signature", none("HS256")),
        ("alg empty", none("")),
        ("alg hs256", under(r#"{"alg":"hs256"}"#)),
        ("alg a number", under(r#"{"alg":256}"#)),
        ("no alg", under("{}")),
        ("alg twice", under(r#"{"alg":"HS256","alg":"none"}"#)),
        ("another HMAC", under(r#"{"alg":"HS512"}"#)),
        ("RS256 by our secret", under(r#"{"alg":"RS256"}"#)),
        ("ES256 by our secret", under(r#"{"alg":"ES256"}"#)),
        ("EdDSA by our secret", under(r#"{"alg":"EdDSA"}"#)),
        ("a header that is no object", under("[]")),
        ("a header that is no JSON", under(MARKER)),
        ("another secret", theirs(HS256)),
        ("an empty secret", signed(HS256, &claims(&[]), b"")),
        ("our secret in Base64", signed(HS256, &claims(&[]), STANDARD.encode(SECRET).as_bytes())),
        ("their key by jku", theirs(r#"{"alg":"HS256","jku":"https://127.0.0.1:1/keys"}"#)),
        ("their key by x5u", theirs(r#"{"alg":"HS256","x5u":"https://127.0.0.1:1/cert"}"#)),
        ("their key in the header", theirs(r#"{"alg":"HS256","jwk":{"kty":"oct","k":"YW4gYXR0YWNrZXI"}}"#)),
        ("a kid that is a path", theirs(r#"{"alg":"HS256","kid":"../../../../dev/null"}"#)),
        ("a kid that is SQL", theirs(r#"{"alg":"HS256","kid":"' UNION SELECT 'x'; --"}"#)),
        ("the empty file of a kid", signed(r#"{"alg":"HS256","kid":"/dev/null"}"#, &claims(&[]), b"\0")),
        ("a critical extension", under(r#"{"alg":"HS256","crit":["urn:x"],"urn:x":1}"#)),
        ("an unencoded payload", under(r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#)),
        (
            "another's claims under a good signature",
            format!("{}.{}.{}", parts[0], URL_SAFE_NO_PAD.encode(claims(&[("sub", "\"x\"")])), parts[2]),
        ),
        ("a signature cut short", good[..good.len() - 4].to_owned()),
        ("a signature padded", format!("{good}=")),
        ("a signature in the other alphabet", format!("{}.{}.++//", parts[0], parts[1])),
        ("a payload that is no Base64", format!("{}.%%%.{}", parts[0], parts[2])),
        ("claims that are no object", signed(HS256, "[]", SECRET.as_bytes())),
        ("claims that are no JSON", signed(HS256, MARKER, SECRET.as_bytes())),
        ("claims in too many lists", signed(HS256, &"[".repeat(5000), SECRET.as_bytes())),
        ("claims that are no UTF-8", signed(HS256, &claims(&[]).replace("u-1", "\u{fffd}"), b"x")),
        ("expired", with(&[("exp", "1700000000")])),
        ("expired for ever", with(&[("exp", "-1e300")])),
        ("not yet valid", with(&[("nbf", "9999999999")])),
        ("a nbf that is a text", with(&[("nbf", "\"0\"")])),
        ("no exp", with(&[("exp", "")])),
        ("exp null", with(&[("exp", "null")])),
        ("exp a text", with(&[("exp", "\"9999999999\"")])),
        ("exp beyond all numbers", with(&[("exp", "1e999999")])),
        ("no sub", with(&[("sub", "")])),
        ("sub a number", with(&[("sub", "7")])),
        ("sub blank", with(&[("sub", "\" \"")])),
        ("sub of two lines", with(&[("sub", r#""a\nb""#)])),
        ("no tenant", with(&[("tenantId", "")])),
        ("tenant a list", with(&[("tenantId", r#"["a"]"#)])),
        ("tenant empty", with(&[("tenantId", "\"\"")])),
        ("tenant a path", with(&[("tenantId", r#""a/../b\u0000""#)])),
        ("tenant in another script", with(&[("tenantId", "\"а\"")])),
        ("tenant by another name", with(&[("tenantId", ""), ("tenant_id", "\"a\"")])),
        ("no role", with(&[("role", "")])),
        ("role a list", with(&[("role", r#"["ADMIN"]"#)])),
        ("tenant twice", signed(HS256, &claims(&[]).replacen('{', r#"{"tenantId":"b","#, 1), SECRET.as_bytes())),
        ("role twice", signed(HS256, &claims(&[]).replacen('{', r#"{"role":"NURSE","#, 1), SECRET.as_bytes())),
        ("a huge claim", with(&[("x", &format!("\"{long}\""))])),
        ("a huge header", under(&format!(r#"{{"alg":"HS256","x":"{long}"}}"#))),
        ("unicode", format!("{}é.{}.{}", parts[0], parts[1], parts[2])),
    ]
}

#[tokio::test]
async fn every_bad_token_gets_the_same_401_and_learns_nothing() {
    let bad = bad();
    assert!(bad.len() >= 60, "{}", bad.len());
    for house in houses().await {
        let ask = async |token: &str| {
            house.send(Method::GET, "/api/v1/patients", &[("authorization", &format!("Bearer {token}"))], Body::empty()).await
        };
        ask(&with(&[])).await.is(200);
        for (what, token) in &bad {
            let answer = ask(token).await;
            assert_eq!(answer.status, 401, "{what}: {}", answer.text);
            assert_eq!(answer.header("www-authenticate"), r#"Bearer realm="ponte", error="invalid_token""#, "{what}");
            let problem = answer.problem(401, "unauthorized");
            let members: Vec<&str> = problem.as_object().unwrap().keys().map(String::as_str).collect();
            assert_eq!(members, ["type", "title", "status", "code", "detail", "requestId"], "{what}");
            let said = problem.to_string();
            for leak in [MARKER, SECRET, "serde", "column", "InvalidSignature", "jsonwebtoken", "base64", "u-1"] {
                assert!(!said.contains(leak), "{what}: {said}");
            }
        }
        // Who is known but may do nothing here is told so: a role's case counts.
        for role in ["admin", "Admin", "ADMIN ", "PATIENT", "\u{ff21}DMIN"] {
            ask(&with(&[("role", &format!("\"{role}\""))])).await.problem(403, "forbidden");
        }
    }
}
