//! Who else uses the EHR: another system with orders of its own, and the hospital's people.
//!
//! Some faults come to light only through them: a create raced or answered with 303, a cached search, a deleted row that
//! reads as 404, a version that is no longer the one we know.

use processes::judge::SYSTEM;
use processes::load::Load;
use reqwest::{Client, Method, RequestBuilder};
use sandbox::{Fault, Sandbox};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What another system meets where Ponte's own way of asking keeps out of it: one create at a time for an identifier, no
/// cached answer after a loss, no create of what is known to be there, smaller batches once refused, no old link.
pub const OF_A_STRANGER: &[Fault] = &[
    Fault::ConditionalCreateRace,
    Fault::SearchCache,
    Fault::Redirect303,
    Fault::DeleteAs404,
    Fault::TooManyEntries413,
    Fault::LinksExpire,
];

/// Another system, over the same API, in no way careful.
pub struct Stranger {
    client: Client,
    ehr: String,
    orders: u64,
}

impl Stranger {
    /// At the EHR whose origin is `ehr`.
    pub fn at(ehr: &str) -> Self {
        Self { client: Client::new(), ehr: ehr.to_owned(), orders: 0 }
    }

    /// One order's life. What the EHR's faults break off stays broken off.
    pub async fn round(&mut self) {
        let Some(token) = self.token().await else { return };
        let call = |method, path: &str| {
            self.client
                .request(method, format!("{}/fhir{path}", self.ehr))
                .bearer_auth(&token)
                .header("Content-Type", "application/fhir+json")
        };
        self.orders += 1;
        let number = format!("order-{}", self.orders);
        let search = format!("/Observation?identifier=urn:lab:order|{number}");
        let body = json!({"resourceType": "Observation", "status": "final", "code": {"text": "Hemograma"},
            "identifier": [{"system": "urn:lab:order", "value": number}]})
        .to_string();
        let create = || call(Method::POST, "/Observation").body(body.clone());
        let conditional = || create().header("If-None-Exist", format!("identifier=urn:lab:order|{number}"));
        answer(call(Method::GET, &search)).await;
        let (one, other) = tokio::join!(answer(conditional()), answer(conditional()));
        answer(create()).await;
        answer(call(Method::GET, &search)).await;
        let asked = json!({"request": {"method": "GET", "url": search.trim_start_matches('/')}});
        let batch = json!({"resourceType": "Bundle", "type": "batch", "entry": vec![asked; 4]}).to_string();
        answer(call(Method::POST, "").body(batch)).await;
        let page = answer(call(Method::GET, "/Observation?_count=1")).await.unwrap_or_default();
        let links = page["link"].as_array().into_iter().flatten();
        if let Some(next) = links.filter(|link| link["relation"] == "next").find_map(|link| link["url"].as_str()) {
            answer(self.client.get(next).bearer_auth(&token)).await;
        }
        // An EHR that ignores conditions answers with anybody's row, ours too: even the careless delete only what is theirs.
        let theirs = |order: &Value| order["identifier"][0]["value"] == number.as_str();
        if let Some(id) = one.filter(theirs).or(other.filter(theirs)).as_ref().and_then(|order| order["id"].as_str()) {
            let place = format!("/Observation/{id}");
            answer(call(Method::DELETE, &place)).await;
            answer(call(Method::GET, &place)).await;
        }
    }

    async fn token(&self) -> Option<String> {
        let form = [("grant_type", "client_credentials"), ("scope", "system/*.cruds")];
        let asked = self.client.post(format!("{}/oauth/token", self.ehr)).basic_auth("ponte", Some("s%2Be%2Fc%25r%3Aet")).form(&form);
        Some(answer(asked).await?["access_token"].as_str()?.to_owned())
    }
}

async fn answer(request: RequestBuilder) -> Option<Value> {
    // What the faults cut, spoil or hold back is no answer.
    request.timeout(std::time::Duration::from_secs(1)).send().await.ok()?.json().await.ok()
}

/// What the hospital's people do with a row of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    /// Saves it as it is: a new version in which nothing is new.
    Resaved,
    /// Writes a value of their own.
    Amended,
    /// Deletes it.
    Deleted,
}

/// The hospital's people.
#[derive(Default)]
pub struct Hospital {
    /// What they did last with which observation, and after how many effects at the EHR.
    pub touched: BTreeMap<String, (Hand, u64)>,
}

impl Hospital {
    /// The hospital's people lay hands on what rests at the EHR; then the platform corrects it.
    pub async fn touch_and_be_corrected(&mut self, hand: Hand, load: &mut Load, sandbox: &Sandbox) {
        let one = load.one();
        let here = load.tenants[one.tenant].get(&format!("/observations/{}", one.id)).await;
        let rests = here["syncedToEHR"] == true && here["delivery"]["state"] == "delivered" && here["status"] == "final";
        // Of a request of ours that the EHR still keeps, whatever is deleted meanwhile rises again, and no client can know it.
        let rests = rests && !sandbox.late_pending_with(&one.id);
        if rests && !self.touched.contains_key(&one.id) && self.touch(sandbox, &one.id, hand) {
            load.change_one(Method::PATCH, &one).await;
        }
    }

    /// Lays hands on the row of an observation that rests at the EHR; false if it is not there.
    pub fn touch(&mut self, sandbox: &Sandbox, observation: &str, hand: Hand) -> bool {
        let ledger = sandbox.ledger();
        let [held] = ledger.by_identifier(SYSTEM, observation)[..] else { return false };
        let Some(text) = sandbox.resource("Observation", &held.id) else { return false };
        match hand {
            Hand::Deleted => assert!(sandbox.delete("Observation", &held.id)),
            Hand::Resaved => drop(sandbox.put_resource(&text).unwrap()),
            Hand::Amended => {
                let mut row: Value = serde_json::from_str(&text).unwrap();
                row["note"] = json!([{"text": "Corrigido na enfermaria."}]);
                sandbox.put_resource(&row.to_string()).unwrap();
            }
        }
        self.touched.insert(observation.to_owned(), (hand, sandbox.ledger_since(u64::MAX).seq));
        true
    }
}
