//! The manners of a server that are no fault of a moment: what it supports, how it names and dates things, what it refuses.
//!
//! Each profile's values are black-box measurements of that server (Helios 0.2.7, WSO2 1.1.0-dev, Medplum 5.0.10) or, for Epic and HAPI,
//! what their published CapabilityStatement, documentation and issue threads say.

use crate::fault::Fault;
use crate::options::Profile;

/// How a server behaves for good. Start from [`Quirks::of`] a profile and change what you need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quirks {
    /// What it checks of a single Observation or Patient.
    pub validation: Validation,
    /// What it checks of one inside a batch or transaction.
    pub batch_validation: Validation,
    /// Whether an Observation's subject must be a Patient that exists.
    pub check_subject: bool,
    /// The status for content that does not pass: 400 or 422.
    pub invalid_status: u16,
    /// Rows per page without `_count`.
    pub page_size: usize,
    /// Rows per page at most.
    pub max_page_size: usize,
    /// How next links go on.
    pub paging: Paging,
    /// What an unknown search parameter does.
    pub unknown_parameter: UnknownParameter,
    /// Whether `Prefer: handling=strict` is honoured.
    pub strict_honoured: bool,
    /// What `If-None-Exist` may look like.
    pub condition_form: ConditionForm,
    /// `meta.versionId` and `ETag`.
    pub versions: VersionStyle,
    /// The ids that it gives.
    pub ids: IdStyle,
    /// Whether the `id` of a POSTed body is kept.
    pub keeps_posted_id: bool,
    /// Whether `Prefer: return=` is honoured.
    pub prefer_honoured: bool,
    /// Whether a create answers with the resource when nothing was preferred.
    pub answers_with_body: bool,
    /// Whether `Location` ends in `/_history/VERSION`.
    pub location_with_version: bool,
    /// Whether the 200 of a conditional create that matched has a `Location`.
    pub location_on_match: bool,
    /// Whether a create by itself that finds its resource fails with 500 where that has tags or security labels (HAPI 5.4.0).
    pub match_with_tags_fails: bool,
    /// Whether `If-None-Match: *` on PUT is honoured (R5; R4 servers mostly overwrite).
    pub if_none_match_honoured: bool,
    /// The status of a PUT that creates: 201, or 200 against http.html#upsert.
    pub put_created_status: u16,
    /// Whether a search by patient or subject finds everybody's rows, and says that it was by them.
    pub ignores_patient: bool,
    /// Whether a PUT without a change keeps the version.
    pub same_content_keeps_version: bool,
    /// Whether stamps have whole seconds only.
    pub whole_seconds: bool,
    /// The status of a delete.
    pub delete_status: u16,
    /// The status of a delete of what is deleted already.
    pub delete_again_status: u16,
    /// Whether it deletes at all.
    pub deletes: bool,
    /// The types that may be updated; empty means all.
    pub updatable: &'static [&'static str],
    /// Whether `_history` of one resource and vread exist.
    pub instance_history: bool,
    /// Whether `_history` of a type exists.
    pub type_history: bool,
    /// Whether each history entry claims the method GET.
    pub history_says_get: bool,
    /// Whether a transaction runs as a batch.
    pub transaction_is_batch: bool,
    /// Whether an identifier twice in one transaction, each conditional, creates twice.
    pub transaction_blind_to_itself: bool,
    /// Whether a batch entry answers with resource and etag.
    pub batch_entry_details: bool,
    /// Whether HEAD is answered.
    pub head: bool,
    /// Whether a body without `Content-Type` is read.
    pub content_type_optional: bool,
    /// What a type that R4 does not have answers.
    pub unknown_type: UnknownType,
    /// Whether an Observation search must name a patient, id or identifier, and a Patient search a criterion.
    pub search_needs_subject: bool,
    /// Whether `Bundle.total` is the length of the page.
    pub total_is_page_length: bool,
    /// Whether `\,` `\|` `\$` in a search value are understood (search.html#escaping).
    pub escapes: bool,
    /// Longest identifier value; longer answers 500.
    pub longest_identifier: Option<usize>,
    /// Whether `X-Request-Id` comes back.
    pub echoes_request_id: bool,
    /// Whether `#REQUEST` is appended to `meta.source`.
    pub appends_source: bool,
    /// Whether rows come newest first when no sort is asked for.
    pub newest_first: bool,
    /// Whether ids of digits only are refused in a PUT.
    pub refuses_numeric_ids: bool,
    /// What the CapabilityStatement claims.
    pub claims: Claims,
    /// Faults that this server always shows.
    pub always: Vec<Fault>,
}

/// What is checked of an Observation or Patient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validation {
    /// Nothing.
    None,
    /// That status and code are there.
    Presence,
    /// Presence, and no unknown or misshapen element; codes and invariants are not looked at.
    Shape,
    /// R4: elements, types, cardinalities, required codes, obs-6 and obs-7.
    Strict,
}

