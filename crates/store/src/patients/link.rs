//! A patient's link as it stands in its columns. It belongs to one generation of the connection.

use crate::engine::{Row, Tx, args};
use crate::seal::DataKey;
use crate::{Error, Result};
use model::patient::LinkProblem;
use model::{Link, LinkState, PatientId, TenantId};

/// Writes the whole link, as one of the present generation.
pub(crate) async fn write_link(tx: &mut Tx, tenant: &TenantId, key: &DataKey, patient: PatientId, link: &Link) -> Result<()> {
    let candidates =
        if link.candidates.is_empty() { None } else { Some(key.seal_json("patients", "sealed_candidates", patient, &link.candidates)?) };
    tx.execute(
        "UPDATE patients SET link_state = $3, ehr_patient_id = $4, link_by = $5, link_at = $6, link_problem = $7, sealed_candidates = $8, \
         verified_at = $9, ehr_version = $10, \
         link_generation = COALESCE((SELECT generation FROM connections WHERE tenant_id = $1), 1) WHERE tenant_id = $1 AND id = $2",
        args![
            tenant,
            patient,
            state_word(link.state),
            link.ehr_id.as_ref(),
            link.by.as_ref(),
            link.at,
            link.problem.map(problem_word),
            candidates,
            link.verified_at,
            link.ehr_version.as_ref()
        ],
    )
    .await?;
    Ok(())
}

/// Reads the link columns; a link of another generation is none.
pub(super) fn read_link(row: &Row, key: &DataKey, patient: PatientId, generation: i64) -> Result<Link> {
    if row.int_opt("link_generation")?.is_some_and(|of| of != generation) {
        return Ok(Link::default());
    }
    let problem = row.text_opt("link_problem")?;
    let sealed = row.bytes_opt("sealed_candidates")?;
    Ok(Link {
        state: match row.text("link_state")?.as_str() {
            "unlinked" => LinkState::Unlinked,
            "linked" => LinkState::Linked,
            "held" => LinkState::Held,
            _ => return Err(Error::Corrupt("patients")),
        },
        ehr_id: row.ehr_id_opt("ehr_patient_id")?,
        by: row.text_opt("link_by")?,
        at: row.ts_opt("link_at")?,
        problem: problem.map(|word| parse_problem(&word).ok_or(Error::Corrupt("patients"))).transpose()?,
        candidates: match sealed {
            Some(sealed) => key.open_json("patients", "sealed_candidates", patient, &sealed)?,
            None => Vec::new(),
        },
        verified_at: row.ts_opt("verified_at")?,
        ehr_version: row.text_opt("ehr_version")?,
    })
}

/// The word of a link's state in the database.
pub(crate) fn state_word(state: LinkState) -> &'static str {
    match state {
        LinkState::Unlinked => "unlinked",
        LinkState::Linked => "linked",
        LinkState::Held => "held",
    }
}

const PROBLEMS: [(LinkProblem, &str); 11] = [
    (LinkProblem::Candidates, "candidates"),
    (LinkProblem::MultipleMatches, "multiple_matches"),
    (LinkProblem::BirthDateDiffers, "birth_date_differs"),
    (LinkProblem::NotFound, "not_found"),
    (LinkProblem::ReplacedBy, "replaced_by"),
    (LinkProblem::Inactive, "inactive"),
    (LinkProblem::IdDiffers, "id_differs"),
    (LinkProblem::IdentifierDiffers, "identifier_differs"),
    (LinkProblem::Gone, "gone"),
    (LinkProblem::AccessDenied, "access_denied"),
    (LinkProblem::NotInterpreted, "not_interpreted"),
];

/// The word of a link's problem in the database.
pub(crate) fn problem_word(problem: LinkProblem) -> &'static str {
    PROBLEMS.iter().find(|(known, _)| *known == problem).map_or("candidates", |(_, word)| word)
}

fn parse_problem(word: &str) -> Option<LinkProblem> {
    PROBLEMS.iter().find(|(_, known)| *known == word).map(|(problem, _)| *problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_the_word_that_the_api_shows() {
        for (problem, word) in PROBLEMS {
            assert_eq!(serde_json::to_value(problem).unwrap(), word);
            assert_eq!(parse_problem(problem_word(problem)), Some(problem));
        }
    }
}
