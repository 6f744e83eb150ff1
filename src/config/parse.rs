//! Reading flags and variables, and saying what is wrong with them without telling a secret.

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, Error, Parser};

/// Reads the command line and the environment, or ends the program with what is wrong with them. Where a value may come from the
/// environment, it says from which variable.
pub fn parse<C: Parser>() -> C {
    read(C::command().try_get_matches()).unwrap_or_else(|error| {
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

/// Takes what was found, unless there is a secret among the arguments.
fn read<C: Parser>(found: Result<ArgMatches, Error>) -> Result<C, Error> {
    let found = found?;
    refuse_secrets(&C::command(), &found)?;
    C::from_arg_matches(&found).map_err(|error| error.format(&mut C::command()))
}

/// Refuses secrets as arguments: whoever is on the machine can read those, as `ps` does. Variables and files are its user's own.
fn refuse_secrets(command: &Command, found: &ArgMatches) -> Result<(), Error> {
    for argument in command.get_arguments() {
        let id = argument.get_id().as_str();
        let variable = argument.get_env().and_then(|variable| variable.to_str());
        let (Some(flag), Some(variable)) = (argument.get_long(), variable) else {
            continue;
        };
        if found.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let mut values = found.get_raw(id).into_iter().flatten();
        let is_url = flag.ends_with("-url");
        let what = if argument.is_hide_env_values_set() && !is_url {
            "is a secret"
        } else if values.any(|value| value.to_str().is_some_and(has_password)) {
            "has a password in it"
        } else {
            continue;
        };
        let file = format!("{flag}-file");
        let file = command.get_arguments().any(|other| other.get_long() == Some(&file));
        let or_file = if file {
            format!(", or --{flag}-file")
        } else {
            String::new()
        };
        let text = format!(
            "--{flag} {what}, and arguments can be read by others on this machine: set {variable}{or_file} instead\n"
        );
        return Err(Error::raw(ErrorKind::ValueValidation, text));
    }
    match found.subcommand() {
        Some((name, found)) => command
            .find_subcommand(name)
            .map_or(Ok(()), |command| refuse_secrets(command, found)),
        None => Ok(()),
    }
}

/// Whether a URL has a password in it, before its host or in its query.
fn has_password(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let login = authority.rsplit_once('@').map(|(login, _)| login);
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    login.is_some_and(|login| login.contains(':')) || query.split('&').any(|pair| pair.contains("password="))
}

/// Takes the value out of an error that is a secret or has one in it, such as a URL with a password.
pub(super) fn without_secret(mut error: Error, command: &Command) -> Error {
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
fn has_secret(command: &Command, flag: &str) -> bool {
    let is_secret = |argument: &Arg| argument.get_long() == Some(flag) && argument.is_hide_env_values_set();
    command.get_arguments().any(is_secret) || command.get_subcommands().any(|command| has_secret(command, flag))
}

/// The variable of a flag.
fn variable_of(command: &Command, flag: &str) -> Option<String> {
    let own = command
        .get_arguments()
        .find(|argument| argument.get_long() == Some(flag));
    let variable = own.and_then(|argument| argument.get_env()?.to_str().map(str::to_owned));
    variable.or_else(|| command.get_subcommands().find_map(|command| variable_of(command, flag)))
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::*;
    use clap::CommandFactory as _;

    /// What is wrong with these arguments; none: they are taken.
    fn refused(arguments: &[&str]) -> Option<String> {
        let found = Cli::command().try_get_matches_from([&["campaignd"], arguments].concat());
        read::<Cli>(found).err().map(|error| error.to_string())
    }

    #[test]
    fn secrets_are_no_arguments() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let webhook = format!("--webhook-secret={secret}");
        let events = format!("--events-secret={secret}");
        for (arguments, variable) in [
            (&["--database-url=postgres://a:t0ken@db/x"][..], "CAMPAIGN_DATABASE_URL"),
            (
                &["--database-url", "postgresql://db/x?user=a&password=t0ken"],
                "CAMPAIGN_DATABASE_URL",
            ),
            (
                &["migrate", "--database-url=postgres://a:t0ken@db/x"],
                "CAMPAIGN_DATABASE_URL",
            ),
            (&["--email-url=smtps://a:t0ken@mail.example.com"], "CAMPAIGN_EMAIL_URL"),
            (
                &["serve", "--sms-url=twilio://AC1:t0ken@api.twilio.com"],
                "CAMPAIGN_SMS_URL",
            ),
            (
                &["demo", "--phone-url=twilio://AC1:t0ken@api.twilio.com"],
                "CAMPAIGN_PHONE_URL",
            ),
            (&[&webhook], "CAMPAIGN_WEBHOOK_SECRET, or --webhook-secret-file"),
            (&[&events], "CAMPAIGN_EVENTS_SECRET, or --events-secret-file"),
        ] {
            let error = refused(arguments).expect("refused");
            assert!(
                error.contains(variable) && error.contains("others"),
                "{arguments:?}: {error}"
            );
            assert!(!error.contains("t0ken") && !error.contains(secret), "{error}");
        }
    }

    #[test]
    fn urls_without_passwords_are_arguments() {
        for argument in [
            "--database-url=sqlite://campaign.db",
            "--database-url=postgres://campaign@127.0.0.1:5432/x?sslmode=disable",
            "--email-url=smtp://mail.example.com:25",
            "--email-url=outbox:a:b@c",
            "--interaction-url=https://crm.example.com:8443/hooks/@team:a?to=x@y",
            "--webhook-secret-file=secret",
        ] {
            assert_eq!(refused(&[argument]), None, "{argument}");
        }
    }
}
