//! The write probe: one test Observation on a test patient, to see which means of writing are safe here.
//!
//! `PUT` of our own id and a reading back, a conditional create sent twice, a stale `If-Match`, then `entered-in-error`;
//! the report says what was left behind.

use super::{Check, Draft, Sentence, StepName, Verdict, why};
use crate::client::{Ehr, Put};
use crate::reply::Outcome;
use fhir::search::Query;
use model::{Class, EhrId, Proof, WhoseMove};
use serde_json::{Value, json};

/// The system of the probe's identifiers.
const SYSTEM: &str = "urn:ponte:check";

/// A resource that the probe made.
struct Made {
    id: EhrId,
    value: String,
    version: Option<String>,
}

impl Check<'_> {
    pub(super) async fn write_step(&mut self) {
        let draft = Draft::new(StepName::WriteProbe, self.clock.now());
        let patient = match (self.input.write_probe, self.input.test_patient_id.clone()) {
            (false, _) => {
                let sentence =
                    Sentence::new("Não pedido: nada é gravado no EHR sem pedido.", "Not asked for: nothing is written at the EHR unasked.");
                self.finish(draft.verdict(Verdict::Skipped, sentence));
                return;
            }
            (true, None) => {
                let sentence = Sentence::new(
                    "A prova de gravação precisa de um paciente de teste (testPatientId).",
                    "The write probe needs a test patient (testPatientId).",
                );
                self.finish(draft.verdict(Verdict::Failed, sentence).whose(WhoseMove::You));
                return;
            }
            (true, Some(patient)) => patient,
        };
        let Some(ehr) = self.ehr() else { return };
        let mut made: Vec<Made> = Vec::new();
        let result = self.probe(&ehr, &patient, &mut made).await;
        let mut left = Vec::new();
        let mut all_withdrawn = true;
        for resource in &made {
            let withdrawn = self.withdraw(&ehr, &patient, resource).await;
            all_withdrawn &= withdrawn;
            left.push(
                json!({"resource": format!("Observation/{}", resource.id), "status": if withdrawn { "entered-in-error" } else { "final" }}),
            );
        }
        let mut draft = draft
            .detail("leftBehind", Value::from(left))
            .detail("updateCreate", self.plan.observation_update_create.word())
            .detail("conditionalCreate", self.plan.conditional_create.word())
            .detail("ifMatch", self.plan.if_match.word())
            .detail("identifierSearch", self.plan.identifier_search.word());
        draft = match result {
            Err(outcome) => draft.failed(&outcome, why(&outcome)),
            Ok(()) => self.judge(draft),
        };
        if !all_withdrawn {
            let warning = Sentence::new("Um registro de teste ficou sem ser anulado.", "A test record could not be withdrawn.");
            draft = draft.warn(&warning, WhoseMove::Hospital);
        }
        self.finish(draft);
    }

    fn judge(&self, draft: Draft) -> Draft {
        let left = Sentence::new("Os registros de teste ficam como entered-in-error.", "The test records stay as entered-in-error.");
        let safe = match (self.plan.observation_update_create, self.plan.conditional_create) {
            (Proof::Proven, _) => Sentence::new("A gravação é segura: o EHR aceita nosso id.", "Writing is safe: the EHR takes our id."),
            (_, Proof::Proven) => Sentence::new(
                "A gravação funciona por criação condicional, que não é uma trava.",
                "Writing works by conditional create, which is no lock.",
            ),
            _ => Sentence::new(
                "O EHR não oferece criação segura; depois de uma resposta perdida, Ponte espera e procura antes de reenviar.",
                "The EHR offers no safe create; after a lost answer Ponte waits and searches before it sends again.",
            ),
        };
        let both = Sentence::new(format!("{} {}", safe.pt_br, left.pt_br), format!("{} {}", safe.en, left.en));
        let mut draft = draft.verdict(Verdict::Ok, both);
        if self.plan.observation_update_create != Proof::Proven && self.plan.conditional_create != Proof::Proven {
            draft = draft.verdict(Verdict::Warn, draft_sentence(&safe, &left)).whose(WhoseMove::Ponte);
        }
        if self.plan.if_match == Proof::Refused {
            let warning = Sentence::new(
                "Ele aceita um If-Match vencido: uma correção pode sobrescrever outra.",
                "It takes a stale If-Match: one correction may overwrite another.",
            );
            draft = draft.warn(&warning, WhoseMove::Hospital);
        }
        draft
    }

    /// Each means in its turn; an outcome that says nothing of the means ends the probe.
    async fn probe(&mut self, ehr: &Ehr, patient: &EhrId, made: &mut Vec<Made>) -> Result<(), Box<Outcome>> {
        self.own_id(ehr, patient, made).await?;
        self.twice(ehr, patient, made).await?;
        if made.is_empty() {
            let value = self.value();
            let answer = ehr.create("Observation", self.observation(patient, &value, None, "final"), None, &self.call()).await;
            keep(made, &answer.outcome, &value);
            if made.is_empty() {
                return Err(Box::new(answer.outcome));
            }
        }
        self.stale(ehr, patient, made).await;
        Ok(())
    }

    async fn own_id(&mut self, ehr: &Ehr, patient: &EhrId, made: &mut Vec<Made>) -> Result<(), Box<Outcome>> {
        let value = self.value();
        let Ok(id) = EhrId::new(value.as_str()) else { return Ok(()) };
        let body = self.observation(patient, &value, Some(&id), "final");
        let answer = ehr.put("Observation", &id, body, Put::OwnId, &self.call()).await;
        keep(made, &answer.outcome, &value);
        match answer.outcome.class {
            Class::Applied => {
                let read = ehr.read("Observation", &id, &self.call()).await.outcome;
                let ours = read.ehr_id.as_ref() == Some(&id) && carries(read.resource.as_deref(), &value);
                self.plan.observation_update_create = if ours { Proof::Proven } else { Proof::Refused };
                // Nobody else has this id, so it was created, whatever the status says.
                self.plan.put_tells_created = if answer.outcome.status == Some(200) { Proof::Refused } else { Proof::Proven };
                Ok(())
            }
            Class::MeansRefused => {
                self.plan.observation_update_create = Proof::Refused;
                Ok(())
            }
            _ => {
                // No answer: it may have been applied, so it is withdrawn with the rest.
                if answer.outcome.class == Class::Uncertain {
                    made.push(Made { id, value, version: None });
                }
                Err(Box::new(answer.outcome))
            }
        }
    }

    async fn twice(&mut self, ehr: &Ehr, patient: &EhrId, made: &mut Vec<Made>) -> Result<(), Box<Outcome>> {
        let value = self.value();
        let body = self.observation(patient, &value, None, "final");
        let first = ehr.create("Observation", body.clone(), Some((SYSTEM, &value)), &self.call()).await;
        if first.outcome.class == Class::MeansRefused {
            self.plan.conditional_create = Proof::Refused;
            return Ok(());
        }
        if first.outcome.class != Class::Applied {
            // A 200 for an identifier that nobody has: the condition is ignored or matches anything.
            if first.outcome.class == Class::Exists {
                self.plan.conditional_create = Proof::Refused;
                return Ok(());
            }
            return Err(Box::new(first.outcome));
        }
        keep(made, &first.outcome, &value);
        let second = ehr.create("Observation", body, Some((SYSTEM, &value)), &self.call()).await;
        let same = second.outcome.ehr_id.is_none() || second.outcome.ehr_id == first.outcome.ehr_id;
        self.plan.conditional_create = if second.outcome.class == Class::Exists && same { Proof::Proven } else { Proof::Refused };
        if !same {
            keep(made, &second.outcome, &value);
        }
        let query = Query::new().token("identifier", SYSTEM, &value);
        let searched = ehr.search("Observation", &query, &crate::client::Call { after_loss: true, ..self.call() }).await;
        if let Some(found) = searched.content {
            let rows = found.page.entries.iter();
            let ours = rows.filter(|row| carries(row.resource.as_ref().map(|raw| raw.get()), &value)).count();
            if ours == 1 && found.page.entries.len() == 1 && self.plan.identifier_search != Proof::Refused {
                self.plan.identifier_search = Proof::Proven;
            }
            if ours > 1 {
                self.plan.conditional_create = Proof::Refused;
            }
        }
        Ok(())
    }

    async fn stale(&mut self, ehr: &Ehr, patient: &EhrId, made: &mut [Made]) {
        let Some(Made { id, value, version: Some(first) }) = made.first() else { return };
        let body = self.observation(patient, value, Some(id), "amended");
        let fresh = ehr.put("Observation", id, body.clone(), Put::Update { version: Some(first) }, &self.call()).await.outcome;
        let moved = fresh.class == Class::Applied && fresh.ehr_version.as_ref().is_some_and(|version| version != first);
        if !moved {
            return;
        }
        let stale = ehr.put("Observation", id, body, Put::Update { version: Some(first) }, &self.call()).await.outcome;
        self.plan.if_match = match stale.class {
            Class::Conflict => Proof::Proven,
            Class::Applied => Proof::Refused,
            _ => self.plan.if_match,
        };
    }

    /// Reads the version that is there now, and marks the record as an error.
    async fn withdraw(&self, ehr: &Ehr, patient: &EhrId, made: &Made) -> bool {
        let read = ehr.read("Observation", &made.id, &self.call()).await.outcome;
        if read.class == Class::Gone {
            return true;
        }
        let body = self.observation(patient, &made.value, Some(&made.id), "entered-in-error");
        let version = read.ehr_version.as_deref();
        ehr.put("Observation", &made.id, body, Put::Update { version }, &self.call()).await.outcome.ok()
    }

    fn value(&self) -> String {
        self.rng.uuid_v7(self.clock.now()).to_string()
    }

    /// A record that says of itself that it is a test (`HTEST`, HL7 v3 ActReason).
    fn observation(&self, patient: &EhrId, value: &str, id: Option<&EhrId>, status: &str) -> String {
        let mut body = json!({
            "resourceType": "Observation",
            "meta": {"tag": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST", "display": "test health data"}]},
            "identifier": [{"system": SYSTEM, "value": value}],
            "status": status,
            "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "survey"}]}],
            "code": {"coding": [{"system": SYSTEM, "code": "connection-test"}], "text": "Ponte connection test"},
            "subject": {"reference": format!("Patient/{patient}")},
            "effectiveDateTime": self.clock.now().rfc3339(),
            "valueString": "Ponte connection test, no clinical meaning",
        });
        if let (Some(id), Some(object)) = (id, body.as_object_mut()) {
            object.insert("id".to_owned(), Value::from(id.as_str()));
        }
        body.to_string()
    }
}

fn draft_sentence(safe: &Sentence, left: &Sentence) -> Sentence {
    Sentence::new(format!("{} {}", safe.pt_br, left.pt_br), format!("{} {}", safe.en, left.en))
}

fn keep(made: &mut Vec<Made>, outcome: &Outcome, value: &str) {
    if let (Class::Applied, Some(id)) = (outcome.class, outcome.ehr_id.clone()) {
        made.push(Made { id, value: value.to_owned(), version: outcome.ehr_version.clone() });
    }
}

fn carries(resource: Option<&str>, value: &str) -> bool {
    let parsed: Option<Value> = resource.and_then(|text| serde_json::from_str(text).ok());
    let identifiers = parsed.as_ref().and_then(|json| json.get("identifier")).and_then(Value::as_array);
    identifiers.is_some_and(|all| {
        all.iter()
            .any(|one| one.get("system").and_then(Value::as_str) == Some(SYSTEM) && one.get("value").and_then(Value::as_str) == Some(value))
    })
}
