//! The variables that texts may name, checked before anybody is written to.

use minijinja::UndefinedBehavior;
use std::collections::BTreeSet;

use super::language::{bounded, environment};

/// The variables, and what is within them. Below `customer.attributes` may be anything.
pub const VARIABLES: [&str; 16] = [
    "customer.attributes",
    "customer.email",
    "customer.engagement_score",
    "customer.id",
    "customer.name",
    "customer.phone",
    "customer.pipeline_stage",
    "customer.time_zone",
    "day",
    "links.unsubscribe",
    "sender.address",
    "sender.name",
    "sender.postal_address",
    "timeline.duration_days",
    "timeline.name",
    "timeline.slug",
];

/// The variables that a template takes from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VariableUses {
    /// By their paths, such as `customer.name`.
    names: BTreeSet<String>,
    /// Those that are never there, each with the first line that names it, where that can be seen.
    pub unknown: Vec<(String, Option<usize>)>,
}

impl VariableUses {
    /// What a template uses; nothing when it is none.
    pub fn of(source: &str) -> Self {
        let environment = environment(UndefinedBehavior::Chainable);
        let template = bounded(None, source).ok();
        let Some(template) = template.and_then(|source| environment.template_from_str(source).ok()) else {
            return Self::default();
        };
        let names: BTreeSet<String> = template.undeclared_variables(true).into_iter().collect();
        let unknown = names.iter().filter(|name| !is_known(name));
        let unknown = unknown.map(|name| (name.clone(), line_of(source, name))).collect();
        Self { names, unknown }
    }

    /// Whether a variable is used.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

/// Whether a path is a variable, a part of the customer's own attributes, or an object that has variables in it.
fn is_known(path: &str) -> bool {
    let within = |outer: &str, inner: &str| {
        let rest = inner.strip_prefix(outer);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    within("customer.attributes", path) || VARIABLES.iter().any(|known| within(path, known))
}

/// The first line, from 1, that has a path in it as a word of its own.
fn line_of(source: &str, path: &str) -> Option<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let has_it = |line: &str| {
        line.match_indices(path)
            .any(|(at, _)| !line[..at].ends_with(is_word) && !line[at + path.len()..].starts_with(is_word))
    };
    source.lines().position(has_it).map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, expected: &[(&str, Option<usize>)]) {
        let uses = VariableUses::of(source);
        let unknown: Vec<(&str, Option<usize>)> =
            uses.unknown.iter().map(|(name, line)| (name.as_str(), *line)).collect();
        assert_eq!(unknown, expected, "{source}");
    }

    #[test]
    fn every_known_variable_is_known() {
        for name in VARIABLES {
            check(&format!("{{{{ {name} }}}}"), &[]);
            assert!(VariableUses::of(&format!("{{{{ {name} }}}}")).has(name), "{name}");
        }
    }

    #[test]
    fn the_readme_has_each_in_its_table() {
        let readme = include_str!("../../../README.md");
        let (_, section) = readme.split_once("\n## Texts of campaigns\n").expect("a section");
        let rows = section.lines().skip_while(|line| !line.starts_with('|'));
        let rows = rows.take_while(|line| line.starts_with('|'));
        let named = rows
            .filter_map(|row| row.split('|').nth(1))
            .flat_map(|cell| cell.split('`').skip(1).step_by(2));
        let mut named: Vec<&str> = named.collect();
        named.sort_unstable();
        assert_eq!(named, VARIABLES);
    }

    #[test]
    fn unknown_variables_have_their_lines() {
        check("Hi\n{{ customer.nmae }}", &[("customer.nmae", Some(2))]);
        check("{{ custmer.name }}", &[("custmer.name", Some(1))]);
        check(
            "customer.names\n{{ customer.names }} {{ customer.name }}",
            &[("customer.names", Some(1))],
        );
        check("{{ name }}\n{{ day_of }}", &[("day_of", Some(2)), ("name", Some(1))]);
        check("{{ customer . nmae }}", &[("customer.nmae", None)]);
        check("{{ customer.name.first }}", &[("customer.name.first", Some(1))]);
        check(
            "{{ customer.nickname | default('friend') }}",
            &[("customer.nickname", Some(1))],
        );
        check(
            "{% if links.unsubscrbe %}x{% endif %}",
            &[("links.unsubscrbe", Some(1))],
        );
    }

    #[test]
    fn what_a_template_makes_itself_and_what_a_customer_brings_is_known() {
        for source in [
            "plain",
            "{{ customer.attributes.orders.first.total }}",
            "{% for o in customer.attributes.orders %}{{ o.total }}{{ loop.index }}{% endfor %}",
            "{% set x = day + 1 %}{{ x }}",
            "{% macro greet(name) %}Hi {{ name }}{% endmacro %}{{ greet(customer.name) }}",
            "{% for key in customer %}{{ key }}{% endfor %}",
            "{{ customer['name'] }}",
            "{{ broken",
        ] {
            check(source, &[]);
        }
    }
}
