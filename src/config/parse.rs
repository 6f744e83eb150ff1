//! Reading flags and variables, and saying what is wrong with them without telling a secret.

use clap::Parser;
use clap::error::{ContextKind, ContextValue};

/// Reads the command line and the environment, or ends the program with what is wrong with them. Where a value may come from the
/// environment, it says from which variable.
pub fn parse<C: Parser>() -> C {
    C::try_parse().unwrap_or_else(|error| {
        let error = without_secret(error, &C::command());
        // Nobody is there to be told where that fails.
        let _ = error.print();
        let flag = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(flag)) => flag.split(' ').next().and_then(|flag| flag.strip_prefix("--")),
            Some(_) | None => None,
        };
        let variable = flag.and_then(|flag| variable_of(&C::command(), flag));
        if let Some(variable) = variable.filter(|variable| std::env::var_os(variable).is_some()) {
            eprintln!("The environment sets it, as {variable}.");
        }
        std::process::exit(error.exit_code());
    })
}

/// Takes the value out of an error that is a secret or has one in it, such as a URL with a password.
pub(super) fn without_secret(mut error: clap::Error, command: &clap::Command) -> clap::Error {
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) => flag.split(' ').next().and_then(|flag| flag.strip_prefix("--")),
        Some(_) | None => None,
    };
    if flag.is_some_and(|flag| has_secret(command, flag)) && error.get(ContextKind::InvalidValue).is_some() {
        error.insert(ContextKind::InvalidValue, ContextValue::String("***".to_owned()));
    }
    error
}

/// Whether a flag's value is kept from `--help`, and so from errors.
fn has_secret(command: &clap::Command, flag: &str) -> bool {
    let is_secret = |argument: &clap::Arg| argument.get_long() == Some(flag) && argument.is_hide_env_values_set();
    command.get_arguments().any(is_secret) || command.get_subcommands().any(|command| has_secret(command, flag))
}

/// The variable of a flag.
fn variable_of(command: &clap::Command, flag: &str) -> Option<String> {
    let own = command
        .get_arguments()
        .find(|argument| argument.get_long() == Some(flag));
    let variable = own.and_then(|argument| argument.get_env()?.to_str().map(str::to_owned));
    variable.or_else(|| command.get_subcommands().find_map(|command| variable_of(command, flag)))
}
