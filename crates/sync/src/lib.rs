//! The engine: claim, push, settle, reconcile, pull, schedule.
