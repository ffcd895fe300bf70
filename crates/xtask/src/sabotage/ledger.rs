//! The effect ledger: its twelve rules and the means of a write, each taken out by itself (ARCHITECTURE.md, "The ledger").

use super::{Cut, Sabotage, Watch};

pub(super) const SABOTAGES: &[Sabotage] = &[
    Sabotage {
        name: "a-repeat-after-the-settle-time",
        rule: "rule 2: the same PUT may go again within its settle time; later it is read first",
        cuts: &[Cut {
            file: "crates/store/src/lane/begin.rs",
            find: "Ok(next(raw.state, &raw.facts(now)",
            replace: "Ok(raw.state == State::Uncertain || next(raw.state, &raw.facts(now)",
        }],
        watch: Watch::store(&["beginning::a_put_is_repeated"]),
    },
    Sabotage {
        name: "found-is-applied",
        rule: "rule 3: an update is applied only if the version found is ours",
        cuts: &[Cut {
            file: "crates/model/src/delivery/next.rs",
            find: r"own_settle_until.is_none_or(|until| now > until);
    match found {
        Found::Version { version, etag } if *version == facts.version =>",
            replace: r"own_settle_until.is_none_or(|until| now > until);
    match found {
        Found::Version { version, etag } if *version <= facts.version =>",
        }],
        watch: Watch::engine(&["outcomes::a_new_version_that_changed_nothing"]),
    },
    Sabotage {
        name: "conditional-200-unread",
        rule: "rule 3: a 200 on a conditional create delivers only the version that it shows",
        cuts: &[Cut {
            file: "crates/model/src/delivery/next.rs",
            find: r"fn found_on_answer(facts: &Facts, found: &Found) -> Next {
    match found {
        Found::Version { version, etag } if *version == facts.version =>",
            replace: r"fn found_on_answer(facts: &Facts, found: &Found) -> Next {
    match found {
        Found::Version { version, etag } if *version <= facts.version =>",
        }],
        watch: Watch::engine(&["traces_create::trace_18"]),
    },
    Sabotage {
        name: "empty-search-early",
        rule: "rule 2: an empty search counts only after the settle time",
        cuts: &[Cut {
            file: "crates/model/src/delivery/next.rs",
            find: "if facts.own_settle_until.is_none_or(|until| *sent_at > until) {",
            replace: "if sent_at.0 > 0 || facts.own_settle_until.is_none_or(|until| *sent_at > until) {",
        }],
        watch: Watch::engine(&["traces_create::trace_05", "assumptions::row_04"]),
    },
    Sabotage {
        name: "empty-search-answered-late",
        rule: "rule 2: an empty search counts by when it was sent, not by when it is answered",
        cuts: &[Cut {
            file: "crates/model/src/delivery/next.rs",
            find: "if facts.own_settle_until.is_none_or(|until| *sent_at > until) {",
            replace: "if sent_at.0 > 0 && facts.own_settle_until.is_none_or(|until| now > until) {",
        }],
        watch: Watch::engine(&["traces_create::trace_07"]),
    },
    Sabotage {
        name: "blind-resend",
        rule: "law 1: what was not answered is never sent again blind",
        cuts: &[Cut {
            file: "crates/model/src/delivery/next.rs",
            find: r"(InFlight | Uncertain, Event::NoAnswer { now, settle_ms }) => {
            Next { settle_until: Some(now.plus_ms(*settle_ms)), ..to(Uncertain, Action::None) }",
            replace: r"(InFlight | Uncertain, Event::NoAnswer { now, settle_ms }) => {
            Next { settle_until: Some(now.plus_ms(*settle_ms)), ..to(RetryScheduled, Action::None) }",
        }],
        watch: Watch::engine(&["traces_create::trace_05", "outcomes::every_way_to_lose"]),
    },
    Sabotage {
        name: "refused-412",
        rule: "rule 7: a 412 on a PUT is read first, never refused",
        cuts: &[Cut {
            file: "crates/model/src/delivery/next.rs",
            find: "(InFlight | Uncertain, Event::PreconditionFailed { .. }) => to(Uncertain, Action::Read),",
            replace: "(InFlight | Uncertain, Event::PreconditionFailed { .. }) => to(Dead, Action::None),",
        }],
        watch: Watch::engine(&["traces::trace_15"]),
    },
    Sabotage {
        name: "late-answer-sets-back",
        rule: "rule 8: a late answer never sets back a known version",
        cuts: &[Cut {
            file: "crates/model/src/delivery/next.rs",
            find: r"(Delivered, Event::LateApplied { .. }) => match facts.resource_settle_until {
            Some(at) => to(Delivered, Action::ReadAfter { at, etag: None }),
            None => to(Delivered, Action::Read),
        },",
            replace: "(Delivered, Event::LateApplied { etag }) => to(Delivered, Action::KeepEtag { etag: etag.clone() }),",
        }],
        watch: Watch::inside("ponte-model", &["traces_11_and_13"]),
    },
    Sabotage {
        name: "older-version-stays",
        rule: "rule 6: an older version found after settling is replaced",
        cuts: &[Cut {
            file: "crates/model/src/delivery/next.rs",
            find: "Found::Version { version, etag } if *version >= facts.version => to(State::Delivered, Action::KeepEtag { etag: etag.clone() }),",
            replace: "Found::Version { version, etag } if *version >= 0 => to(State::Delivered, Action::KeepEtag { etag: etag.clone() }),",
        }],
        watch: Watch::inside("ponte-model", &["trace_9"]),
    },
    Sabotage {
        name: "settling-is-the-deliverys",
        rule: "rule 1: an open attempt blocks whatever became of its delivery",
        cuts: &[
            Cut {
                file: "crates/store/src/ledger/raw.rs",
                find: r#"AND a.is_write AND (a.class IS NULL OR a.class = 'uncertain')) AS resource_open_until""#,
                replace: r#"AND a.is_write AND (a.class IS NULL OR a.class = 'uncertain') AND NOT EXISTS (SELECT 1 FROM deliveries x \
           WHERE x.tenant_id = a.tenant_id AND x.id = a.delivery_id AND x.state = 'delivered')) AS resource_open_until""#,
            },
            Cut {
                file: "crates/store/src/standing/stream.rs",
                find: r#"a.resource_id = d.observation_id AND a.is_write AND (a.class IS NULL OR a.class = 'uncertain')"#,
                replace: r#"a.resource_id = d.observation_id AND a.is_write AND (a.class IS NULL OR a.class = 'uncertain') AND NOT EXISTS \
             (SELECT 1 FROM deliveries x WHERE x.tenant_id = $1 AND x.id = a.delivery_id AND x.state = 'delivered')"#,
            },
        ],
        watch: Watch::engine(&["traces::trace_02"]),
    },
    Sabotage {
        name: "settling-from-the-start",
        rule: "rule 1: the settle time counts from the takeover, never from the start",
        cuts: &[Cut {
            file: "crates/store/src/lane/takeover.rs",
            find: "settle_until = CASE WHEN settle_until IS NULL OR settle_until < $4 THEN $4 ELSE settle_until END",
            replace: "settle_until = COALESCE(settle_until, at + $4 - $3)",
        }],
        watch: Watch::engine(&["traces_create::trace_04"]),
    },
    Sabotage {
        name: "takeover-without-settling",
        rule: "rule 1: a takeover opens a settle time for every attempt without an outcome",
        cuts: &[Cut {
            file: "crates/store/src/lane/takeover.rs",
            find: "settle_until = CASE WHEN settle_until IS NULL OR settle_until < $4 THEN $4 ELSE settle_until END",
            replace: "settle_until = CASE WHEN settle_until IS NULL OR settle_until < $4 THEN $3 ELSE settle_until END",
        }],
        watch: Watch::engine(&["traces::trace_03", "traces_create::trace_08"]),
    },
    Sabotage {
        name: "no-fence",
        rule: "rule 8: results of a lost lease are refused",
        cuts: &[
            Cut { file: "crates/store/src/lane.rs", find: r#"epoch = $3 AND lease_until IS NOT NULL";"#, replace: r#"epoch >= $3";"# },
            Cut {
                file: "crates/store/src/lane.rs",
                find: r#"epoch = $3 AND lease_until IS NOT NULL FOR KEY SHARE";"#,
                replace: r#"epoch >= $3 FOR KEY SHARE";"#,
            },
        ],
        watch: Watch::engine(&["traces_create::trace_11"]),
    },
    Sabotage {
        name: "late-answer-lost",
        rule: "rule 8: a late answer is kept with its attempt",
        cuts: &[Cut {
            file: "crates/store/src/lane/settle.rs",
            find: r#"WHERE tenant_id = $1 AND id = $2 AND late_at IS NULL","#,
            replace: r#"WHERE tenant_id = $1 AND id = $2 AND late_at IS NOT NULL","#,
        }],
        watch: Watch::engine(&["traces::trace_13"]),
    },
    Sabotage {
        name: "known-version-set-back",
        rule: "rule 8: what is known of a newer version is not set back by an older one",
        cuts: &[Cut {
            file: "crates/store/src/lane/settle.rs",
            find: "if known.is_some_and(|known| known > raw.version) {",
            replace: "if known.is_some_and(|known| known > raw.version && known < 0) {",
        }],
        watch: Watch::engine(&["outcomes::an_audit_of_an_older_version"]),
    },
    Sabotage {
        name: "next-write-does-not-wait",
        rule: "rule 4: the next different write waits while an attempt is open",
        cuts: &[
            Cut {
                file: "crates/sync/src/turn.rs",
                find: "let settled = row.resource_settle_until.is_none_or(|until| now > until);",
                replace: "let settled = true;",
            },
            Cut {
                file: "crates/store/src/standing/stream.rs",
                find: "(Some(due), Some(until)) => Some(due.max(until + 1)),",
                replace: "(Some(due), Some(_)) => Some(due),",
            },
        ],
        watch: Watch::engine(&["traces::trace_02", "traces::trace_05_and_09"]),
    },
    Sabotage {
        name: "uncertain-patient-writes-on",
        rule: "rule 5: an uncertain delivery stops new writes of its patient",
        cuts: &[
            Cut { file: "crates/sync/src/turn.rs", find: "if unsettled || work.blocked {", replace: "if work.blocked {" },
            Cut {
                file: "crates/store/src/standing/stream.rs",
                find: r#"let stopped = by_link || rests || stream.int("unsettled")? > 0;"#,
                replace: "let stopped = by_link || rests;",
            },
        ],
        watch: Watch::engine(&["fairness::an_uncertain_row", "laws::the_order"]),
    },
    Sabotage {
        name: "uncertain-rows-wait-too",
        rule: "rule 5: asking and repeating go on for each row by itself",
        cuts: &[Cut {
            file: "crates/sync/src/turn.rs",
            find: "if due(row) {",
            replace: "if due(row) && work.rows.iter().filter(|other| matches!(other.state, State::InFlight | State::Uncertain)).count() == 1 {",
        }],
        watch: Watch::engine(&["traces::trace_17", "homes::a_restored_database"]),
    },
    Sabotage {
        name: "no-read-afterwards",
        rule: "rule 6: after an attempt that was left open the resource is read once more",
        cuts: &[Cut {
            file: "crates/sync/src/settle.rs",
            find: "Action::ReadAfter { at, .. } => Some((at.plus_ms(1), 0)),",
            replace: "Action::ReadAfter { .. } => None,",
        }],
        watch: Watch::engine(&["traces::trace_14"]),
    },
    Sabotage {
        name: "no-audits",
        rule: "rule 10: attempts that never had an outcome are audited",
        cuts: &[Cut {
            file: "crates/sync/src/settle.rs",
            find: "_ if row.sent_before || row.own_settle_until.is_some() || row.state == State::Uncertain => {",
            replace: "_ if row.id.0.is_nil() => {",
        }],
        watch: Watch::engine(&["traces_create::a_frozen_senders"]),
    },
    Sabotage {
        name: "lease-not-checked-last",
        rule: "rule 9: the lease is checked last before the send",
        cuts: &[Cut {
            file: "crates/sync/src/lane.rs",
            find: "Arc::new(move || until.ms_since(clock.now()) >= need)",
            replace: "Arc::new(move || until.ms_since(clock.now()) >= need || need > 0)",
        }],
        watch: Watch::engine(&["traces::trace_12"]),
    },
    Sabotage {
        name: "withdrawn-keeps-its-status",
        rule: "rule 10: what is withdrawn stays there as entered-in-error",
        cuts: &[Cut {
            file: "crates/store/src/observations/write.rs",
            find: r#""entered-in-error".clone_into(&mut draft.status);"#,
            replace: r#"draft.status.push_str("");"#,
        }],
        watch: Watch::engine(&["laws::a_withdrawn_observation", "traces::trace_16"]),
    },
    Sabotage {
        name: "two-of-a-patient-in-a-batch",
        rule: "rule 11: a batch never holds two rows of one patient",
        cuts: &[Cut {
            file: "crates/sync/src/lane.rs",
            find: "ResourceKey::Observation(_) => observations.push((work, at)),",
            replace: r"ResourceKey::Observation(_) => {
                        for next in (at..work.rows.len()).filter(|next| work.rows[*next].state == model::State::Pending) {
                            observations.push((work.clone(), next));
                        }
                    }",
        }],
        watch: Watch::engine(&["laws::the_order"]),
    },
    Sabotage {
        name: "batch-judged-whole",
        rule: "rule 11: each entry of a batch is judged by itself",
        cuts: &[Cut {
            file: "crates/sync/src/push/batch.rs",
            find: "for (one, outcome) in chunk.iter().zip(outcomes) {",
            replace: "for (one, outcome) in chunk.iter().zip(vec![outcomes[0].clone(); outcomes.len()]) {",
        }],
        watch: Watch::engine(&["poison::one_failing_entry"]),
    },
    Sabotage {
        name: "uncertain-batch-stays-large",
        rule: "rule 11: after an uncertain batch the next ones are smaller",
        cuts: &[Cut {
            file: "crates/sync/src/push/batch.rs",
            find: "if uncertain || class == Class::TooLarge {",
            replace: "if class == Class::TooLarge {",
        }],
        watch: Watch::engine(&["poison::after_an_uncertain_batch"]),
    },
    Sabotage {
        name: "search-row-believed",
        rule: "rule 12: a search result counts only if the row carries the identifier",
        cuts: &[Cut {
            file: "crates/sync/src/found.rs",
            find: "if resource.resource_type() != ours.resource_type || !carries(resource, &ours.system, &ours.value) {",
            replace: "if resource.resource_type() != ours.resource_type {",
        }],
        watch: Watch::engine(&["assumptions::row_03"]),
    },
    Sabotage {
        name: "conditional-create-believed",
        rule: "means 3: the returned resource is checked to carry our identifier",
        cuts: &[Cut {
            file: "crates/sync/src/push.rs",
            find: r"if outcome.class == Class::Applied {
        // Done",
            replace: r"if matches!(outcome.class, Class::Applied | Class::Exists) {
        // Done",
        }],
        watch: Watch::engine(&["outcomes::a_200_on_a_conditional_create"]),
    },
    Sabotage {
        name: "conditional-create-of-anybody",
        rule: "means 3: the returned resource is checked to carry the patient",
        cuts: &[Cut { file: "crates/sync/src/push.rs", find: "Some(if subject {", replace: "Some(if subject || !raw.is_empty() {" }],
        watch: Watch::engine(&["outcomes::a_200_on_a_conditional_create"]),
    },
    Sabotage {
        name: "update-without-if-match",
        rule: "rule 4: If-Match goes with every update",
        cuts: &[Cut {
            file: "crates/sync/src/push/prepare.rs",
            find: "match_etag: if means == Means::Update { match_etag } else { None },",
            replace: "match_etag: match_etag.filter(|_| means == Means::OwnId),",
        }],
        watch: Watch::engine(&["outcomes::what_the_hospital_changed"]),
    },
    Sabotage {
        name: "hospitals-version-taken-by-audit",
        rule: "outcome table, 412: an audit does not take the hospital's ETag for ours",
        cuts: &[Cut {
            file: "crates/sync/src/ask.rs",
            find: "Found::Version { version: *version, etag: None },",
            replace: "Found::Version { version: *version, etag: etag.clone() },",
        }],
        watch: Watch::engine(&["outcomes::a_note_that_the_hospital_added"]),
    },
    Sabotage {
        name: "lock-not-sent",
        rule: "How a create is made safe, 2a: where `If-None-Match: *` is proven, creates carry it",
        cuts: &[Cut {
            file: "crates/ehr/src/client.rs",
            find: "if kind == Put::OwnIdUnlessThere || self.plan.if_none_match == Proof::Proven {",
            replace: "if kind == Put::OwnIdUnlessThere {",
        }],
        watch: Watch::engine(&["grades::under_a_lock"]),
    },
    Sabotage {
        name: "disproved-lock-believed",
        rule: "How a create is made safe: what ordinary writes disprove is believed no more",
        cuts: &[Cut {
            file: "crates/sync/src/push.rs",
            find: "            plan.if_none_match = Proof::Refused;\n",
            replace: "            plan.if_none_match = Proof::Proven;\n",
        }],
        watch: Watch::engine(&["grades::a_lock_that_ordinary"]),
    },
    Sabotage {
        name: "200-always-a-create",
        rule: "How a create is made safe, 2: a 200 to a first PUT is ours only where the history shows nothing else",
        cuts: &[Cut {
            file: "crates/sync/src/push.rs",
            find: "let created =\n        found.next == Next::End && versions.len() == 1",
            replace: "let created =\n        found.next == Next::End && !versions.is_empty() || versions.len() == 1",
        }],
        watch: Watch::engine(&["first_put::"]),
    },
    Sabotage {
        name: "probe-leaves-records",
        rule: "PROTOCOL 6, 3: what a write probe wrote is withdrawn",
        cuts: &[Cut {
            file: "crates/ehr/src/check/probe.rs",
            find: "let left = bench.withdraw().await;",
            replace: "let left: Vec<Value> = Vec::new();",
        }],
        watch: Watch::engine(&["grades::the_grade_is"]),
    },
];
