//! FHIR R4 on the wire, lossless, and the mapping both ways. Pure: no I/O, no secrets, nobody here reads the clock.
//!
//! The raw text of a resource is what is kept; everything else here is a thin reading of it, and only of what we map.
//!
//! | module | what |
//! |---|---|
//! | [`resource`] | a resource: its text, kept as it came, and what can be read from it |
//! | [`primitive`] | the grammar of dates, times, ids, codes (R4 datatypes), the calendar included |
//! | [`identifier`] | identifiers; ours, with the mark of our version |
//! | [`reference`](mod@reference) | references, and whether one means a certain resource of a certain server |
//! | [`national`] | CPF and CNS under all the systems by which EHRs know them |
//! | [`validate`](mod@validate) | R4 validity, asked before anything is sent |
//! | [`compare`] | what the EHR stored against what we sent (PRODUCT, law 7) |
//! | [`mapping`] | Patient and Observation, there and back; evidence for a link; misused codes; units |
//! | [`bundle`] | batches, their answers, pages of a search |
//! | [`operation_outcome`] | what the EHR says went wrong |
//! | [`capability_statement`] | what the EHR claims to be able to do |
//! | [`search`] | queries, and the small header values of FHIR REST |

pub mod bundle;
pub mod capability_statement;
pub mod compare;
pub mod identifier;
pub mod json;
pub mod mapping;
pub mod national;
pub mod operation_outcome;
pub mod primitive;
pub mod reference;
pub mod resource;
pub mod search;
pub mod validate;

pub use identifier::Identifier;
pub use reference::Reference;
pub use resource::{NotInterpreted, ParseError, Resource};
pub use validate::{validate, validate_written};
