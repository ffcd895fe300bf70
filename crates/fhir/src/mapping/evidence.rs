//! What speaks for it that an EHR's Patient is ours (PRODUCT, law 3; facts CODES-AND-BRAZIL §9).
//!
//! A check digit proves typing, never identity; a phone and a name never link. Whether the Patient is the only hit, is
//! active and is not replaced stands beside this and is asked of the search and of [`EhrPatient`].

use crate::mapping::name;
use crate::mapping::patient::EhrPatient;
use crate::national::{NumberKind, Told};
use crate::primitive;
use model::PatientDraft;

/// The evidence of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// Same number, same birth date, no contradiction: links by itself, if it is the only hit.
    Exact(NumberKind),
    /// The same number, but something is not as it should be: a person decides.
    PersonDecides {
        /// Which number is the same.
        by: NumberKind,
        /// What is not as it should be.
        because: Doubt,
    },
    /// Each has a CPF, and they differ: never the same person, however much else agrees.
    CpfDiffers,
    /// Name and birth date agree, and nothing else speaks for or against it: a candidate for a person, never a link.
    NameAndBirthDate,
    /// Nothing.
    None,
}

/// Why the same number is not enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// Another birth date: a child under a parent's number, or a typing error.
    BirthDateDiffers,
    /// The EHR's birth date is absent, partial, or a placeholder, or ours is.
    BirthDateUnknown,
    /// The EHR's Patient carries other CPFs too.
    SeveralNumbers,
    /// One of the names is a placeholder: a newborn under the mother's number, and twins share it.
    Placeholder,
    /// The number is told by its shape alone, or is old there.
    NotCertain,
    /// Our CPF is our phone number: one in a hundred mobile numbers passes for a CPF.
    PhoneDigits,
}

/// Compares our patient with one of the EHR's.
#[must_use]
pub fn evidence(ours: &PatientDraft, theirs: &EhrPatient) -> Evidence {
    let (same_cpf, other_cpf) = match &ours.cpf {
        Some(cpf) => (theirs.numbers.cpfs().any(|c| c == cpf), theirs.numbers.cpfs().any(|c| c != cpf)),
        None => (false, false),
    };
    if other_cpf && !same_cpf {
        return Evidence::CpfDiffers;
    }
    let birth_date = birth_date_doubt(&ours.birth_date, theirs.birth_date.as_deref());
    let placeholder = name::is_placeholder(&ours.name) || theirs.names.iter().filter_map(|n| n.whole()).any(|n| name::is_placeholder(&n));
    let judged = |by, first: Option<Doubt>| {
        let doubt = first.or(birth_date).or(placeholder.then_some(Doubt::Placeholder));
        doubt.map_or(Evidence::Exact(by), |because| Evidence::PersonDecides { by, because })
    };
    if same_cpf {
        let phone = is_phone(ours).then_some(Doubt::PhoneDigits);
        return judged(NumberKind::Cpf, phone.or(other_cpf.then_some(Doubt::SeveralNumbers)));
    }
    let same_cns = ours.cns.as_ref().is_some_and(|cns| theirs.numbers.cnss().any(|c| c == cns));
    if same_cns {
        return judged(NumberKind::Cns, None);
    }
    if let Some(by) = uncertain_number(ours, theirs) {
        return Evidence::PersonDecides { by, because: Doubt::NotCertain };
    }
    let same_name = theirs.names.iter().filter_map(|n| n.whole()).any(|n| name::same(&ours.name, &n));
    if same_name && birth_date.is_none() { Evidence::NameAndBirthDate } else { Evidence::None }
}

/// A number that is equal but is known by its shape alone, or no longer in use there.
fn uncertain_number(ours: &PatientDraft, theirs: &EhrPatient) -> Option<NumberKind> {
    let cpf = theirs.numbers.cpf.iter().any(|f| (f.told == Told::Shape || !f.in_use) && f.number.as_ref().ok() == ours.cpf.as_ref());
    if cpf && ours.cpf.is_some() {
        return Some(NumberKind::Cpf);
    }
    let cns = theirs.numbers.cns.iter().any(|f| (f.told == Told::Shape || !f.in_use) && f.number.as_ref().ok() == ours.cns.as_ref());
    (cns && ours.cns.is_some()).then_some(NumberKind::Cns)
}

/// `None` where both are the same whole day.
fn birth_date_doubt(ours: &str, theirs: Option<&str>) -> Option<Doubt> {
    let Some(theirs_text) = theirs else { return Some(Doubt::BirthDateUnknown) };
    let (Some(our_day), Some(their_day)) = (primitive::date(ours), primitive::date(theirs_text)) else {
        return Some(Doubt::BirthDateUnknown);
    };
    let differs = our_day.year != their_day.year
        || matches!((our_day.month, their_day.month), (Some(a), Some(b)) if a != b)
        || matches!((our_day.day, their_day.day), (Some(a), Some(b)) if a != b);
    if name::is_placeholder_date(ours) || name::is_placeholder_date(theirs_text) {
        Some(Doubt::BirthDateUnknown)
    } else if differs {
        Some(Doubt::BirthDateDiffers)
    } else {
        (!our_day.is_day() || !their_day.is_day()).then_some(Doubt::BirthDateUnknown)
    }
}

fn is_phone(ours: &PatientDraft) -> bool {
    let phone: String = ours.phone.iter().flat_map(|phone| phone.chars()).filter(char::is_ascii_digit).collect();
    ours.cpf.as_ref().is_some_and(|cpf| phone.strip_prefix("55").unwrap_or(&phone) == cpf.digits() || phone == cpf.digits())
}

#[cfg(test)]
mod tests;
