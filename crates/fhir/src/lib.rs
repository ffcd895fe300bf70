//! R4 on the wire, lossless, and the mapping both ways.
pub mod bundle;
pub mod capability_statement;
pub mod operation_outcome;
pub mod search;
