//! The nouns of Ponte, pure: no I/O, no async, no FHIR, no SQL, and nobody here reads the clock.
//!
//! | file | noun |
//! |---|---|
//! | [`id`] | the ids: tenants, patients, observations, deliveries, attempts, runs |
//! | [`clock`] | `Timestamp`, and the traits through which alone time and chance come in |
//! | [`decimal`] | a decimal that keeps its digits |
//! | [`brazil`] | CPF and CNS with their check digits |
//! | [`patient`] | a patient and the link to the EHR's Patient |
//! | [`observation`] | an observation as the platform knows it |
//! | [`connection`] | a tenant's EHR and its settings, valid once built |
//! | [`means`] | by what means a create is safe at one EHR, and what was proven there |
//! | [`probe`] | what a write probe tried and saw |
//! | [`grade`] | what is guaranteed at one EHR, and what is not, in words |
//! | [`sentence`] | a sentence in both languages |
//! | [`delivery`] | the effect ledger's row, its states and its one transition function |
//! | [`attempt`] | one try to bring about an effect |
//! | [`failure`] | the classes of outcomes: whose move, does it touch the row or the connection |
//! | [`retry`] | when the next try is due |
//! | [`field`] | what is wrong with one field of a request |

pub mod attempt;
pub mod brazil;
pub mod clock;
pub mod connection;
pub mod decimal;
pub mod delivery;
pub mod failure;
pub mod field;
pub mod grade;
pub mod id;
pub mod means;
pub mod observation;
pub mod patient;
pub mod probe;
pub mod retry;
pub mod sentence;

pub use attempt::{Attempt, LateAnswer};
pub use brazil::{Cns, Cpf};
pub use clock::{Clock, Rng, Timestamp};
pub use connection::{AuthConfig, Connection, Direction, Frequency, RetryPolicy};
pub use decimal::Decimal;
pub use delivery::{Delivery, HeldReason, State};
pub use failure::{Class, WhoseMove};
pub use field::FieldError;
pub use grade::{Grade, Guarantee};
pub use id::{AttemptId, DeliveryId, EhrId, ObservationId, PatientId, ResourceKey, RunId, TenantId};
pub use means::{Means, MeansPlan, Proof};
pub use observation::{Observation, ObservationDraft, Source, Value};
pub use patient::{Link, LinkState, Patient, PatientDraft};
pub use probe::{Finding, Probe, Seen, What};
pub use sentence::Sentence;
