//! Patient and Observation, there and back: the one place where Ponte's nouns meet FHIR's.

pub mod category;
pub mod codes;
pub mod evidence;
pub mod name;
pub mod observation;
pub mod patient;
pub mod phone;
pub mod unit;

pub use codes::{Misuse, misused};
pub use evidence::{Doubt, Evidence, evidence};
pub use observation::EhrObservation;
pub use patient::EhrPatient;
