//! The laws beside the ledger: the right patient, tenants, secrets, fairness, digits, and pulls that are complete.

use super::{Cut, Sabotage, Watch};

pub(super) const SABOTAGES: &[Sabotage] = &[
    Sabotage {
        name: "digits-lost",
        rule: "law 7: decimals keep their digits",
        cuts: &[Cut {
            file: "crates/model/src/decimal.rs",
            find: "serde_json::from_str::<serde_json::Number>(text).ok().map(Self)",
            replace: "serde_json::Number::from_f64(serde_json::from_str::<serde_json::Number>(text).ok()?.as_f64()?).map(Self)",
        }],
        watch: Watch::engine(&["laws::digits_and_offsets"]),
    },
    Sabotage {
        name: "birth-date-ignored",
        rule: "law 3: a link agrees on the birth date",
        cuts: &[Cut {
            file: "crates/fhir/src/mapping/evidence.rs",
            find: "let doubt = first.or(birth_date).or(placeholder.then_some(Doubt::Placeholder));",
            replace: "let doubt = first.or(placeholder.then_some(Doubt::Placeholder));",
        }],
        watch: Watch::engine(&["linking::the_same_cpf_with_another_birth_date"]),
    },
    Sabotage {
        name: "foreign-next-link",
        rule: "law 5: a next link to another origin is not followed",
        cuts: &[Cut {
            file: "crates/ehr/src/client/walk.rs",
            find: "if !same_origin(&url, base) {",
            replace: "if !same_origin(&url, base) && url.port() == Some(0) {",
        }],
        watch: Watch::inside("ponte-ehr", &["next_links_are_followed"]),
    },
    Sabotage {
        name: "no-sweep",
        rule: "law 2: what waits for its hour is swept",
        cuts: &[Cut {
            file: "crates/store/src/fleet/sweep.rs",
            find: "swept += sweep_tenant(inner, &tenant, now).await?;",
            replace: "swept += u64::from(now.0 < 0 && tenant.as_str().is_empty());",
        }],
        watch: Watch::engine(&["retry::a_row_that_fails_by_itself"]),
    },
    Sabotage {
        name: "patients-order-lost",
        rule: "law 6: the order of one patient is kept",
        cuts: &[Cut { file: "crates/store/src/lane/work.rs", find: "ORDER BY w.seq LIMIT 1", replace: "ORDER BY w.seq DESC LIMIT 1" }],
        watch: Watch::engine(&["laws::the_order"]),
    },
    Sabotage {
        name: "lanes-do-not-take-turns",
        rule: "law 6: the longest unserved lane of a tenant is served first",
        cuts: &[Cut {
            file: "crates/store/src/fleet/lanes.rs",
            find: "ORDER BY served_at, shard LIMIT 1",
            replace: "ORDER BY shard LIMIT 1",
        }],
        watch: Watch::engine(&["fairness::a_fresh_observation"]),
    },
    Sabotage {
        name: "tenants-do-not-take-turns",
        rule: "law 6: the longest unserved tenant is served first",
        cuts: &[Cut {
            file: "crates/store/src/fleet/lanes.rs",
            find: "ORDER BY t.served_at, t.tenant_id LIMIT 1",
            replace: "ORDER BY t.tenant_id LIMIT 1",
        }],
        watch: Watch::store(&["claims::many_lanes_are_no_many_fold_share"]),
    },
    Sabotage {
        name: "a-ripe-lane-is-forgotten",
        rule: "law 6: a lane whose moment has come keeps its tenant's turn",
        cuts: &[Cut {
            file: "crates/store/src/fleet/lanes.rs",
            find: "ripe = EXISTS (SELECT 1 FROM lanes l WHERE l.tenant_id = $1 AND l.ripe)",
            replace: "ripe = false",
        }],
        watch: Watch::store(&["claims::"]),
    },
    Sabotage {
        name: "claims-beside-each-other",
        rule: "law 6: a tenant has no more lanes at once than it may, on all nodes together",
        cuts: &[
            Cut { file: "crates/store/src/fleet/lanes.rs", find: "\" FOR NO KEY UPDATE OF t SKIP LOCKED\"", replace: "\"\"" },
            Cut { file: "crates/store/src/fleet/lanes.rs", find: "\" FOR NO KEY UPDATE OF t\"", replace: "\"\"" },
        ],
        watch: Watch::store(&["claims::two_nodes_that_claim_at_once_count"]),
    },
    Sabotage {
        name: "a-full-hospital-hides-the-others-pulls",
        rule: "law 6: the pulls of one hospital keep no other's waiting",
        cuts: &[Cut {
            file: "crates/store/src/fleet/pulls.rs",
            find: "found.is_none() && are_many_due",
            replace: "found.is_some() && are_many_due",
        }],
        watch: Watch::store(&["pulls::a_hospital_whose_pulls_all_wait"]),
    },
    Sabotage {
        name: "pulls-without-a-limit",
        rule: "law 6: a tenant has two pulls at once",
        cuts: &[Cut { file: "crates/store/src/fleet/pulls.rs", find: ") < 2\"", replace: ") < 200\"" }],
        watch: Watch::store(&["pulls::a_hospital_whose_pulls_all_wait"]),
    },
    Sabotage {
        name: "a-write-says-nothing-of-its-connection",
        rule: "a write that the EHR took ends the connection's round of failures",
        cuts: &[Cut {
            file: "crates/store/src/lane.rs",
            find: "if said && !config::is_fresh",
            replace: "if said && now < Timestamp(0) && !config::is_fresh",
        }],
        watch: Watch { package: "ponte-store", program: Some("reference"), filters: &["a_sqlite_file"] },
    },
    Sabotage {
        name: "a-good-answer-lifts-the-rest-beside-it",
        rule: "an EHR that fails rests, whatever it took a moment before",
        cuts: &[Cut {
            file: "crates/sync/src/lane.rs",
            find: "works: settlement.works && self.connection_next.is_none(),",
            replace: "works: settlement.works,",
        }],
        watch: Watch::engine(&["retry::a_failure_among_good_answers"]),
    },
    Sabotage {
        name: "all-leased-lanes-are-at-the-ehr",
        rule: "no more of a tenant's lanes are at its EHR at once than maxConcurrency says",
        cuts: &[Cut {
            file: "crates/sync/src/places.rs",
            find: "usize::try_from(most).unwrap_or(1).max(1)",
            replace: "usize::try_from(most).unwrap_or(1).max(100)",
        }],
        watch: Watch::engine(&["places::no_more_lanes"]),
    },
    Sabotage {
        name: "who-waited-for-a-place-knocks-all-the-same",
        rule: "an EHR that fails rests, also from who had read its rows before",
        cuts: &[Cut {
            file: "crates/sync/src/places.rs",
            find: "self.door.failures.load(Ordering::SeqCst) == self.failures_before",
            replace: "self.door.failures.load(Ordering::SeqCst) >= self.failures_before",
        }],
        watch: Watch::engine(&["places::who_waited_for_a_place"]),
    },
    Sabotage {
        name: "who-waits-for-a-place-keeps-its-worker",
        rule: "law 6: an EHR that hangs takes no worker from the others but those that wait for its answers",
        cuts: &[Cut { file: "crates/sync/src/places.rs", find: "            self.slot.give_back();\n", replace: "" }],
        watch: Watch::engine(&["places::who_waits_for_a_place"]),
    },
    Sabotage {
        name: "a-write-for-who-was-linked-when-it-was-read",
        rule: "law 3: what a person said of a patient holds for what has not begun, however long ago its turn was read",
        cuts: &[Cut {
            file: "crates/store/src/lane/begin.rs",
            find: "row.linked.as_ref() == Some(subject)",
            replace: "(row.linked.is_some() || !subject.as_str().is_empty())",
        }],
        watch: Watch::store(&["beginning::nothing_is_begun_for_the_patient"]),
    },
    Sabotage {
        name: "what-was-withdrawn-while-it-waited-goes",
        rule: "a version that nobody wants any more before a byte of it has left never leaves",
        cuts: &[Cut {
            file: "crates/store/src/lane/begin.rs",
            find: "if matches!(state, State::Pending | State::RetryScheduled) {",
            replace: "if !matches!(state, State::Uncertain) {",
        }],
        watch: Watch::engine(&["places::who_waited_for_a_place_brings_neither"]),
    },
    Sabotage {
        name: "a-connection-that-is-off-is-read",
        rule: "nothing is asked for a delivery once an admin has turned the connection off",
        cuts: &[Cut {
            file: "crates/sync/src/lane.rs",
            find: "if self.enter().await? && self.lane.goes_on(self.engine.now()).await? == Fenced::Lost {",
            replace: "if self.enter().await? && false {",
        }],
        watch: Watch::engine(&["places::who_waited_for_a_place_reads_nothing"]),
    },
    Sabotage {
        name: "a-connection-that-is-off-is-pulled-to-the-end",
        rule: "no further page is asked once an admin has turned the connection off",
        cuts: &[Cut {
            file: "crates/sync/src/pull/turn.rs",
            find: "        Ok(wanted(self.claim.tenant().connection().await?).map(drop))",
            replace: "        Ok(Ok(()))",
        }],
        watch: Watch::engine(&["pull_trouble::a_pull_that_is_turned_off"]),
    },
    Sabotage {
        name: "a-probe-that-asked-nothing-is-kept",
        rule: "what has nothing to ask keeps nobody from trying the EHR again",
        cuts: &[Cut {
            file: "crates/sync/src/lane.rs",
            find: "        lane.tenant().give_back_probe(until).await?;",
            replace: "        let _ = until;",
        }],
        watch: Watch::engine(&["retry::a_probe_that_asked_nothing"]),
    },
    Sabotage {
        name: "a-probe-without-an-outcome-is-given-back",
        rule: "an EHR that fails is tried once at a time",
        cuts: &[Cut {
            file: "crates/sync/src/lane.rs",
            find: "probe_until.filter(|_| !unanswered)",
            replace: "probe_until.filter(|_| !unanswered || worked)",
        }],
        watch: Watch::engine(&["retry::a_probe_without_an_outcome"]),
    },
    Sabotage {
        name: "a-walk-goes-on-as-another-account",
        rule: "what another account may not see is not taken for deleted",
        cuts: &[Cut {
            file: "crates/store/src/config/change.rs",
            find: "        begin_pulls_anew(tx, tenant, now).await?;",
            replace: "        if false { begin_pulls_anew(tx, tenant, now).await?; }",
        }],
        watch: Watch::engine(&["pull_trouble::a_pull_under_way_goes_on"]),
    },
    Sabotage {
        name: "a-text-is-read-as-values",
        rule: "an answer of 16 MiB takes no gigabyte of memory",
        cuts: &[Cut {
            file: "crates/fhir/src/json.rs",
            find: "|string| !is_reserved(string)",
            replace: "|string| !is_reserved(string) || !string.is_empty()",
        }],
        watch: Watch { package: "ponte-fhir", program: None, filters: &["json::tests::what_stands_in_a_string"] },
    },
    Sabotage {
        name: "an-old-reading-links-anew",
        rule: "law 3: what was judged from a patient who was corrected since links nobody",
        cuts: &[Cut {
            file: "crates/store/src/lane/link.rs",
            find: "if row.int(\"version\")? != from.version || known",
            replace: "if row.int(\"version\")? == i64::MIN && known",
        }],
        watch: Watch::store(&["beginning::a_reading_of_who_was_corrected"]),
    },
    Sabotage {
        name: "a-new-write-for-who-was-held-since",
        rule: "law 3: a patient who was held while a write waited gets none",
        cuts: &[Cut { file: "crates/store/src/lane/begin.rs", find: "|| !row.blocked)", replace: "|| !row.blocked || row.blocked)" }],
        watch: Watch::store(&["beginning::nothing_new_is_begun_for_a_patient_who_was_held"]),
    },
    Sabotage {
        name: "a-changed-configuration-waits-for-the-turn",
        rule: "a change of configuration holds from the next attempt on",
        cuts: &[Cut { file: "crates/store/src/lane/begin.rs", find: "now == Some(revision) &&", replace: "now.is_some() &&" }],
        watch: Watch::store(&["beginning::nothing_new_is_begun_under_a_configuration"]),
    },
    Sabotage {
        name: "a-node-that-ends-begins-more",
        rule: "after the signal to end nothing new is begun",
        cuts: &[Cut { file: "crates/sync/src/places.rs", find: "!self.slot.ended.is_cancelled() && ", replace: "" }],
        watch: Watch::engine(&["places::a_node_that_ends"]),
    },
    Sabotage {
        name: "a-claim-never-waits",
        rule: "law 6: a node that comes second while lanes are being marked finds those that are left",
        cuts: &[Cut {
            file: "crates/store/src/fleet/lanes.rs",
            find: "Found::Nobody if !marked && !tx.is_alone() => {}",
            replace: "Found::Nobody if marked && !marked => {}",
        }],
        watch: Watch::store(&["claims::two_nodes_that_claim_at_once_never"]),
    },
    Sabotage {
        name: "backlog-before-fresh",
        rule: "law 6: a fresh observation overtakes its tenant's backlog",
        cuts: &[
            Cut { file: "crates/store/src/lane/work.rs", find: "fresh_at > 0", replace: "fresh_at >= 0" },
            Cut {
                file: "crates/store/src/lane/work.rs",
                find: "ORDER BY fresh_at DESC, head_due, patient_id LIMIT",
                replace: "ORDER BY head_due, patient_id LIMIT",
            },
        ],
        watch: Watch::store(&["claims::what_is_fresh"]),
    },
    Sabotage {
        name: "poison-goes-on",
        rule: "law 6: what has killed the process five times is dead",
        cuts: &[Cut {
            file: "crates/store/src/lane.rs",
            find: "pub(crate) const CLAIMS_MAX: i64 = 5;",
            replace: "pub(crate) const CLAIMS_MAX: i64 = i64::MAX;",
        }],
        watch: Watch::engine(&["poison::a_row_that_kills"]),
    },
    Sabotage {
        name: "anywhere-is-home",
        rule: "a copied database sends nothing",
        cuts: &[Cut {
            file: "crates/store/src/installation.rs",
            find: "let here = known.as_ref().is_none_or(|(home, _)| place.is(home));",
            replace: "let here = known.as_ref().is_none_or(|(home, _)| place.is(home) || !home.is_empty());",
        }],
        watch: Watch::engine(&["homes::a_copied_database"]),
    },
    Sabotage {
        name: "restored-without-asking",
        rule: "a restored database settles first what may have happened since",
        cuts: &[Cut {
            file: "crates/store/src/installation.rs",
            find: "if what == Adopt::Restored {",
            replace: "if what == Adopt::Restored && settle_ms < 0 {",
        }],
        watch: Watch::engine(&["homes::a_restored_database"]),
    },
    Sabotage {
        name: "rule-overrules-a-person",
        rule: "law 3: a rule that decides late does not overrule the person who decided meanwhile",
        cuts: &[
            Cut {
                file: "crates/store/src/lane/link.rs",
                find: r#"if present && by.is_some_and(|by| by.starts_with("person:")) && !same {"#,
                replace: r#"if present && by.is_some_and(|by| by.starts_with("nobody:")) && !same {"#,
            },
            Cut {
                file: "crates/store/src/lane/link.rs",
                find: "row.int(\"version\")? != from.version || known != (from.by.clone(), from.ehr_id.clone())",
                replace: "row.int(\"version\")? != from.version && known != (from.by.clone(), from.ehr_id.clone())",
            },
        ],
        watch: Watch::engine(&["linking::a_persons_link"]),
    },
    Sabotage {
        name: "hospitals-version-taken-by-pull",
        rule: "a pull does not take the hospital's ETag for ours",
        cuts: &[Cut {
            file: "crates/store/src/pulls/page.rs",
            find: "self.write(tx, known.id, known.version, &draft, row, known.ehr_version.as_deref()).await?;",
            replace: "self.write(tx, known.id, known.version, &draft, row, Some(&row.ehr_version)).await?;",
        }],
        watch: Watch::engine(&["outcomes::a_note_that_the_hospital_added"]),
    },
    Sabotage {
        name: "additions-unseen-by-pull",
        rule: "law 8: what the hospital adds to our row is shown",
        cuts: &[Cut {
            file: "crates/store/src/pulls/page.rs",
            find: "same_content(&known.draft, &row.draft) && !row.more;",
            replace: "same_content(&known.draft, &row.draft);",
        }],
        watch: Watch::engine(&["outcomes::a_note_that_the_hospital_added"]),
    },
    Sabotage {
        name: "sealed-index-readable",
        rule: "law 5: national identifiers are sealed at rest",
        cuts: &[Cut {
            file: "crates/store/src/seal.rs",
            find: r"        hex(&keyed.finalize().into_bytes())
",
            replace: r"        value.to_owned()
",
        }],
        watch: Watch { package: "ponte-store", program: Some("sealing"), filters: &["no_marker"] },
    },
    Sabotage {
        name: "persons-link-judged-by-rules",
        rule: "law 3: a person's link always wins",
        cuts: &[Cut {
            file: "crates/sync/src/reading.rs",
            find: "if !patient.link.by_person() {",
            replace: "if !patient.link.by_person() || there.birth_date.is_some() {",
        }],
        watch: Watch::engine(&["linking::a_persons_link"]),
    },
    Sabotage {
        name: "row-of-anybody",
        rule: "law 8: every row's subject is checked",
        cuts: &[Cut {
            file: "crates/sync/src/pull/row.rs",
            find: "if !observation.subject_is(&self.ehr_id, &self.base_url) {",
            replace: "if !observation.subject_is(&self.ehr_id, &self.base_url) && raw.is_empty() {",
        }],
        watch: Watch::engine(&["assumptions::row_17", "pull::rows_of_other_patients"]),
    },
    Sabotage {
        name: "no-overlap",
        rule: "law 8: a pull reaches back behind its watermark",
        cuts: &[Cut {
            file: "crates/sync/src/pull/turn.rs",
            find: "self.state.watermark.map(|watermark| watermark.plus_ms(-overlap));",
            replace: "self.state.watermark.map(|watermark| watermark.plus_ms(overlap.min(0)));",
        }],
        watch: Watch::engine(&["pull::a_second_pull"]),
    },
    Sabotage {
        name: "links-instead-of-values",
        rule: "law 8: the list is walked by value, not by next links",
        cuts: &[Cut {
            file: "crates/sync/src/pull/walk.rs",
            find: r"        match (outside, largest, &seen.next) {
",
            replace: r"        if seen.next != Onward::End {
            return self.follow(&seen.next);
        }
        if self.linked {
            return Step::Done;
        }
        match (outside, largest, &seen.next) {
",
        }],
        watch: Watch::engine(&["pull::three_hundred_rows"]),
    },
    Sabotage {
        name: "one-pass-is-enough",
        rule: "law 8: a pass over several pages is repeated until two are alike",
        cuts: &[Cut {
            file: "crates/sync/src/pull/walk.rs",
            find: "if !self.linked || self.proven() { Step::Done } else { self.again() }",
            replace: "Step::Done",
        }],
        watch: Watch::inside("ponte-sync", &["pull::walk"]),
    },
    Sabotage {
        name: "no-whole-read",
        rule: "law 8: a whole read follows from time to time",
        cuts: &[Cut {
            file: "crates/sync/src/pull/turn.rs",
            find: "at.review_due = !at.full && self.state.last_full_at.is_none_or(|last| now.ms_since(last) >= WHOLE_EVERY_MS);",
            replace: "at.review_due = !at.full && now.0 < WHOLE_EVERY_MS.min(0);",
        }],
        watch: Watch::engine(&["pull::deletes_are_found"]),
    },
    Sabotage {
        name: "query-of-every-tenant",
        rule: "law 4: a query is of one tenant",
        cuts: &[Cut {
            file: "crates/store/src/ledger/read.rs",
            find: r#"" FROM deliveries d WHERE d.tenant_id = $1 AND d.id = $2""#,
            replace: r#"" FROM deliveries d WHERE CAST($1 AS TEXT) IS NOT NULL AND d.id = $2""#,
        }],
        watch: Watch::api(&["doors::another_tenants_ids"]),
    },
    Sabotage {
        name: "any-role-may",
        rule: "the contract: some doors are the administrator's alone",
        cuts: &[Cut {
            file: "crates/web/src/auth.rs",
            find: "if self.role == Role::Admin {",
            replace: "if self.role == Role::Admin || !self.sub.is_empty() {",
        }],
        watch: Watch::api(&["doors::a_role_may"]),
    },
    Sabotage {
        name: "cursor-of-another-tenant",
        rule: "law 4: a cursor is of one tenant and one list",
        cuts: &[Cut {
            file: "crates/web/src/cursor.rs",
            find: "for part in [tenant.as_str().as_bytes(), list.as_bytes()] {",
            replace: "for part in [&tenant.as_str().as_bytes()[..0], list.as_bytes()] {",
        }],
        watch: Watch::api(&["cursors::another_tenants"]),
    },
    Sabotage {
        name: "path-in-the-log",
        rule: "law 5: no patient data in a log line",
        cuts: &[Cut {
            file: "crates/web/src/edge.rs",
            find: "route = %route,",
            replace: r"route = %route,
        uri = %request.uri(),",
        }],
        watch: Watch { package: "ponte-web", program: Some("logs"), filters: &["markers_are_in_no_log"] },
    },
];
