//! Which layer wins, what is refused, and that the reference says what the code does.

use super::*;
use std::collections::BTreeMap;

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const SECRET: &str = "0123456789-0123456789-0123456789";

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn read(flags: &[(&str, &str)], variables: &[(&str, &str)], file: &str) -> Result<Settings, String> {
    let file = (!file.is_empty()).then(|| ("ponte.toml".to_owned(), file.to_owned()));
    let layers = Layers::new(map(flags), map(variables), file).map_err(|failure| failure.sentence)?;
    Settings::of(&layers).map_err(|failure| {
        assert_eq!(failure.exit, crate::exit::Exit::Usage);
        failure.sentence
    })
}

#[test]
fn a_flag_goes_before_the_environment_before_the_file_before_the_default() {
    let file = "listen = \"127.0.0.1:3\"\n";
    let variable = [("PONTE_LISTEN", "127.0.0.1:2")];
    let flag = [("listen", "127.0.0.1:1")];
    assert_eq!(read(&flag, &variable, file).unwrap().listen, "127.0.0.1:1");
    assert_eq!(read(&[], &variable, file).unwrap().listen, "127.0.0.1:2");
    assert_eq!(read(&[], &[], file).unwrap().listen, "127.0.0.1:3");
    assert_eq!(read(&[], &[], "").unwrap().listen, "127.0.0.1:8080");
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    assert_eq!(read(&[], &[("PONTE_WORKERS", "")], "workers = 7").unwrap().workers, 7);
}

#[test]
fn every_default_is_valid_and_is_the_contracts() {
    let settings = read(&[], &[], "").unwrap();
    assert_eq!(settings.database_url.expose_secret(), "sqlite://ponte.db");
    assert_eq!(settings.lease_ms, 60_000);
    assert_eq!(
        (settings.sweep_cron.as_str(), settings.pull_cron.as_str(), settings.daily_cron.as_str()),
        ("0 * * * *", "0 */6 * * *", "0 3 * * *")
    );
    assert_eq!((settings.timezone.as_str(), settings.workers), ("America/Sao_Paulo", 32));
    assert_eq!(settings.allow_local, AllowLocal::No);
    assert!(settings.verify.is_none() && settings.encryption_key.is_none() && !settings.listen_is_given);
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest_one() {
    let sentence = read(&[], &[("PONTE_JWT_SECRT", "x"), ("PATH", "/bin")], "").unwrap_err();
    assert!(sentence.contains("PONTE_JWT_SECRT") && sentence.contains("PONTE_JWT_SECRET?"), "{sentence}");
    for (given, right) in [
        ("DB_URL", "DATABASE_URL"),
        ("JWT_AUD", "JWT_AUDIENCE"),
        ("LEASE_SECS", "LEASE_SECONDS"),
        ("TZ", "TIMEZONE"),
        ("ALLOW_LOCAL", "EHR_ALLOW_LOCAL"),
    ] {
        let sentence = read(&[], &[(format!("PONTE_{given}").as_str(), "x")], "").unwrap_err();
        assert!(sentence.contains(&format!("PONTE_{right}?")), "{sentence}");
    }
}

#[test]
fn an_unknown_key_of_the_file_is_refused_with_the_nearest_one() {
    let sentence = read(&[], &[], "lease_secs = 5\n").unwrap_err();
    assert!(sentence.contains("ponte.toml: `lease_secs`") && sentence.contains("`lease_seconds`"), "{sentence}");
}

#[test]
fn what_kubernetes_sets_for_a_service_called_ponte_is_no_mistake() {
    let variables = [
        ("PONTE_SERVICE_HOST", "10.0.0.1"),
        ("PONTE_SERVICE_PORT", "8080"),
        ("PONTE_PORT", "tcp://10.0.0.1:8080"),
        ("PONTE_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("PONTE_API_SERVICE_PORT_HTTP", "8080"),
    ];
    assert!(read(&[], &variables, "").is_ok());
    assert!(read(&[], &[("PONTE_PORT", "8080")], "").unwrap_err().contains("PONTE_PORT"));
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let sentence =
        read(&[("workers", "0")], &[("PONTE_LEASE_SECONDS", "soon"), ("PONTE_TIMEZONE", "Sao Paulo")], "sweep_cron = \"hourly-ish\"")
            .unwrap_err();
    for part in ["--workers", "PONTE_LEASE_SECONDS: `soon`", "PONTE_TIMEZONE", "`sweep_cron` in ponte.toml"] {
        assert!(sentence.contains(part), "{part} in {sentence}");
    }
}

#[test]
fn a_secret_is_never_shown() {
    for (variables, marker) in [
        (vec![("PONTE_JWT_SECRET", "short-marker")], "short-marker"),
        (vec![("PONTE_ENCRYPTION_KEY", "bWFya2Vy")], "bWFya2Vy"),
        (vec![("PONTE_DATABASE_URL", "mysql://u:marker@h/d")], "marker"),
    ] {
        let sentence = read(&[], &variables, "").unwrap_err();
        assert!(!sentence.contains(marker), "{sentence}");
    }
    let settings = read(&[], &[("PONTE_JWT_SECRET", SECRET), ("PONTE_ENCRYPTION_KEY", KEY)], "").unwrap();
    let shown = format!("{settings:?}");
    assert!(!shown.contains(SECRET) && !shown.contains(KEY), "{shown}");
    let sentence = read(&[], &[], "jwt_secret = \"marker\n").unwrap_err();
    assert!(sentence.contains("line 1") && !sentence.contains("marker"), "{sentence}");
}

#[test]
fn a_secret_comes_from_a_file_without_its_line_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, format!("{SECRET}\n")).unwrap();
    let path = path.to_str().unwrap();
    for settings in [read(&[("jwt_secret_file", path)], &[], ""), read(&[], &[("PONTE_JWT_SECRET_FILE", path)], "")] {
        let Some(Verify::Secret(secret)) = settings.unwrap().verify else { panic!("no secret") };
        assert_eq!(secret.expose_secret(), SECRET);
    }
    let both = read(&[], &[("PONTE_JWT_SECRET_FILE", path), ("PONTE_JWT_SECRET", SECRET)], "").unwrap_err();
    assert!(both.contains("both set"), "{both}");
    assert!(read(&[("jwt_secret_file", "/nowhere/at/all")], &[], "").unwrap_err().contains("cannot be read"));
}

