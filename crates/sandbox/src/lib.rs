//! The sandbox EHR: a FHIR R4 server with seeded faults and a ledger of what really happened.
