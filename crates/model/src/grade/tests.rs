//! The table of grades, and what makes a proof out of date.

use super::*;
use crate::probe::Finding;

const NOW: Timestamp = Timestamp(1_800_000_000_000);

fn probed(findings: &[(What, Seen)]) -> Option<Probe> {
    let findings = findings.iter().map(|(what, seen)| Finding { what: *what, seen: *seen, tries: 3, ms: 4, count: None }).collect();
    Some(Probe { at: NOW, software: Some("EHR 1".to_owned()), whole: true, findings })
}

/// Own id, If-None-Match, conditional create, search by identifier, batch.
fn plan([own, lock, conditional, search, batch]: [Proof; 5]) -> MeansPlan {
    MeansPlan {
        observation_update_create: own,
        if_none_match: lock,
        if_none_match_in_batch: lock,
        conditional_create: conditional,
        identifier_search: search,
        batch,
        software: Some("EHR 1".to_owned()),
        ..MeansPlan::default()
    }
}

#[test]
fn the_grade_is_what_was_proven_and_never_what_is_claimed() {
    use Proof::{Claimed as C, Denied as D, Proven as P, Refused as R, Unknown as U};
    for (proofs, grade, means) in [
        ([P, P, P, P, P], Grade::Lock, Means::OwnId),
        ([P, R, P, P, P], Grade::OwnId, Means::OwnId),
        ([P, U, U, U, U], Grade::OwnId, Means::OwnId),
        // Our own id needs no search.
        ([P, R, R, R, R], Grade::OwnId, Means::OwnId),
        ([R, U, P, P, U], Grade::Conditional, Means::ConditionalCreate),
        ([D, U, P, C, U], Grade::Conditional, Means::ConditionalCreate),
        ([R, U, P, R, U], Grade::Person, Means::ConditionalCreate),
        ([R, U, R, P, U], Grade::Search, Means::PlainCreate),
        ([R, U, R, R, U], Grade::Person, Means::PlainCreate),
        ([R, U, R, C, U], Grade::Unproven, Means::PlainCreate),
        ([D, U, D, D, D], Grade::Unproven, Means::PlainCreate),
        ([R, U, C, P, U], Grade::Unproven, Means::ConditionalCreate),
        ([C, U, P, P, P], Grade::Unproven, Means::OwnId),
        ([U, U, U, U, U], Grade::Unproven, Means::OwnId),
    ] {
        let said = guarantee(&plan(proofs), NOW);
        assert_eq!((said.grade, said.means), (grade, means), "{proofs:?}");
        assert!(!said.sentence.pt_br.is_empty() && said.sentence.pt_br != said.sentence.en);
    }
}

#[test]
fn a_lock_that_a_batch_does_not_keep_is_none_where_batches_are_sent() {
    let mut only_alone = plan([Proof::Proven; 5]);
    only_alone.if_none_match_in_batch = Proof::Refused;
    assert_eq!(guarantee(&only_alone, NOW).grade, Grade::OwnId);
    only_alone.batch = Proof::Refused;
    assert_eq!(guarantee(&only_alone, NOW).grade, Grade::Lock);
}

#[test]
fn without_a_probe_it_is_claimed_and_says_how_to_prove_it() {
    let said = guarantee(&MeansPlan::default(), NOW);
    assert_eq!((said.grade, said.basis, said.whose_move), (Grade::Unproven, Basis::Claim, Some(WhoseMove::You)));
    assert!(said.sentence.en.starts_with("Claimed, not proven."));
    assert!(said.next.unwrap().en.contains("--write-probe"));
    assert!(said.guaranteed.is_empty() && !said.not_guaranteed.is_empty());

    let used = guarantee(&plan([Proof::Proven, Proof::Unknown, Proof::Unknown, Proof::Unknown, Proof::Unknown]), NOW);
    assert_eq!((used.grade, used.basis), (Grade::OwnId, Basis::Use));
    assert!(used.next.unwrap().en.starts_with("Seen in ordinary use only"));
}

#[test]
fn another_software_or_ninety_days_make_a_proof_out_of_date() {
    let fresh = MeansPlan { probe: probed(&[]), ..plan([Proof::Proven; 5]) };
    let day = |n: i64| NOW.plus_ms(n * DAY_MS);
    for (plan, now, why) in [
        (fresh.clone(), day(90), None),
        (fresh.clone(), day(91), Some(OutOfDate::TooOld)),
        (MeansPlan { software: Some("EHR 2".to_owned()), ..fresh.clone() }, day(1), Some(OutOfDate::SoftwareChanged)),
    ] {
        let said = guarantee(&plan, now);
        assert_eq!((said.out_of_date, said.next.is_some(), said.grade), (why, why.is_some(), Grade::Lock));
    }
    let cut = MeansPlan { probe: probed(&[]).map(|probe| Probe { whole: false, ..probe }), ..plan([Proof::Proven; 5]) };
    assert!(guarantee(&cut, NOW).next.unwrap().en.starts_with("The probe did not reach its end"));
}

#[test]
fn what_the_probe_refuted_is_named_among_what_is_not_guaranteed() {
    let refused = [What::IdentifierKept, What::VersionMark, What::Digits, What::SearchFinds, What::IdentifierObeyed, What::Batch];
    for what in refused {
        let plan = MeansPlan { probe: probed(&[(what, Seen::Refused)]), ..plan([Proof::Proven; 5]) };
        let sentence = plan.probe.as_ref().unwrap().finding(what).unwrap().sentence();
        assert!(guarantee(&plan, NOW).not_guaranteed.contains(&sentence), "{what}");
    }
    // "Not seen to double" is no lock, and is said so beside the grade.
    let parallel = probed(&[(What::ConditionalParallel, Seen::NotSeen)]);
    let conditional = MeansPlan { probe: parallel, ..plan([Proof::Refused, Proof::Unknown, Proof::Proven, Proof::Proven, Proof::Unknown]) };
    let not = guarantee(&conditional, NOW).not_guaranteed;
    assert!(not.iter().any(|said| said.en.contains("does not prove a lock")), "{not:?}");
}