/// How next links go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paging {
    /// The ids are fixed when the search is asked; an opaque session id.
    Session,
    /// The same, in HAPI's form at the base (`_getpages`).
    GetPages,
    /// An opaque cursor over the sort key; rows that move are missed.
    Cursor,
    /// `_offset=N`, searched again each time.
    Offset,
    /// `_page=N`, searched again each time.
    Page,
}

/// What an unknown search parameter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownParameter {
    /// It is ignored and missing in the self link (search.html#errors).
    Ignored,
    /// It is ignored and an `outcome` entry says so.
    Reported,
    /// 400.
    Refused,
    /// 200 without rows.
    NoRows,
}

/// What `If-None-Exist` may look like apart from the bare query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionForm {
    /// `?query` and `Type?query` are read as well.
    Lenient,
    /// They are refused with 400.
    Refused,
    /// They, and unknown parameters, are ignored: it creates.
    Ignored,
    /// `?query` answers 412 though nothing matches, `Type?query` 400.
    Medplum,
}

/// The form of `meta.versionId`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionStyle {
    /// 1, 2, 3 …
    Numbers,
    /// A new uuid each time.
    Uuids,
}

/// The ids that a server gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdStyle {
    /// A uuid.
    Uuids,
    /// A growing number.
    Numbers,
    /// `e` and 44 letters and digits.
    Opaque,
}

/// What a type that R4 does not have answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownType {
    /// 404 with an OperationOutcome.
    NotFound,
    /// 404 with a web server's page.
    NotFoundPage,
    /// 400.
    Refused,
    /// 200 with an empty searchset.
    EmptySearch,
}

/// What the CapabilityStatement says; not always what the server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims {
    /// `conditionalCreate`; None leaves it out.
    pub conditional_create: Option<bool>,
    /// `conditionalUpdate`.
    pub conditional_update: Option<bool>,
    /// `updateCreate`.
    pub update_create: Option<bool>,
    /// `rest.interaction` has `batch`.
    pub batch: bool,
    /// `rest.interaction` has `transaction`.
    pub transaction: bool,
    /// `_lastUpdated` is listed.
    pub last_updated: bool,
}

impl Quirks {
    /// The manners of this server.
    pub fn of(profile: Profile) -> Quirks {
        match profile {
            Profile::Plain => plain(),
            Profile::Epic => epic(),
            Profile::Hapi => hapi(),
            Profile::Helios => helios(),
            Profile::Medplum => medplum(),
            Profile::MedplumRouter => medplum_router(),
            Profile::Wso2 => wso2(),
        }
    }
}

fn plain() -> Quirks {
    Quirks {
        validation: Validation::Strict,
        batch_validation: Validation::Strict,
        check_subject: true,
        invalid_status: 422,
        page_size: 50,
        max_page_size: 1000,
        paging: Paging::Session,
        unknown_parameter: UnknownParameter::Ignored,
        strict_honoured: true,
        condition_form: ConditionForm::Lenient,
        versions: VersionStyle::Numbers,
        ids: IdStyle::Uuids,
        keeps_posted_id: false,
        prefer_honoured: true,
        answers_with_body: true,
        location_with_version: true,
        location_on_match: true,
        match_with_tags_fails: false,
        if_none_match_honoured: true,
        put_created_status: 201,
        ignores_patient: false,
        same_content_keeps_version: false,
        whole_seconds: false,
        delete_status: 204,
        delete_again_status: 204,
        deletes: true,
        updatable: &[],
        instance_history: true,
        type_history: true,
        history_says_get: false,
        transaction_is_batch: false,
        transaction_blind_to_itself: false,
        batch_entry_details: true,
        head: true,
        content_type_optional: true,
        unknown_type: UnknownType::NotFound,
        search_needs_subject: false,
        total_is_page_length: false,
        escapes: true,
        longest_identifier: None,
        echoes_request_id: true,
        appends_source: false,
        newest_first: false,
        refuses_numeric_ids: false,
        claims: Claims {
            conditional_create: Some(true),
            conditional_update: Some(true),
            update_create: Some(true),
            batch: true,
            transaction: true,
            last_updated: true,
        },
        always: Vec::new(),
    }
}

/// Epic's public sandbox, CapabilityStatement of May 2026 and captured answers: create, read, search, and update of Observations only;
/// `total` is the page's length, next links are `sessionID=`. What it does with `If-None-Exist` is not documented; here it is
/// refused as http.html#ccreate asks (the fault `ignore_if_none_exist` plays the worse case).
fn epic() -> Quirks {
    Quirks {
        invalid_status: 400,
        page_size: 1000,
        paging: Paging::Session,
        unknown_parameter: UnknownParameter::Reported,
        strict_honoured: false,
        ids: IdStyle::Opaque,
        prefer_honoured: false,
        answers_with_body: false,
        location_with_version: false,
        if_none_match_honoured: false,
        deletes: false,
        updatable: &["Observation"],
        instance_history: false,
        type_history: false,
        unknown_type: UnknownType::NotFoundPage,
        search_needs_subject: true,
        total_is_page_length: true,
        echoes_request_id: false,
        claims: Claims {
            conditional_create: Some(false),
            conditional_update: Some(false),
            update_create: Some(false),
            batch: false,
            transaction: false,
            last_updated: false,
        },
        always: vec![Fault::NoConditionalCreate, Fault::NoUpdateCreate, Fault::NoBatch, Fault::NoLastUpdated, Fault::DeleteAs404],
        ..plain()
    }
}

