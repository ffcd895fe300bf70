//! Tokens that must be refused, every one of them; and those that must not.

use super::*;
use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn mac(secret: &str, text: &str) -> String {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

fn jwt(header: &str, claims: &str, secret: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    format!("{signed}.{}", mac(secret, &signed))
}

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn claims(change: &str) -> String {
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let mut claims: serde_json::Map<String, Value> =
        serde_json::from_str(&format!(r#"{{"sub":"u-1","tenantId":"t-1","role":"NURSE","exp":{}}}"#, now + 60)).unwrap();
    for (key, value) in serde_json::from_str::<serde_json::Map<String, Value>>(&change.replace("NOW", &now.to_string())).unwrap() {
        if value == Value::String("absent".into()) {
            claims.remove(&key);
        } else {
            claims.insert(key, value);
        }
    }
    Value::Object(claims).to_string()
}

async fn status(token: &str) -> u16 {
    let verifier = TokenVerifier::hs256(&SECRET.into()).unwrap();
    verifier.verify(token).await.map_or_else(|problem| problem.status().as_u16(), |_| 200)
}

#[tokio::test]
async fn a_good_token_says_who_calls() {
    let verifier = TokenVerifier::hs256(&SECRET.into()).unwrap();
    let tenant = TenantId::new("t-1").unwrap();
    for role in Role::ALL {
        let token = sign_token(&SECRET.into(), &tenant, role, "u-1", Duration::from_secs(60)).unwrap();
        assert_eq!(verifier.verify(&token).await.unwrap(), Principal { tenant: tenant.clone(), role, sub: "u-1".to_owned() });
    }
    // Times with a fraction are times too (RFC 7519 §2), and a claim that we do not know is none of our business.
    assert_eq!(status(&jwt(HS256, &claims(r#"{"exp":9999999999.5,"nbf":1.5,"aud":"x","iss":"y","scope":"z"}"#), SECRET)).await, 200);
}

#[tokio::test]
async fn forty_bad_tokens_are_all_refused() {
    let good = jwt(HS256, &claims("{}"), SECRET);
    assert_eq!(status(&good).await, 200);
    let parts: Vec<&str> = good.split('.').collect();
    let other = jwt(HS256, &claims(r#"{"role":"ADMIN"}"#), SECRET);
    let swapped = format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2]);
    let unsigned = |alg: &str| format!("{}.{}.", URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{alg}"}}"#)), parts[1]);
    let padded = format!("{}.{}.{}", URL_SAFE.encode(HS256), URL_SAFE.encode(claims(r#"{"x":"1"}"#)), parts[2]);
    let with = |change: &str| jwt(HS256, &claims(change), SECRET);
    let header = |header: &str| jwt(header, &claims("{}"), SECRET);
    let twice = claims("{}").replacen('{', r#"{"tenantId":"t-2","#, 1);
    let bad = [
        String::new(),
        "abc".to_owned(),
        "a.b".to_owned(),
        "a.b.c".to_owned(),
        "...".to_owned(),
        format!("{good}.x"),
        format!(" {good}"),
        good[..good.len() - 1].to_owned(),
        format!("{good}="),
        padded,
        format!("{}.{}.", parts[0], parts[1]),
        swapped,
        unsigned("none"),
        unsigned("None"),
        unsigned("HS256"),
        header(r#"{"alg":"none"}"#),
        header(r#"{"alg":"HS384"}"#),
        header(r#"{"alg":"HS512"}"#),
        header(r#"{"alg":"RS256"}"#),
        header(r#"{"alg":"ES256"}"#),
        header(r#"{"alg":"HS256","crit":["exp"],"exp":1}"#),
        header(r#"{"typ":"JWT"}"#),
        header("[]"),
        jwt(HS256, &claims("{}"), "another secret of thirty-two bytes"),
        jwt(HS256, &claims("{}"), ""),
        jwt(HS256, "[]", SECRET),
        jwt(HS256, "not json", SECRET),
        jwt(HS256, &twice, SECRET),
        with(r#"{"exp":NOW}"#.replace("NOW", "1").as_str()),
        with(r#"{"exp":"absent"}"#),
        with(r#"{"exp":null}"#),
        with(r#"{"exp":"9999999999"}"#),
        with(r#"{"exp":-1}"#),
        with(r#"{"exp":1e999}"#),
        with(r#"{"nbf":9999999999}"#),
        with(r#"{"sub":"absent"}"#),
        with(r#"{"sub":" "}"#),
        with(r#"{"sub":7}"#),
        with(r#"{"sub":"a\nb"}"#),
        with(r#"{"tenantId":"absent"}"#),
        with(r#"{"tenantId":""}"#),
        with(r#"{"tenantId":"a b"}"#),
        with(r#"{"tenantId":7}"#),
        with(&format!(r#"{{"tenantId":"{}"}}"#, "t".repeat(129))),
        with(r#"{"role":"absent"}"#),
        with(r#"{"role":["ADMIN"]}"#),
        with(&format!(r#"{{"x":"{}"}}"#, "x".repeat(20_000))),
    ];
    assert!(bad.len() >= 40);
    for token in bad {
        assert_eq!(status(&token).await, 401, "{token}");
    }
    for role in ["PATIENT", "admin", ""] {
        assert_eq!(status(&with(&format!(r#"{{"role":"{role}"}}"#))).await, 403, "{role}");
    }
}

#[test]
fn a_short_secret_makes_neither_verifier_nor_token() {
    let short = "x".repeat(31);
    assert!(matches!(TokenVerifier::hs256(&short.clone().into()), Err(TokenError::SecretTooShort)));
    let tenant = TenantId::new("t").unwrap();
    assert_eq!(sign_token(&short.into(), &tenant, Role::Nurse, "u", Duration::from_secs(1)), Err(TokenError::SecretTooShort));
}
