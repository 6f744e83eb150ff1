//! Path templates of `google.api.http`: `/api/v1/customers/{customer_id}/timelines:assign`. Segments are literals or one field
//! each; wildcards and fields of several segments are refused, as the contract has none.

use percent_encoding::percent_decode_str;

/// A template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    segments: Vec<Segment>,
    /// What follows the last colon.
    verb: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    /// The field that the segment is the value of, by its path in the request: `customer_id`.
    Field(String),
}

/// A path as it was asked for, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestPath {
    segments: Vec<String>,
    /// The last segment without its verb, and the verb, if there is a colon in it. An encoded colon is a letter like others.
    verb: Option<(String, String)>,
}

impl Template {
    /// Parses a template, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("{text} is no path template: {what}"));
        let Some(rest) = text.strip_prefix('/') else {
            return wrong("it must begin with a slash");
        };
        // A colon within braces is none of a verb, but there is no such template.
        let (path, verb) = match rest.rsplit_once(':') {
            Some((path, verb)) if is_word(verb) => (path, Some(verb.to_owned())),
            Some(_) => return wrong("its verb must be a word"),
            None => (rest, None),
        };
        let mut segments = Vec::new();
        for part in path.split('/') {
            let field = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            segments.push(match field {
                Some(field) if field.split('.').all(is_word) => Segment::Field(field.to_owned()),
                None if is_word(part) => Segment::Literal(part.to_owned()),
                Some(_) | None => return wrong("a segment must be a word or a field in braces"),
            });
        }
        let template = Self { segments, verb };
        let mut fields: Vec<&str> = template.fields().collect();
        fields.sort_unstable();
        fields.dedup();
        if fields.len() != template.fields().count() {
            return wrong("a field stands in it twice");
        }
        Ok(template)
    }

    /// The fields that it has values of, in order.
    pub(super) fn fields(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Field(field) => Some(field.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// Whether it ends with a verb.
    pub(super) fn has_verb(&self) -> bool {
        self.verb.is_some()
    }

    /// The values of its fields in a path, in order; none: it is not the path's template.
    pub(super) fn matches(&self, path: &RequestPath) -> Option<Vec<String>> {
        let (last, verb) = match (&self.verb, &path.verb) {
            (None, _) => (path.segments.last()?, None),
            (Some(_), Some((last, verb))) => (last, Some(verb)),
            (Some(_), None) => return None,
        };
        if verb != self.verb.as_ref() || path.segments.len() != self.segments.len() {
            return None;
        }
        let before = &path.segments[..path.segments.len() - 1];
        let mut values = Vec::new();
        for (segment, given) in self.segments.iter().zip(before.iter().chain([last])) {
            match segment {
                Segment::Literal(literal) if literal == given => {}
                Segment::Field(_) if !given.is_empty() => values.push(given.clone()),
                Segment::Literal(_) | Segment::Field(_) => return None,
            }
        }
        Some(values)
    }

    /// Its shape, by which templates are tried: of two for one path the one with a verb and with earlier literals comes first. Equal
    /// ones match the same paths.
    pub(super) fn shape(&self) -> (usize, bool, Vec<(bool, &str)>, Option<&str>) {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Literal(literal) => (false, literal.as_str()),
            Segment::Field(_) => (true, ""),
        });
        let segments = segments.collect();
        (self.segments.len(), self.verb.is_none(), segments, self.verb.as_deref())
    }

    /// As `OpenAPI` writes it, with the names that fields have there.
    pub(super) fn written(&self, name: impl Fn(&str) -> String) -> String {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Literal(literal) => format!("/{literal}"),
            Segment::Field(field) => format!("/{{{}}}", name(field)),
        });
        let verb = self.verb.iter().map(|verb| format!(":{verb}"));
        segments.chain(verb).collect()
    }
}

impl RequestPath {
    /// Decodes a path; none: it is no text.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let raw: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let verb = raw.last().and_then(|last| last.rsplit_once(':'));
        let verb = match verb {
            Some((last, verb)) => Some((decoded(last)?, decoded(verb)?)),
            None => None,
        };
        let segments = raw.into_iter().map(decoded).collect::<Option<_>>()?;
        Some(Self { segments, verb })
    }
}