#[test]
fn serving_needs_a_verifier_and_a_key_and_says_how_to_make_them() {
    let nothing = read(&[], &[], "").unwrap();
    let sentence = nothing.may_serve(true).unwrap_err().sentence;
    for part in ["PONTE_JWT_SECRET", "PONTE_JWKS_URL", "PONTE_ENCRYPTION_KEY", "openssl rand -base64 32"] {
        assert!(sentence.contains(part), "{part} in {sentence}");
    }
    let key = read(&[], &[("PONTE_ENCRYPTION_KEY", KEY)], "").unwrap();
    assert!(!key.may_serve(true).unwrap_err().sentence.contains("PONTE_ENCRYPTION_KEY"));
    assert!(key.may_serve(false).is_ok());
    let both = read(&[], &[("PONTE_ENCRYPTION_KEY", KEY), ("PONTE_JWT_SECRET", SECRET)], "").unwrap();
    assert!(both.may_serve(true).is_ok());
}

#[test]
fn a_key_set_needs_an_issuer_and_an_audience_and_no_secret_beside_it() {
    let url = ("PONTE_JWKS_URL", "https://id.example/keys");
    let (issuer, audience) = (("PONTE_JWT_ISSUER", "https://id.example"), ("PONTE_JWT_AUDIENCE", "ponte"));
    assert!(matches!(read(&[], &[url, issuer, audience], "").unwrap().verify, Some(Verify::Jwks { .. })));
    assert!(read(&[], &[url, issuer], "").unwrap_err().contains("PONTE_JWT_AUDIENCE"));
    assert!(read(&[], &[url, issuer, audience, ("PONTE_JWT_SECRET", SECRET)], "").unwrap_err().contains("both set"));
}

#[test]
fn local_addresses_come_as_a_switch_or_a_list() {
    assert_eq!(read(&[], &[], "ehr_allow_local = true").unwrap().allow_local, AllowLocal::All);
    let list = read(&[], &[], "ehr_allow_local = [\"10.0.0.0/8\", \"192.168.0.0/16\"]").unwrap().allow_local;
    assert!(matches!(list, AllowLocal::Cidrs(nets) if nets.len() == 2));
    assert!(read(&[], &[("PONTE_EHR_ALLOW_LOCAL", "maybe")], "").unwrap_err().contains("PONTE_EHR_ALLOW_LOCAL"));
}

#[test]
fn the_reference_of_settings_says_what_the_code_does() {
    let mut text = String::from(
        "# Settings\n\nA flag goes before the environment, that before `ponte.toml` (in the working directory, or named by `--config` or \
         `PONTE_CONFIG`), that before the default. An unknown key or `PONTE_*` variable is an error that suggests the right one. Secrets have no \
         flag: they come from the environment, from `ponte.toml`, or from a file named by the setting with `_file` behind it (`-` reads stdin).\n\n\
         | variable | key in `ponte.toml` | flag of `ponte serve` | default | |\n|---|---|---|---|---|\n",
    );
    for spec in SPECS {
        let default = spec.default.map_or("none".to_owned(), |default| format!("`{default}`"));
        let variables = if spec.secret { format!("`{0}`, `{0}_FILE`", spec.variable()) } else { format!("`{}`", spec.variable()) };
        let keys = if spec.secret { format!("`{0}`, `{0}_file`", spec.key) } else { format!("`{}`", spec.key) };
        text.push_str(&format!("| {variables} | {keys} | `{}` | {default} | {} |\n", spec.flag(), spec.what));
    }
    crate::verbs::reference::compare("settings.md", &text);
}

#[test]
fn every_setting_has_its_flag() {
    let command = <crate::verbs::Cli as clap::CommandFactory>::command();
    let serve = command.get_subcommands().find(|verb| verb.get_name() == "serve").unwrap();
    for spec in SPECS {
        let flag = spec.flag();
        assert!(serve.get_arguments().any(|argument| argument.get_long() == Some(flag.trim_start_matches("--"))), "{flag}");
    }
}
