//! Header values and links: what is read of them can be written again and reads the same; a link that the guard lets pass leads to
//! no address of this machine or its network.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a panic is what a fuzzer looks for")]

use ehr::guard::{AllowLocal, Guard, Kind, kind, same_origin};
use fhir::search::{etag, http_date, if_match, location, retry_after_ms};
use libfuzzer_sys::fuzz_target;
use model::Timestamp;
use url::{Host, Url};

fuzz_target!(|text: &str| {
    if let Some(version) = etag(text) {
        assert_eq!(etag(&if_match(&version).unwrap()).as_deref(), Some(version.as_str()));
    }
    if let Some(found) = location(text) {
        let written = format!("{}/{}", found.resource_type, found.id);
        let again = location(&written).unwrap();
        assert_eq!((again.resource_type, again.id), (found.resource_type, found.id));
    }
    let now = Timestamp(1_700_000_000_000);
    if let Some(wait) = retry_after_ms(text, now) {
        assert!(wait >= 0);
        assert_eq!(retry_after_ms(&format!(" {text} "), now), Some(wait));
    }
    if let Some(at) = http_date(text) {
        assert!(at.0 >= 0);
    }
    for guard in [Guard::new(AllowLocal::No), Guard::new(AllowLocal::All)] {
        link(&guard, text);
    }
});

fn link(guard: &Guard, text: &str) {
    let base = Url::parse("https://ehr.example.com/fhir/Observation?_count=5").unwrap();
    let joined = base.join(text).ok();
    for url in [guard.check_url(text).ok(), joined.filter(|url| guard.check_url(url.as_str()).is_ok())].into_iter().flatten() {
        let again = guard.check_url(url.as_str());
        assert!(again.as_ref() == Ok(&url) || url.as_str().len() > 8_000, "{url}: {again:?}");
        assert!(url.username().is_empty() && url.password().is_none());
        assert!(same_origin(&url, &url));
        let found = match url.host().unwrap() {
            Host::Ipv4(ip) => kind(ip.into()),
            Host::Ipv6(ip) => kind(ip.into()),
            Host::Domain(_) => continue,
        };
        assert!(found != Kind::Never);
        assert!(found == Kind::Public || *guard == Guard::new(AllowLocal::All));
    }
}
