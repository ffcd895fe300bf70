//! Withdrawing what a probe wrote: `entered-in-error`, never a delete (PROTOCOL §6, 3).

use super::search::Pauses;
use super::{Bench, Written, record, record::CODE, record::SYSTEM};
use crate::client::{Call, Put};
use crate::reply::Outcome;
use fhir::search::Query;
use model::{Class, EhrId, Seen, What};
use serde_json::{Value, json};

/// Somebody may write between our read and our `PUT`: so often it is read again.
const TRIES: usize = 3;

impl Bench<'_> {
    /// What an earlier probe left, one that was killed for instance. The EHR has to let us look, or nothing is begun.
    pub(super) async fn withdraw_earlier(&mut self) -> Result<(), Box<Outcome>> {
        let found = self.of_the_patient().await?;
        for (id, value) in found {
            let value = value.unwrap_or_else(|| self.rng.uuid_v7(self.clock.now()).to_string());
            let _ = self.withdraw_one(&id, &value).await;
        }
        Ok(())
    }

    /// All that this one wrote; what became of each.
    pub(super) async fn withdraw(&mut self) -> Vec<Value> {
        let own_ids = self.seen(What::OwnId) != Seen::Refused;
        let mut left = Vec::new();
        for Written { value, mut ids, perhaps } in std::mem::take(&mut self.written) {
            if perhaps {
                let own = EhrId::new(value.as_str()).ok().filter(|_| own_ids);
                let mut pauses = Pauses::new(self.longest_wait_ms);
                while ids.is_empty() {
                    ids.extend(self.is_there(&value, None).await);
                    if ids.is_empty()
                        && let Some(own) = &own
                    {
                        ids.extend(self.is_there(&value, Some(own)).await);
                    }
                    if ids.is_empty() && !pauses.wait().await {
                        break;
                    }
                }
                if ids.is_empty() {
                    left.push(json!({"identifier": format!("{SYSTEM}|{value}"), "status": "unknown"}));
                }
            }
            for id in ids {
                let status = if self.withdraw_one(&id, &value).await { "entered-in-error" } else { "final" };
                left.push(json!({"resource": format!("Observation/{id}"), "status": status}));
            }
        }
        // What no answer named: doubles, and creates whose identifier the EHR has changed or dropped.
        for (id, value) in self.of_the_patient().await.unwrap_or_default() {
            let kept = value.is_some();
            let value = value.unwrap_or_else(|| self.rng.uuid_v7(self.clock.now()).to_string());
            let unknown = format!("{SYSTEM}|{value}");
            let is_it = |one: &Value| {
                let named = one.get("identifier").and_then(Value::as_str);
                named.is_some_and(|named| !kept || named.eq_ignore_ascii_case(&unknown))
            };
            if let Some(at) = left.iter().position(is_it) {
                left.remove(at);
            }
            let status = if self.withdraw_one(&id, &value).await { "entered-in-error" } else { "final" };
            left.retain(|one| one.get("resource").and_then(Value::as_str) != Some(&format!("Observation/{id}")));
            left.push(json!({"resource": format!("Observation/{id}"), "status": status}));
        }
        left
    }

    /// Reads what is there now, and marks it as an error with `If-Match`.
    async fn withdraw_one(&self, id: &EhrId, value: &str) -> bool {
        for _ in 0..TRIES {
            let read = self.ehr.read("Observation", id, &self.call()).await.outcome;
            if read.class == Class::Gone {
                return true;
            }
            // Never touch what the probe did not make, nor what it cannot see.
            let Some(look) = read.resource.as_deref().and_then(|raw| record::look(raw, value)) else { continue };
            if look.withdrawn {
                return true;
            }
            if !look.ours && !look.carries {
                return false;
            }
            let body = self.record(value, look.mark.unwrap_or(1) + 1, Some(id), "entered-in-error");
            let update = Put::Update { version: look.version.as_deref() };
            let put = self.ehr.put("Observation", id, body, update, &self.call()).await.outcome;
            if put.ok() {
                return true;
            }
        }
        false
    }

    /// Resources of any probe on this patient that are not withdrawn, with the value of their identifier where it was kept.
    async fn of_the_patient(&self) -> Result<Vec<(EhrId, Option<String>)>, Box<Outcome>> {
        let query = Query::new()
            .with("patient", self.patient.as_str())
            .token("code", SYSTEM, CODE)
            .with("_count", (100 + self.rng.next_u64() % 50).to_string());
        let answer = self.ehr.search("Observation", &query, &Call { after_loss: true, ..self.call() }).await;
        let Some(found) = answer.content else { return Err(Box::new(answer.outcome)) };
        let looks = found.page.entries.iter().filter_map(|row| record::look(row.resource.as_ref()?.get(), ""));
        let open = looks.filter(|look| look.ours && !look.withdrawn);
        Ok(open.filter_map(|look| Some((look.id?, look.value))).collect())
    }
}
