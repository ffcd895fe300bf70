//! The command line as a whole.

use super::*;
use clap::CommandFactory;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn no_secret_is_an_argument() {
    for verb in Cli::command().get_subcommands() {
        for argument in verb.get_arguments() {
            let name = argument.get_long().unwrap_or_default();
            let secret = ["secret", "key", "password"].iter().any(|word| name.contains(word));
            assert!(!secret || name.ends_with("-file"), "{} --{name}", verb.get_name());
        }
    }
}

#[test]
fn the_reference_of_the_command_line_says_what_the_code_does() {
    let mut command = Cli::command();
    command.build();
    let mut text = format!("# Command line\n\n```text\n{}\n```\n", plain(&mut command));
    for verb in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
        let name = verb.get_name().to_owned();
        text.push_str(&format!("\n## ponte {name}\n\n```text\n{}\n```\n", plain(verb)));
    }
    reference::compare("command-line.md", &text);
}

fn plain(command: &mut clap::Command) -> String {
    let help = command.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    lines.join("\n").trim_end().to_owned()
}
