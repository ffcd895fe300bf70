//! `Observation.category`: told where it is certain, left out where it would be a guess.

use crate::mapping::{codes, unit};
use model::{ObservationDraft, Value};

/// The system of the nine categories (R4 valueset-observation-category).
pub const SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/observation-category";

/// A patient's answer or score.
pub const SURVEY: &str = "survey";

/// A vital sign.
pub const VITAL_SIGNS: &str = "vital-signs";

/// LOINC codes of laboratory tests that a patient's message may mention: that is neither an answer to a question nor
/// a laboratory's report, so no category is claimed (facts CODES-AND-BRAZIL §1c).
const LABORATORY: &[&str] = &[
    "718-7", "4544-3", "20570-8", "789-8", "6690-2", "26464-8", "751-8", "26499-4", "731-0", "777-3", "26515-7", "2160-0", "14682-9",
    "14683-7", "98979-8", "62238-1", "33914-3", "1975-2", "1968-7", "1742-6", "1920-8", "6768-6", "2532-0", "1751-7", "2885-2", "3094-0",
    "22664-7", "2823-3", "2951-2", "17861-6", "2345-7", "1988-5", "2276-4", "3016-3", "2039-6", "10334-1", "24108-3", "6875-9", "2857-1",
    "1834-1", "19080-1", "21198-7",
];

/// The category of a platform's observation: `vital-signs` for the codes of R4's vital signs, the tenant's own word for
/// scores, `survey` for what else came from a patient's message. A laboratory is never guessed.
#[must_use]
pub fn of<'a>(draft: &ObservationDraft, score_category: &'a str) -> Option<&'a str> {
    let loinc = draft.code.as_deref().filter(|_| codes::is_loinc(draft.code_system.as_deref()));
    if loinc.is_some_and(|code| codes::vital_sign(code).is_some()) {
        return Some(VITAL_SIGNS);
    }
    let scored = match &draft.value {
        Some(Value::Quantity { unit: Some(unit), .. }) => unit::is_score(unit),
        _ => false,
    };
    if scored || loinc.is_some_and(codes::is_survey) {
        return Some(score_category);
    }
    (draft.message_id.is_some() && !loinc.is_some_and(|code| LABORATORY.contains(&code))).then_some(SURVEY)
}

/// The display of a category, as its code system has it.
#[must_use]
pub fn display(category: &str) -> Option<&'static str> {
    Some(match category {
        "social-history" => "Social History",
        "vital-signs" => "Vital Signs",
        "imaging" => "Imaging",
        "laboratory" => "Laboratory",
        "procedure" => "Procedure",
        "survey" => "Survey",
        "exam" => "Exam",
        "therapy" => "Therapy",
        "activity" => "Activity",
        _ => return None,
    })
}
