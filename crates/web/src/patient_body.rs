//! A patient's body: read over what is known already, with every field that will not do named.

use crate::fields::{Fields, Given};
use model::patient::Gender;
use model::{Cns, Cpf, EhrId, FieldError, PatientDraft, Timestamp};
use serde_json::{Map, Value};

/// The fields of a request.
pub(crate) const FIELDS: &[&str] = &["name", "birthDate", "gender", "phone", "email", "cpf", "cns", "externalId", "ehrPatientId"];
/// What an answer shows besides: taken and ignored.
pub(crate) const READ_ONLY: &[&str] = &["id", "lastSyncAt", "link", "version", "createdAt", "updatedAt"];

/// What a body asks for.
pub(crate) struct PatientWish {
    /// What the platform says from now on.
    pub(crate) draft: PatientDraft,
    /// A person's link, or its undoing.
    pub(crate) link: Given<EhrId>,
}

/// Reads a body, over what was said before where a field is left out.
pub(crate) fn read(object: &Map<String, Value>, before: Option<&PatientDraft>, now: Timestamp) -> Result<PatientWish, Vec<FieldError>> {
    let mut fields = Fields::new(object, "", FIELDS, READ_ONLY);
    let name = fields.text("name", 1000);
    let name = fields.required("name", name, before.map(|b| b.name.clone()));
    let birth_date = fields.read("birthDate", 32, |text| birth_date(text, now));
    let birth_date = fields.required("birthDate", birth_date, before.map(|b| b.birth_date.clone()));
    let gender = fields
        .read("gender", 32, |code| Gender::parse(code).ok_or(("not_allowed", "gender is one of male, female, other, unknown.".to_owned())));
    let phone = fields.text("phone", 64);
    let email = fields.read("email", 254, |text| {
        let parts = text.split_once('@');
        let good = parts.is_some_and(|(user, host)| !user.is_empty() && !host.is_empty()) && !text.contains(char::is_whitespace);
        if good { Ok(text.to_owned()) } else { Err(("not_an_email", "email is not an e-mail address.".to_owned())) }
    });
    let cpf = fields.read("cpf", 64, |text| Cpf::parse(text).map_err(|bad| ("invalid_cpf", format!("cpf will not do: {bad}."))));
    let cns = fields.read("cns", 64, |text| Cns::parse(text).map_err(|bad| ("invalid_cns", format!("cns will not do: {bad}."))));
    let external_id = fields.text("externalId", 256);
    let link = fields.read("ehrPatientId", 200, ehr_id);
    let draft = name.zip(birth_date).map(|(name, birth_date)| PatientDraft {
        name,
        birth_date,
        gender: gender.over(before.and_then(|b| b.gender)),
        phone: phone.over(before.and_then(|b| b.phone.clone())),
        email: email.over(before.and_then(|b| b.email.clone())),
        cpf: cpf.over(before.and_then(|b| b.cpf.clone())),
        cns: cns.over(before.and_then(|b| b.cns.clone())),
        external_id: external_id.over(before.and_then(|b| b.external_id.clone())),
    });
    let errors = fields.errors();
    match draft {
        Some(draft) if errors.is_empty() => Ok(PatientWish { draft, link }),
        _ => Err(errors),
    }
}

/// Reads a FHIR id, also where it is given as the reference `Patient/<id>`.
pub(crate) fn ehr_id(text: &str) -> Result<EhrId, (&'static str, String)> {
    let bare = text.strip_prefix("Patient/").unwrap_or(text);
    EhrId::new(bare).map_err(|bad| ("not_an_ehr_id", format!("This is no id of an EHR: {bad}.")))
}

fn birth_date(text: &str, now: Timestamp) -> Result<String, (&'static str, String)> {
    let day = fhir::primitive::date(text).filter(|date| date.is_day());
    if day.is_none() {
        return Err(("not_a_date", "birthDate is a day that exists, YYYY-MM-DD.".to_owned()));
    }
    // It may be tomorrow already where the patient was born; RFC 3339 days order as texts.
    if *text > *now.plus_ms(86_400_000).rfc3339() {
        return Err(("in_the_future", "birthDate lies in the future.".to_owned()));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Timestamp = Timestamp(1_795_000_000_000);

    fn errors(body: Value) -> Vec<(String, &'static str)> {
        let Value::Object(object) = body else { panic!("no object") };
        read(&object, None, NOW).err().unwrap_or_default().into_iter().map(|e| (e.pointer, e.code)).collect()
    }

    #[test]
    fn every_field_that_will_not_do_is_named() {
        let got = errors(
            json!({"birthDate": "2026-02-30", "gender": "M", "email": "x", "cpf": "52998224726", "cns": 7, "ehrPatientId": "a b", "nome": "x"}),
        );
        for want in [
            ("/nome", "unknown_field"),
            ("/name", "required"),
            ("/birthDate", "not_a_date"),
            ("/gender", "not_allowed"),
            ("/email", "not_an_email"),
            ("/cpf", "invalid_cpf"),
            ("/cns", "wrong_type"),
            ("/ehrPatientId", "not_an_ehr_id"),
        ] {
            assert!(got.iter().any(|(p, c)| (p.as_str(), *c) == want), "{want:?} not in {got:?}");
        }
        assert_eq!(got.len(), 8);
        assert_eq!(errors(json!({"name": "A", "birthDate": "2126-01-01"})), [("/birthDate".to_owned(), "in_the_future")]);
        assert_eq!(errors(json!({"name": " ", "birthDate": "1961-04"})).len(), 2);
    }

    #[test]
    fn what_was_read_may_be_sent_back_and_null_clears() {
        let Value::Object(body) =
            json!({"id": "x", "link": {}, "name": "A", "birthDate": "1961-04-02", "phone": null, "cpf": "529.982.247-25"})
        else {
            panic!()
        };
        let first = read(&body, None, NOW).unwrap();
        assert_eq!(first.draft.cpf.as_ref().map(Cpf::digits), Some("52998224725"));
        let Value::Object(body) = json!({"cpf": null, "phone": "+55 11 5555-0000"}) else { panic!() };
        let second = read(&body, Some(&first.draft), NOW).unwrap();
        assert_eq!((second.draft.name.as_str(), second.draft.cpf, second.draft.phone.as_deref()), ("A", None, Some("+55 11 5555-0000")));
    }
}
