//! The language of the templates: what they may do, and how much of it.

use minijinja::machinery::{Token, tokenize};
use minijinja::{AutoEscape, Environment, ErrorKind, UndefinedBehavior, escape_formatter, filters, tests as checks};

use super::{Part, Place, RenderError};

/// How much work one text may take: about one unit for an instruction or for 64 bytes.
const FUEL: u64 = 50_000;

/// How deep loops, conditions and macros may nest.
const MAX_DEPTH: usize = 100;

/// The longest template, in bytes.
const MAX_SOURCE: usize = 256 * 1024;

/// The most words and signs between `{{` and `}}`, or `{%` and `%}`.
const MAX_TAG: usize = 300;

/// The most tags with `{%`.
const MAX_BLOCKS: usize = 500;

/// Checks that `source` is a template: its syntax, and the filters and functions on the way that it takes without any
/// values. What depends on values shows only when it is filled in.
pub fn check_template(source: &str) -> Result<(), RenderError> {
    let environment = environment(UndefinedBehavior::Chainable);
    let template = bounded(None, source).and_then(|source| {
        environment
            .template_from_str(source)
            .map_err(|error| RenderError::template(None, &error))
    })?;
    match template.render(()) {
        Err(error) if is_unknown_name(error.kind()) => Err(RenderError::template(None, &error)),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn is_unknown_name(kind: ErrorKind) -> bool {
    [
        ErrorKind::UnknownFilter,
        ErrorKind::UnknownFunction,
        ErrorKind::UnknownTest,
    ]
    .contains(&kind)
}

/// An environment without anything but what is allowed here.
pub(super) fn environment(undefined: UndefinedBehavior) -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(undefined);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(MAX_DEPTH);
    environment.set_auto_escape_callback(|name| {
        if name == Part::HtmlBody.as_str() {
            AutoEscape::Html
        } else {
            AutoEscape::None
        }
    });
    let null_is_undefined = undefined == UndefinedBehavior::Strict;
    environment.set_formatter(move |out, state, value| {
        if null_is_undefined && value.is_none() {
            return Err(minijinja::Error::from(ErrorKind::UndefinedError));
        }
        escape_formatter(out, state, value)
    });
    // What writes more than it reads by an amount of its own choice (format, indent, center, pprint) is left out.
    environment.add_filter("abs", filters::abs);
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("d", filters::default);
    environment.add_filter("default", filters::default);
    environment.add_filter("e", filters::escape);
    environment.add_filter("escape", filters::escape);
    environment.add_filter("first", filters::first);
    environment.add_filter("float", filters::float);
    environment.add_filter("int", filters::int);
    environment.add_filter("join", filters::join);
    environment.add_filter("last", filters::last);
    environment.add_filter("length", filters::length);
    environment.add_filter("lower", filters::lower);
    environment.add_filter("max", filters::max);
    environment.add_filter("min", filters::min);
    environment.add_filter("replace", filters::replace);
    environment.add_filter("round", filters::round);
    environment.add_filter("safe", filters::safe);
    environment.add_filter("sort", filters::sort);
    environment.add_filter("split", filters::split);
    environment.add_filter("string", filters::string);
    environment.add_filter("sum", filters::sum);
    environment.add_filter("title", filters::title);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("unique", filters::unique);
    environment.add_filter("upper", filters::upper);
    environment.add_test("defined", checks::is_defined);
    environment.add_test("even", checks::is_even);
    environment.add_test("false", checks::is_false);
    environment.add_test("none", checks::is_none);
    environment.add_test("number", checks::is_number);
    environment.add_test("odd", checks::is_odd);
    environment.add_test("string", checks::is_string);
    environment.add_test("true", checks::is_true);
    environment.add_test("undefined", checks::is_undefined);
    environment
}

/// Adds the template of a part.
pub(super) fn add(environment: &mut Environment<'static>, part: Part, source: &str) -> Result<(), RenderError> {
    let source = bounded(Some(part), source)?.to_owned();
    environment
        .add_template_owned(part.as_str(), source)
        .map_err(|error| RenderError::template(Some(part), &error))
}

/// The source, if it is no longer than it may be and not built so that the parser would run out of stack, which ends the
/// process: it calls itself for each `not`, `-`, `**` and `elif` in a chain, and for each filter and attribute when such a chain
/// is let go. What a token is the lexer says that the parser uses.
pub(super) fn bounded(part: Option<Part>, source: &str) -> Result<&str, RenderError> {
    let refused = |line, problem| {
        Err(RenderError::Template {
            at: Place { part, line },
            problem,
        })
    };
    if source.len() > MAX_SOURCE {
        return refused(None, format!("longer than {MAX_SOURCE} bytes"));
    }
    let (mut in_tag, mut blocks) = (0, 0);
    #[expect(
        clippy::default_trait_access,
        reason = "its type is public with another feature only"
    )]
    let tokens = tokenize(source, false, Default::default());
    for token in tokens {
        // What is no token ends the parser's work, too, and it says why.
        let Ok((token, span)) = token else { break };
        let line = || Some(usize::from(span.start_line));
        if matches!(token, Token::VariableStart | Token::BlockStart) {
            in_tag = 0;
            blocks += usize::from(matches!(token, Token::BlockStart));
        }
        in_tag += 1;
        if in_tag > MAX_TAG {
            return refused(line(), format!("more than {MAX_TAG} words and signs in one tag"));
        }
        if blocks > MAX_BLOCKS {
            return refused(line(), format!("more than {MAX_BLOCKS} tags with {{%"));
        }
    }
    Ok(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of these ran out of stack, and the process with it.
    #[test]
    fn chains_are_bounded() {
        let long = |word: &str| word.repeat(20_000 / word.len() * 3);
        for source in [
            format!("{{{{ {}a }}}}", long("not ")),
            format!("{{{{ {}1 }}}}", long("-")),
            format!("{{{{ 1{} }}}}", long("**9")),
            format!("{{{{ a{} }}}}", long(".b")),
            format!("{{{{ a{} }}}}", long("|e")),
            format!("{{{{ a{} }}}}", long("[0]")),
            format!("{{{{ a{} }}}}", long("~b")),
            format!("{{{{ '}}}}' ~ {}1 }}}}", long("-")),
            format!("{{% if a %}}{}{{% endif %}}", long("{% elif a %}")),
            format!("{{% set a = {}1 %}}", long("-")),
        ] {
            let error = check_template(&source).expect_err("a refusal").to_string();
            assert!(error.contains("more than"), "{error}");
        }
        let most = |word: &str| word.repeat(290);
        for source in [
            format!("{{{{ {}a }}}}", most("not ")),
            format!("{{{{ {}1 }}}}", most("-")),
            format!("{{% if a %}}{}{{% endif %}}", most("{% elif a %}")),
            "{{ customer.name | default('friend', true) }} ".repeat(1000),
        ] {
            assert_eq!(check_template(&source), Ok(()), "{}", &source[..60]);
        }
    }

    #[track_caller]
    fn check(source: &str, expected: Option<&str>) {
        let error = check_template(source).err().map(|error| error.to_string());
        match (error, expected) {
            (None, None) => {}
            (Some(error), Some(expected)) => assert!(error.starts_with(expected), "{source}: {error}"),
            (error, expected) => panic!("{source}: {error:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn templates_are_checked_without_values() {
        check("", None);
        check("Hi {{ customer.name | default('x') | upper }}", None);
        check("{% for o in customer.orders %}{{ o.total }}{% endfor %}", None);
        check("{{ customer.amount + 1 }}", None);
        check("a\nb {{ c", Some("line 2: syntax error"));
        check("{% if x %}", Some("line 1: syntax error"));
        check("{% include 'x' %}", Some("line 1: syntax error"));
        check(
            "{{ name | format }}",
            Some("line 1: unknown filter: filter format is unknown"),
        );
        check(
            "{{ name is weird }}",
            Some("line 1: unknown test: test weird is unknown"),
        );
        check("{{ range(3) }}", Some("line 1: unknown function"));
        check(&"x".repeat(MAX_SOURCE + 1), Some("template: longer than 262144 bytes"));
    }
}
