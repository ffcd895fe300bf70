//! A bearer token: without our key nothing is let in; with it, whoever is let in is whom the claims name, and all else is refused
//! with 401 or 403.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a panic is what a fuzzer looks for")]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::executor::block_on;
use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::fuzz_target;
use sha2::Sha256;
use std::sync::LazyLock;
use web::TokenVerifier;

const SECRET: &str = "a secret that the fuzzer does not look at";
static VERIFIER: LazyLock<TokenVerifier> = LazyLock::new(|| TokenVerifier::hs256(&SECRET.to_owned().into()).unwrap());

fuzz_target!(|bytes: &[u8]| {
    if let Ok(token) = std::str::from_utf8(bytes) {
        assert_eq!(block_on(VERIFIER.verify(token)).unwrap_err().status(), 401);
    }
    let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    let signed = format!("{head}.{}", URL_SAFE_NO_PAD.encode(bytes));
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()));
    match block_on(VERIFIER.verify(&token)) {
        Ok(who) => {
            // A claim that nobody asks for may hold what no text can.
            let Ok(claims) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
            assert_eq!(claims["tenantId"], who.tenant.as_str());
            assert_eq!(claims["role"], who.role.word());
            assert_eq!(claims["sub"], who.sub.as_str());
        }
        Err(problem) => assert!([401, 403].contains(&problem.status().as_u16())),
    }
});