/// A text without its percent-encoding; none: what it stands for is no UTF-8, or a `%` stands for nothing.
pub(super) fn decoded(text: &str) -> Option<String> {
    let is_code = |code: &[u8]| code.len() == 2 && code.iter().all(u8::is_ascii_hexdigit);
    let whole = text
        .as_bytes()
        .split(|byte| *byte == b'%')
        .skip(1)
        .all(|rest| is_code(&rest[..rest.len().min(2)]));
    if !whole {
        return None;
    }
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    fn template(text: &str) -> Template {
        Template::parse(text).expect(text)
    }

    #[track_caller]
    fn check(text: &str, path: &str, expected: Option<&[&str]>) {
        let found = RequestPath::parse(path).and_then(|path| template(text).matches(&path));
        let expected = expected.map(|values| values.iter().map(|value| (*value).to_owned()).collect());
        assert_eq!(found, expected, "{path} by {text}");
    }

    #[test]
    fn paths_give_the_values_of_fields() {
        check("/a/{x}", "/a/anna", Some(&["anna"]));
        check("/a/{x}", "/a/", None);
        check("/a/{x}", "/a", None);
        check("/a/{x}", "/a/anna/", None);
        check("/a/{x}", "//a/anna", None);
        check("/a/{x}", "/A/anna", None);
        check("/a/{x}/b/{y.z}", "/a/1/b/2", Some(&["1", "2"]));
        check("/a/{x}", "/a/crm:7", Some(&["crm:7"]));
        check("/a/{x}:stop", "/a/crm:7:stop", Some(&["crm:7"]));
        check("/a/{x}:stop", "/a/crm:stop:7", None);
        check("/a/{x}:stop", "/a/:stop", None);
        check("/a/{x}:stop", "/a/anna%3Astop", None);
        check("/a/{x}", "/a/anna%3Astop", Some(&["anna:stop"]));
        check("/a:list", "/a:list", Some(&[]));
        check("/a:list", "/a", None);
        check("/a/{x}", "/a/b%2Fc", Some(&["b/c"]));
        check("/a/{x}", "/a/%C3%A9+", Some(&["é+"]));
        for broken in ["/a/%FF", "/a/%", "/a/%4", "/a/%+1", "/a/%zz", "a/b"] {
            check("/a/{x}", broken, None);
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for bad in [
            "", "a", "/", "/a//b", "/a/", "/{a=b/*}", "/*", "/**", "/{a", "/{}", "/a:", "/a:b/c", "/{a}/{a}", "/{a..b}",
        ] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn of_two_templates_the_plainer_is_tried_first() {
        let mut all = ["/a/{x}", "/a/{x}:go", "/{y}/b", "/a/b", "/a/{x}/c"].map(template);
        all.sort_by(|a, b| a.shape().cmp(&b.shape()));
        let written = all.map(|template| template.written(str::to_owned));
        assert_eq!(written, ["/a/{x}:go", "/a/b", "/a/{x}", "/{y}/b", "/a/{x}/c"]);
        assert_eq!(template("/a/{x}").shape(), template("/a/{y}").shape());
    }

    proptest! {
        #[test]
        fn what_is_filled_in_comes_out_again(
            literals in proptest::collection::vec("[a-z-]{1,5}", 1..5),
            values in proptest::collection::vec("\\PC{1,9}", 1..5),
            verb in proptest::option::of("[a-z]{1,5}"),
        ) {
            let encoded = |value: &String| utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
            let (mut text, mut path, mut expected) = (Vec::new(), Vec::new(), Vec::new());
            for (at, literal) in literals.iter().enumerate() {
                text.push(literal.clone());
                path.push(literal.clone());
                if let Some(value) = values.get(at) {
                    text.push(format!("{{f{at}}}"));
                    path.push(encoded(value));
                    expected.push(value.clone());
                }
            }
            let verb = verb.map(|verb| format!(":{verb}")).unwrap_or_default();
            let (text, path) = (format!("/{}{verb}", text.join("/")), format!("/{}{verb}", path.join("/")));
            let found = RequestPath::parse(&path).and_then(|path| template(&text).matches(&path));
            prop_assert_eq!(found, Some(expected));
        }

        #[test]
        fn any_path_has_as_many_values_as_there_are_fields(path in "(/|[a-c{}%:.*]|%[0-9a-f]{2}|\\PC){0,20}") {
            for text in ["/a/{x}/b/{y}", "/a/{x}:b", "/a", "/{x}"] {
                let template = template(text);
                if let Some(values) = RequestPath::parse(&path).and_then(|path| template.matches(&path)) {
                    prop_assert_eq!(values.len(), template.fields().count());
                    prop_assert!(values.iter().all(|value| !value.is_empty()));
                }
            }
        }
    }
}
