//! The command line: settings by layer, refusals that say what to do, exit codes for scripts.

mod running;

use running::{SECRET, keyed, ponte, said};
use serde_json::Value;
use tempfile::tempdir;

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let folder = tempdir().unwrap();
    for arguments in [&[][..], &["fly"], &["status", "--tenant", "a b"], &["token"], &["replay", "--tenant", "t"], &["trace", "not-an-id"]]
    {
        assert_eq!(said(&mut ponte(folder.path(), arguments)).code, 2, "{arguments:?}");
    }
    let version = said(&mut ponte(folder.path(), &["--version"]));
    assert_eq!((version.code, version.out.starts_with("ponte ")), (0, true));
}

#[test]
fn serve_refuses_to_start_without_keys_and_says_what_to_set() {
    let folder = tempdir().unwrap();
    let refused = said(&mut ponte(folder.path(), &["serve", "--listen", "127.0.0.1:0"]));
    assert_eq!(refused.code, 2);
    for part in ["PONTE_JWT_SECRET", "PONTE_JWKS_URL", "PONTE_ENCRYPTION_KEY", "openssl rand -base64 32"] {
        assert!(refused.err.contains(part), "{}", refused.err);
    }
    assert!(refused.out.is_empty());
    assert!(!folder.path().join("ponte.db").exists());
}

#[test]
fn a_mistyped_setting_is_refused_with_the_right_one() {
    let folder = tempdir().unwrap();
    let variable = said(keyed(folder.path(), &["migrate"]).env("PONTE_LISTNE", "127.0.0.1:1"));
    assert_eq!(variable.code, 2);
    assert!(variable.err.contains("did you mean PONTE_LISTEN?"), "{}", variable.err);
    std::fs::write(folder.path().join("ponte.toml"), "databse_url = \"sqlite://x.db\"\n").unwrap();
    let file = said(&mut keyed(folder.path(), &["migrate"]));
    assert_eq!(file.code, 2);
    assert!(file.err.contains("did you mean `database_url`?"), "{}", file.err);
}

#[test]
fn a_flag_goes_before_the_environment_and_that_before_the_file() {
    let folder = tempdir().unwrap();
    let there = |name: &str| folder.path().join(name).exists();
    std::fs::write(folder.path().join("ponte.toml"), "database_url = \"sqlite://file.db\"\n").unwrap();
    std::fs::write(folder.path().join("other.toml"), "database_url = \"sqlite://other.db\"\n").unwrap();
    assert_eq!(said(&mut keyed(folder.path(), &["migrate"])).code, 0);
    assert!(there("file.db") && !there("other.db"));
    assert_eq!(said(&mut keyed(folder.path(), &["migrate", "--config", "other.toml"])).code, 0);
    assert!(there("other.db") && !there("variable.db"));
    assert_eq!(said(keyed(folder.path(), &["migrate"]).env("PONTE_DATABASE_URL", "sqlite://variable.db")).code, 0);
    assert!(there("variable.db") && !there("flag.db"));
    let all = &mut keyed(folder.path(), &["migrate", "--database-url", "sqlite://flag.db"]);
    assert_eq!(said(all.env("PONTE_DATABASE_URL", "sqlite://unused.db")).code, 0);
    assert!(there("flag.db") && !there("unused.db"));
}

#[test]
fn a_password_in_an_argument_is_refused_and_not_repeated() {
    let folder = tempdir().unwrap();
    let refused = said(&mut keyed(folder.path(), &["migrate", "--database-url", "postgres://ponte:marker-pw@127.0.0.1/ponte"]));
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("--database-url-file") && !refused.err.contains("marker-pw"), "{}", refused.err);
}

#[test]
fn a_database_that_is_not_up_to_date_is_named_and_migrate_helps() {
    let folder = tempdir().unwrap();
    let before = said(&mut keyed(folder.path(), &["status"]));
    assert_eq!(before.code, 1);
    assert!(before.err.contains("ponte migrate"), "{}", before.err);
    // A deployment step has no need of the key.
    assert_eq!(said(&mut ponte(folder.path(), &["migrate"])).code, 0);
    assert_eq!(said(&mut keyed(folder.path(), &["migrate"])).code, 0);
    let after = said(&mut keyed(folder.path(), &["status", "--json"]));
    assert_eq!((after.code, after.out.as_str()), (0, ""));
}

#[test]
fn scripts_learn_from_the_exit_code_what_happened() {
    let folder = tempdir().unwrap();
    assert_eq!(said(&mut keyed(folder.path(), &["migrate"])).code, 0);
    let unknown = "0193a1b2-1234-7c3d-9e4f-123456789012";
    let codes = [
        (&["status", "--tenant", "nobody"][..], 3),
        (&["trace", unknown], 3),
        (&["replay", "--tenant", "nobody", "--all-dead", "--yes"], 3),
        (&["check", "--tenant", "nobody"], 3),
        (&["check", "--config-file", "missing.json"], 2),
        // Nobody is there to be asked.
        (&["adopt", "moved"], 2),
        (&["adopt", "moved", "--yes"], 0),
        (&["rotate-key"], 0),
    ];
    for (arguments, code) in codes {
        let result = said(&mut keyed(folder.path(), arguments));
        assert_eq!(result.code, code, "{arguments:?}: {}", result.err);
        assert!(code == 0 || !result.err.is_empty());
        assert!(result.out.is_empty(), "{arguments:?}: {}", result.out);
    }
}

#[test]
fn a_token_needs_a_secret_and_goes_to_stdout_alone() {
    let folder = tempdir().unwrap();
    let arguments = ["token", "--tenant", "hospital-1", "--role", "nurse", "--ttl", "15m"];
    let without = said(&mut ponte(folder.path(), &arguments));
    assert_eq!((without.code, without.out.as_str()), (2, ""));
    assert!(without.err.contains("PONTE_JWT_SECRET"), "{}", without.err);

    let plain = said(ponte(folder.path(), &arguments).env("PONTE_JWT_SECRET", SECRET));
    assert_eq!((plain.code, plain.err.as_str()), (0, ""));
    assert_eq!(plain.out.trim().split('.').count(), 3);

    let json = said(keyed(folder.path(), &arguments).arg("--json"));
    let shown: Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((shown["role"].as_str(), shown["tenantId"].as_str()), (Some("NURSE"), Some("hospital-1")));
    assert_eq!(shown["expiresInSeconds"], 900);
}

#[test]
fn a_mistyped_fault_is_refused_with_the_nearest() {
    let folder = tempdir().unwrap();
    let refused = said(&mut ponte(folder.path(), &["sandbox", "--fault", "cut_after_comit=0.1"]));
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("`cut_after_commit`"), "{}", refused.err);
    let list = said(&mut ponte(folder.path(), &["sandbox", "--list-faults"]));
    assert!(list.out.lines().any(|line| line.starts_with("late_commit ")), "{}", list.out);
}
