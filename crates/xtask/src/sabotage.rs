//! `cargo xtask sabotage [NAME...]`: takes one rule of the product out of a copy of the source and wants a test to see it.
//!
//! A test that stays green without the rule that it is named after proves nothing. Each sabotage is an exact replacement of
//! text; what does not compile, and a text that is no longer there, are faults of the sabotage and not of the tests.

mod copy;
mod course;
mod laws;
mod ledger;
mod store;

use copy::Copy;
use course::Course;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// One rule, and how it is taken out.
#[derive(Debug)]
struct Sabotage {
    /// By what it is called on the command line.
    name: &'static str,
    /// The rule that is gone.
    rule: &'static str,
    /// Usually one; two where two layers hold the rule together.
    cuts: &'static [Cut],
    /// Who is to see it.
    watch: Watch,
}

/// An exact replacement of text in one file.
#[derive(Debug)]
struct Cut {
    file: &'static str,
    /// Stands in the file exactly once.
    find: &'static str,
    replace: &'static str,
}

/// The tests that are to go red.
#[derive(Debug)]
struct Watch {
    package: &'static str,
    /// A test program of the package; none: the tests inside its library.
    program: Option<&'static str>,
    /// As `cargo test` takes them; each names at least one test.
    filters: &'static [&'static str],
}

impl Watch {
    const fn engine(filters: &'static [&'static str]) -> Self {
        Self { package: "ponte-sync", program: Some("it"), filters }
    }

    const fn api(filters: &'static [&'static str]) -> Self {
        Self { package: "ponte-web", program: Some("api"), filters }
    }

    const fn store(filters: &'static [&'static str]) -> Self {
        Self { package: "ponte-store", program: Some("laws"), filters }
    }

    const fn inside(package: &'static str, filters: &'static [&'static str]) -> Self {
        Self { package, program: None, filters }
    }
}

/// What became of one sabotage.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// Some test saw it.
    Red(String),
    /// No test did.
    Green,
    /// It could not be tried.
    Fault(String),
}

/// Tries the sabotages of these names, or all of them.
///
/// # Errors
/// When one stayed green or could not be tried, or no sabotage has a given name.
pub fn run(root: &Path, words: &[String]) -> Result<(), String> {
    let chosen = choose(words)?;
    if words.iter().any(|word| word == "--list") {
        for sabotage in chosen {
            println!("{:<32} {}", sabotage.name, sabotage.rule);
        }
        return Ok(());
    }
    let place = place(root);
    let copy = Copy::of(root, place.join("tree"))?;
    let course = Course { tree: copy.root().to_path_buf(), target: place.join("build") };
    let (mut red, mut failures) = (0, Vec::new());
    for sabotage in chosen {
        let started = Instant::now();
        let seen = attempt(&copy, &course, sabotage);
        // Whatever happened, the next one begins with the source as it is.
        copy.restore(sabotage.cuts.iter().map(|cut| cut.file))?;
        let said = match &seen {
            Seen::Red(tests) => format!("red: {tests}"),
            Seen::Green => "GREEN: no test saw it".to_owned(),
            Seen::Fault(why) => format!("FAULT: {why}"),
        };
        println!("{} ({}): {said} [{} s]", sabotage.name, sabotage.rule, started.elapsed().as_secs());
        match seen {
            Seen::Red(_) => red += 1,
            Seen::Green | Seen::Fault(_) => failures.push(sabotage.name),
        }
    }
    println!("\n{red} of {} sabotages were seen.", red + failures.len());
    if failures.is_empty() { Ok(()) } else { Err(format!("Not seen: {}.", failures.join(", "))) }
}

/// Everything that can be taken out. Those of one crate stand together, so that little is compiled from one to the next.
fn catalogue() -> impl Iterator<Item = &'static Sabotage> {
    ledger::SABOTAGES.iter().chain(store::SABOTAGES).chain(laws::SABOTAGES)
}

fn choose(words: &[String]) -> Result<Vec<&'static Sabotage>, String> {
    let names: Vec<&String> = words.iter().filter(|word| *word != "--list").collect();
    if let Some(unknown) = names.iter().find(|name| !catalogue().any(|sabotage| sabotage.name == name.as_str())) {
        return Err(format!("No sabotage is called `{unknown}`; `cargo xtask sabotage --list` names them."));
    }
    Ok(catalogue().filter(|sabotage| names.is_empty() || names.iter().any(|name| *name == sabotage.name)).collect())
}

/// Where the copy stands and is built. A fixed place, so that only what changed is compiled again.
fn place(root: &Path) -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |given| root.join(given));
    target.join("sabotage")
}

fn attempt(copy: &Copy, course: &Course, sabotage: &Sabotage) -> Seen {
    match cut(copy, sabotage).and_then(|()| course.run(&sabotage.watch)) {
        Ok(seen) => seen,
        Err(why) => Seen::Fault(why),
    }
}

fn cut(copy: &Copy, sabotage: &Sabotage) -> Result<(), String> {
    for cut in sabotage.cuts {
        let text = copy.read(cut.file)?;
        copy.write(cut.file, &replaced(&text, cut)?)?;
    }
    Ok(())
}

fn replaced(text: &str, cut: &Cut) -> Result<String, String> {
    match text.matches(cut.find).count() {
        1 => Ok(text.replacen(cut.find, cut.replace, 1)),
        n => Err(format!("{} holds the text to be replaced {n} times: {}", cut.file, cut.find.trim())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sabotage_has_a_name_of_its_own_and_finds_its_text_once() {
        let root = crate::root();
        let mut names: Vec<&str> = catalogue().map(|sabotage| sabotage.name).collect();
        for sabotage in catalogue() {
            for cut in sabotage.cuts {
                let text = std::fs::read_to_string(root.join(cut.file)).unwrap();
                let changed = replaced(&text, cut).unwrap_or_else(|why| panic!("{}: {why}", sabotage.name));
                assert_ne!(changed, text, "{} changes nothing", sabotage.name);
            }
        }
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all, "two sabotages have one name");
    }

    #[test]
    fn a_text_that_is_not_there_once_is_a_fault() {
        let cut = Cut { file: "a.rs", find: "x", replace: "y" };
        assert_eq!(replaced("a x b", &cut), Ok("a y b".to_owned()));
        assert!(replaced("a b", &cut).is_err() && replaced("x x", &cut).is_err());
    }

    #[test]
    fn an_unknown_name_is_told() {
        assert!(choose(&["no-such".to_owned()]).is_err());
        assert_eq!(choose(&["--list".to_owned()]).unwrap().len(), catalogue().count());
    }
}
