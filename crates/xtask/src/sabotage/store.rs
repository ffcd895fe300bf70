//! The store's own laws: leases, counters, wakes, pulls and tenants, each taken out by itself.

use super::{Cut, Sabotage, Watch};

pub(super) const SABOTAGES: &[Sabotage] = &[
    Sabotage {
        name: "no-fence-of-pulls",
        rule: "rule 9: an old owner of a pull stores nothing",
        cuts: &[
            Cut {
                file: "crates/store/src/pulls.rs",
                find: r#"p.epoch = $3 AND p.lease_until IS NOT NULL";"#,
                replace: r#"$3 > 0 AND p.lease_until IS NOT NULL";"#,
            },
            Cut {
                file: "crates/store/src/pulls.rs",
                find: "p.epoch = $3 AND p.lease_until IS NOT NULL FOR UPDATE OF p",
                replace: "$3 > 0 AND p.lease_until IS NOT NULL FOR UPDATE OF p",
            },
        ],
        watch: Watch::store(&["pulls::a_pull_goes_on_from_its_note"]),
    },
    Sabotage {
        name: "watermark-lost",
        rule: "law 8: a pull that learnt no new watermark keeps the old one",
        cuts: &[Cut { file: "crates/store/src/pulls.rs", find: "watermark = COALESCE($4, watermark)", replace: "watermark = $4" }],
        watch: Watch::store(&["pulls::a_pull_that_fails_keeps"]),
    },
    Sabotage {
        name: "row-of-every-tenant",
        rule: "law 4: a row is moved by its own tenant alone",
        cuts: &[Cut {
            file: "crates/store/src/ledger/raw.rs",
            find: r#"" FROM deliveries d WHERE d.tenant_id = $1 AND d.id = $2""#,
            replace: r#"" FROM deliveries d WHERE CAST($1 AS TEXT) IS NOT NULL AND d.id = $2""#,
        }],
        watch: Watch::store(&["tenants::"]),
    },
    Sabotage {
        name: "count-forgotten",
        rule: "kept counters are those of the rows",
        cuts: &[Cut {
            file: "crates/store/src/standing.rs",
            find: "        tx.count(tenant, shard, to.word(), 1);\n",
            replace: "        if to != State::Uncertain {\n            tx.count(tenant, shard, to.word(), 1);\n        }\n",
        }],
        watch: Watch::store(&["counters::each_step_of_a_row"]),
    },
    Sabotage {
        name: "takeover-shortens-settling",
        rule: "rule 1: a takeover lengthens a settle time and never shortens it",
        cuts: &[Cut {
            file: "crates/store/src/lane/takeover.rs",
            find: "settle_until = CASE WHEN settle_until IS NULL OR settle_until < $4 THEN $4 ELSE settle_until END",
            replace: "settle_until = $4",
        }],
        watch: Watch::store(&["takeover::a_takeover_opens_every_attempt"]),
    },
    Sabotage {
        name: "claims-never-forgiven",
        rule: "a claim counts only until there is an outcome",
        cuts: &[Cut {
            file: "crates/store/src/lane/settle.rs",
            find: "let claims = if was_write { 0 } else { raw.claims };",
            replace: "let claims = if was_write { raw.claims } else { raw.claims };",
        }],
        watch: Watch::store(&["takeover::a_claim_counts_until"]),
    },
    Sabotage {
        name: "lost-wake-up",
        rule: "the sweep of lanes finds what is due in a lane that was released until later",
        cuts: &[Cut { file: "crates/store/src/fleet.rs", find: "AND (due_at IS NULL OR due_at > $1)", replace: "AND due_at IS NULL" }],
        watch: Watch::store(&["wakes::a_lane_that_was_released"]),
    },
    Sabotage {
        name: "max-concurrency-unread",
        rule: "a tenant has as many lanes at once as it set",
        cuts: &[Cut {
            file: "crates/store/src/config/change.rs",
            find: "max_concurrency = $16,",
            replace: "max_concurrency = max_concurrency + 0 * $16,",
        }],
        watch: Watch::store(&["claims::a_tenant_has_as_many_lanes"]),
    },
    Sabotage {
        name: "a-failed-write-stays",
        rule: "of the writes that are committed together one that fails leaves nothing",
        cuts: &[Cut {
            file: "crates/store/src/engine/writer.rs",
            find: r#"            say(tx, "ROLLBACK TO one_write")?;"#,
            replace: r#"            say(tx, "SELECT 1")?;"#,
        }],
        watch: Watch::inside("ponte-store", &["engine::tests::of_a_hundred_writes", "engine::tests::on_many_threads"]),
    },
    Sabotage {
        name: "lease-takes-the-disk-from-others",
        rule: "what is acknowledged is on the disk, whatever is committed beside it",
        cuts: &[Cut {
            file: "crates/store/src/engine/writer.rs",
            find: "map(|job| job.lasting()).max()",
            replace: "map(|job| job.lasting()).min()",
        }],
        watch: Watch::inside("ponte-store", &["engine::tests::only_leases"]),
    },
    Sabotage {
        name: "fresh-behind-backlog-unseen",
        rule: "fairness: a lane goes on until it has come to what is fresh",
        cuts: &[Cut { file: "crates/sync/src/lane.rs", find: "work.fresh || work.rows.iter()", replace: "work.rows.iter()" }],
        watch: Watch::engine(&["fairness::fresh_goes_before_backlog_in_one_lane"]),
    },
    Sabotage {
        name: "frozen-with-its-locks",
        rule: "a node that freezes in a transaction on PostgreSQL does not keep its locks",
        cuts: &[Cut {
            file: "crates/store/src/engine.rs",
            find: r#"const BEGIN_WRITE: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 4000";"#,
            replace: r#"const BEGIN_WRITE: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0";"#,
        }],
        watch: Watch::inside("ponte-store", &["engine::tests::who_freezes"]),
    },
    Sabotage {
        name: "statements-kept-behind-a-pooler",
        rule: "behind a pooler in transaction mode no statement keeps a name",
        cuts: &[
            Cut {
                file: "crates/store/src/engine/tx.rs",
                find: "keeps: way == Way::Direct,",
                replace: "keeps: way == Way::Direct || way == Way::Pooled,",
            },
            Cut {
                file: "crates/store/src/engine.rs",
                find: "if way == Way::Pooled { options.statement_cache_capacity(0) } else { options }",
                replace: "options",
            },
        ],
        watch: Watch { package: "ponte-store", program: Some("pooler"), filters: &["nodes_share"] },
    },
    Sabotage {
        name: "refused-patient-in-a-circle",
        rule: "law 2: what waits for a Patient that only a person can bring says so, and no lane is due for it",
        cuts: &[Cut {
            file: "crates/store/src/standing/stream.rs",
            find: "let rests = !by_link && rests_unknown(tx, tenant, patient, &own).await?;",
            replace: "let rests = !by_link && rests_unknown(tx, tenant, patient, &own).await? && own.is_empty();",
        }],
        watch: Watch::engine(&["linking::the_observations_of_a_patient_whom_the_ehr_refuses"]),
    },
    Sabotage {
        name: "never-sought-at-the-new-ehr",
        rule: "another base URL is another EHR: what became of a Patient at the old one says nothing of it there",
        cuts: &[Cut {
            file: "crates/store/src/ledger/person.rs",
            find: "State::Dead | State::Superseded | State::Canceled => unknown_here && raw.observation.is_none(),",
            replace: "State::Dead | State::Superseded | State::Canceled => false,",
        }],
        watch: Watch::engine(&["homes::a_patient_whom_only_the_old_ehr_knew"]),
    },
    Sabotage {
        name: "gone-and-said-to-be-synced",
        rule: "what the hospital deleted is not said to be at the EHR",
        cuts: &[Cut {
            file: "crates/store/src/lane/settle.rs",
            find: "if state == State::Held(HeldReason::GoneAtEhr)",
            replace: "if state == State::Held(HeldReason::PatientUnlinked)",
        }],
        watch: Watch::engine(&["outcomes::an_observation_that_is_found_deleted"]),
    },
];