/// HAPI FHIR JPA before its guard of conditional creates (hapi-fhir#3141, PR 4609), with its search cache (#4345), its page
/// links (`_getpages`), `#request` behind `meta.source`, no version for an unchanged PUT, 200 for a delete, and 500 where a
/// conditional create finds a resource with tags (5.4.0, measured).
fn hapi() -> Quirks {
    Quirks {
        page_size: 20,
        paging: Paging::GetPages,
        match_with_tags_fails: true,
        unknown_parameter: UnknownParameter::Refused,
        ids: IdStyle::Numbers,
        if_none_match_honoured: false,
        same_content_keeps_version: true,
        delete_status: 200,
        delete_again_status: 200,
        appends_source: true,
        refuses_numeric_ids: true,
        newest_first: true,
        claims: Claims { batch: false, ..plain().claims },
        always: vec![Fault::ConditionalCreateRace, Fault::SearchCache],
        ..plain()
    }
}

/// Helios 0.2.7, measured: no validation, look-up and insert without a lock (5 copies at worst), conditions only in the bare form.
fn helios() -> Quirks {
    Quirks {
        validation: Validation::None,
        batch_validation: Validation::None,
        check_subject: false,
        page_size: 20,
        paging: Paging::Cursor,
        condition_form: ConditionForm::Refused,
        location_with_version: false,
        location_on_match: false,
        if_none_match_honoured: false,
        delete_again_status: 404,
        escapes: false,
        echoes_request_id: false,
        newest_first: true,
        always: vec![Fault::ConditionalCreateRace],
        ..plain()
    }
}

/// Medplum 5.0.10, measured: client ids refused (404 for a uuid, 400 otherwise), versions are uuids, decimals are doubles, a
/// transaction runs as a batch, an unchanged PUT keeps its version, unknown elements and parameters are refused.
fn medplum() -> Quirks {
    Quirks {
        validation: Validation::Shape,
        batch_validation: Validation::Shape,
        check_subject: false,
        invalid_status: 400,
        page_size: 20,
        paging: Paging::Offset,
        unknown_parameter: UnknownParameter::Refused,
        condition_form: ConditionForm::Medplum,
        versions: VersionStyle::Uuids,
        location_with_version: false,
        location_on_match: false,
        if_none_match_honoured: false,
        same_content_keeps_version: true,
        delete_status: 200,
        delete_again_status: 200,
        type_history: false,
        history_says_get: true,
        transaction_is_batch: true,
        content_type_optional: false,
        unknown_type: UnknownType::Refused,
        echoes_request_id: false,
        claims: Claims { update_create: Some(false), ..plain().claims },
        always: vec![Fault::NoUpdateCreate, Fault::DecimalsRounded],
        ..plain()
    }
}

/// Medplum's router 5.2.13 over its memory, measured (COMPATIBILITY.md): our own ids are taken and answered 200, a search in memory
/// knows no references, the last noughts of a decimal go; of what it can it says nothing.
fn medplum_router() -> Quirks {
    Quirks {
        put_created_status: 200,
        ignores_patient: true,
        claims: Claims { conditional_create: None, conditional_update: None, update_create: None, ..plain().claims },
        always: vec![Fault::DecimalsRounded],
        ..plain()
    }
}

/// WSO2 1.1.0-dev, measured: a batch checks less than a POST, `?` conditions and unknown ones are ignored (it doubles), whole-second
/// stamps, decimals are doubles, identifiers of 191 characters at most, the posted id is kept.
fn wso2() -> Quirks {
    Quirks {
        validation: Validation::Presence,
        batch_validation: Validation::None,
        check_subject: false,
        page_size: 20,
        paging: Paging::Page,
        unknown_parameter: UnknownParameter::NoRows,
        strict_honoured: false,
        condition_form: ConditionForm::Ignored,
        keeps_posted_id: true,
        prefer_honoured: false,
        if_none_match_honoured: false,
        whole_seconds: true,
        transaction_blind_to_itself: true,
        batch_entry_details: false,
        head: false,
        unknown_type: UnknownType::EmptySearch,
        escapes: false,
        longest_identifier: Some(191),
        echoes_request_id: false,
        newest_first: true,
        always: vec![Fault::ConditionalCreateRace, Fault::DecimalsRounded],
        ..plain()
    }
}
