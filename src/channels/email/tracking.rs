//! Puts into the HTML of a mail what tells that it is read: links that go by way of this server, and a picture of one pixel.
//!
//! The HTML is read by the rules of HTML's own tokenizer (comments, quoted attributes, the text of `<style>` and the like), and but
//! for the values of `href` that are replaced every byte stays as it is. What is not understood for sure stays as well: a link that
//! is not counted does less harm than one that leads elsewhere.

use std::ops::Range;

/// The longest URL that is replaced, in bytes: mails grow with them.
const MOST_TARGET: usize = 2_000;

/// Elements whose text is no HTML.
const RAW_TEXT: [&str; 8] = [
    "script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes",
];

/// The HTML with the links replaced for which `link` says by what, and with a picture, if one is given, at the end of its body. `link`
/// is given the URL of a link as [`is_link_target`] has it. What it says, and the picture's URL, need no escaping.
pub fn tracked_html(html: &str, link: impl Fn(&str) -> Option<String>, picture: Option<&str>) -> String {
    let found = Found::read(html);
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    for value in found.links {
        if let Some(url) = target(&html[value.clone()]).and_then(|target| link(&target)) {
            edits.push((value, format!("\"{url}\"")));
        }
    }
    if let Some(url) = picture {
        let end = found.end_of_body.unwrap_or(html.len());
        let picture = format!("<img src=\"{url}\" alt=\"\" width=\"1\" height=\"1\" style=\"border:0\">");
        edits.push((end..end, picture));
    }
    edits.sort_by_key(|(place, _)| place.start);
    let mut tracked = String::with_capacity(html.len() + edits.iter().map(|(_, new)| new.len()).sum::<usize>());
    let mut copied = 0;
    for (place, new) in edits {
        tracked.push_str(&html[copied..place.start]);
        tracked.push_str(&new);
        copied = place.end;
    }
    tracked.push_str(&html[copied..]);
    tracked
}

/// Whether a browser is sent on to a URL: absolute, `http` or `https`, to a host without a user, in ASCII that no two programs read
/// differently, and not too long.
pub fn is_link_target(url: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    let is_web = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'<' | b'>' | b'\\' | b'`');
    is_web
        && host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
        && !host.contains('@')
        && url.len() <= MOST_TARGET
        && url.bytes().all(is_plain)
}

/// The URL that the value of an attribute means, quotes around it or not; none where it is not one to send somebody on to.
fn target(value: &str) -> Option<String> {
    let quoted = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let value = quoted('"').or_else(|| quoted('\'')).unwrap_or(value);
    let url = without_references(value.trim_matches(|c: char| c.is_ascii_whitespace()))?;
    is_link_target(&url).then_some(url)
}

/// A text with its character references resolved; none where there is one of the two thousand others that HTML has, or may be.
fn without_references(text: &str) -> Option<String> {
    let mut resolved = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        resolved.push_str(before);
        let name_len = after
            .bytes()
            .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'#')
            .count();
        let (name, next) = after.split_at(name_len);
        if let Some(after) = next.strip_prefix(';') {
            resolved.push(referred(name)?);
            rest = after;
        } else if name.is_empty() || (next.starts_with('=') && !name.contains('#')) {
            // As in `?a=1&b=2`, which most people write so. In a value, a name that `=` follows is no reference.
            resolved.push('&');
            rest = after;
        } else {
            return None;
        }
    }
    resolved.push_str(rest);
    Some(resolved)
}

/// The character that a reference stands for.
fn referred(name: &str) -> Option<char> {
    let Some(number) = name.strip_prefix('#') else {
        return match name {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            _ => None,
        };
    };
    let code = match number.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    char::from_u32(code.ok()?).filter(char::is_ascii_graphic)
}

/// What is to be known of an HTML text.
#[derive(Debug, Default)]
struct Found {
    /// Where the values of `href` of links are, with the quotes around them.
    links: Vec<Range<usize>>,
    /// Where the last `</body>` begins, or without any the last `</html>`.
    end_of_body: Option<usize>,
}

/// A tag.
#[derive(Debug)]
struct Tag<'a> {
    name: &'a str,
    /// Where the value of its first `href` is, with the quotes around it.
    href: Option<Range<usize>>,
    /// Where the text goes on.
    end: usize,
}

impl Found {
    fn read(html: &str) -> Self {
        let (mut found, mut end_of_html, mut at) = (Self::default(), None, 0);
        while let Some(next) = html[at..].find('<') {
            let start = at + next;
            let inside = &html[start + 1..];
            let is_name = |text: &str| text.starts_with(|c: char| c.is_ascii_alphabetic());
            let is_end = inside.strip_prefix('/').is_some_and(is_name);
            if is_name(inside) || is_end {
                let Some(tag) = Tag::read(html, start + 1 + usize::from(is_end)) else {
                    break;
                };
                at = tag.end;
                let is = |name: &str| tag.name.eq_ignore_ascii_case(name);
                if is_end && is("body") {
                    found.end_of_body = Some(start);
                } else if is_end && is("html") {
                    end_of_html = Some(start);
                } else if !is_end && (is("a") || is("area")) {
                    found.links.extend(tag.href);
                } else if !is_end && is("plaintext") {
                    break;
                } else if let Some(name) = RAW_TEXT.into_iter().find(|name| !is_end && is(name)) {
                    let Some(end) = end_of_raw_text(&html[at..], name) else {
                        break;
                    };
                    at += end;
                }
            } else if inside.starts_with("!--") {
                let Some(end) = end_of_comment(&html[start + 4..]) else {
                    break;
                };
                at = start + 4 + end;
            } else if inside.starts_with(['!', '?', '/']) {
                let Some(end) = inside.find('>') else {
                    break;
                };
                at = start + 1 + end + 1;
            } else {
                at = start + 1;
            }
        }
        found.end_of_body = found.end_of_body.or(end_of_html);
        found
    }
}

impl<'a> Tag<'a> {
    /// The tag whose name begins at `start`; none when the text ends within it.
    fn read(html: &'a str, start: usize) -> Option<Self> {
        let bytes = html.as_bytes();
        let until = |from: usize, is_end: fn(u8) -> bool| {
            bytes[from..]
                .iter()
                .position(|byte| is_end(*byte))
                .map(|len| from + len)
        };
        let is_space = |byte: u8| byte.is_ascii_whitespace();
        let mut at = until(start, |byte| byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>'))?;
        let (name, mut href) = (&html[start..at], None);
        loop {
            at = until(at, |byte| !byte.is_ascii_whitespace() && byte != b'/')?;
            if bytes[at] == b'>' {
                return Some(Self {
                    name,
                    href,
                    end: at + 1,
                });
            }
            let attribute = at;
            // An equals sign that stands first is a part of the name.
            at = until(at + 1, |byte| {
                byte.is_ascii_whitespace() || matches!(byte, b'/' | b'>' | b'=')
            })?;
            let is_href = html[attribute..at].eq_ignore_ascii_case("href");
            at = until(at, |byte| !byte.is_ascii_whitespace())?;
            if bytes[at] != b'=' {
                continue;
            }
            at = until(at + 1, |byte| !byte.is_ascii_whitespace())?;
            let value = at;
            at = match bytes[at] {
                b'"' => until(at + 1, |byte| byte == b'"')? + 1,
                b'\'' => until(at + 1, |byte| byte == b'\'')? + 1,
                b'>' => at,
                _ => bytes[at..].iter().position(|byte| is_space(*byte) || *byte == b'>')? + at,
            };
            // Of two with one name the first counts.
            if is_href && href.is_none() {
                href = Some(value..at);
            }
        }
    }
}

/// Where a comment ends; the text is what follows its `<!--`.
fn end_of_comment(text: &str) -> Option<usize> {
    if text.starts_with('>') {
        return Some(1);
    }
    if text.starts_with("->") {
        return Some(2);
    }
    let ends = ["-->", "--!>"].map(|end| text.find(end).map(|at| at + end.len()));
    ends.into_iter().flatten().min()
}

/// Where the end tag of this name begins.
fn end_of_raw_text(text: &str, name: &str) -> Option<usize> {
    let is_end = |at: usize| {
        let rest = &text.as_bytes()[at + 2..];
        rest.len() > name.len()
            && rest[..name.len()].eq_ignore_ascii_case(name.as_bytes())
            && (rest[name.len()].is_ascii_whitespace() || matches!(rest[name.len()], b'/' | b'>'))
    };
    text.match_indices("</").map(|(at, _)| at).find(|at| is_end(*at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracked(html: &str) -> String {
        tracked_html(html, |target| Some(format!("[{target}]")), None)
    }

    #[track_caller]
    fn check(html: &str, expected: &str) {
        assert_eq!(tracked(html), expected, "{html}");
    }

    #[track_caller]
    fn stays(html: &str) {
        check(html, html);
    }

    #[test]
    fn links_are_replaced_however_they_are_written() {
        check(
            "<a href=\"https://x.example/a\">x</a>",
            "<a href=\"[https://x.example/a]\">x</a>",
        );
        check(
            "<A\n HREF = 'http://x.example' class=y>",
            "<A\n HREF = \"[http://x.example]\" class=y>",
        );
        check("<a href=https://x.example/a/>x", "<a href=\"[https://x.example/a/]\">x");
        check(
            "<area shape=rect href=\" HTTPS://x.example \">",
            "<area shape=rect href=\"[HTTPS://x.example]\">",
        );
        check(
            "<a title=\"a>b <a href='x'>\" href=\"https://x.example\">",
            "<a title=\"a>b <a href='x'>\" href=\"[https://x.example]\">",
        );
        check(
            "<a href=\"https:&#x2f;&#47;x.example/?a=1&amp;b=2&c=3&#X26;d&quot;\">",
            "<a href=\"https:&#x2f;&#47;x.example/?a=1&amp;b=2&c=3&#X26;d&quot;\">",
        );
        check(
            "<a href=\"https:&#x2f;&#47;x.example/?a=1&amp;b=2&c=3&#X26;d\">",
            "<a href=\"[https://x.example/?a=1&b=2&c=3&d]\">",
        );
        check(
            "<a href='https://x.example/1' href='https://x.example/2'><a/href=http://y.example>",
            "<a href=\"[https://x.example/1]\" href='https://x.example/2'><a/href=\"[http://y.example]\">",
        );
        check(
            "<!--[if !mso]><!--><a href='http://x.example'><!--<![endif]--> ü <a href='http://y.example'>",
            "<!--[if !mso]><!--><a href=\"[http://x.example]\"><!--<![endif]--> ü <a href=\"[http://y.example]\">",
        );
        check(
            "<style>a{}</style><!--><a href='http://x.example'>",
            "<style>a{}</style><!--><a href=\"[http://x.example]\">",
        );
        check(
            "a < b <3 <a href='http://x.example'>",
            "a < b <3 <a href=\"[http://x.example]\">",
        );
    }

    #[test]
    fn what_is_no_web_link_or_not_sure_stays() {
        for value in [
            "",
            "#top",
            "/path",
            "//x.example",
            "mailto:a@x.example",
            "tel:+1",
            "sms:+1",
            "javascript:alert('https://x')",
            "ftp://x.example",
            "https:x.example",
            "https://",
            "https:///x",
            "http://user@x.example",
            "http://user:pw@x.example/",
            "https://x.example\\@evil.example",
            "https://x.example/a b",
            "https://x.example/\u{e9}",
            "https://x.example/&eacute;",
            "https://x.example/?a&copy",
            "https://x.example/?a&copy;=b",
            "https://x.example/&#0;",
            "https://x.example/&#10;",
            "https://x.example/&#x110000;",
            "ht\ntps://x.example",
            "java&#x9;script:x://y",
        ] {
            stays(&format!("<a href=\"{value}\">x</a>"));
        }
        stays(&format!("<a href=\"https://x.example/{}\">", "x".repeat(MOST_TARGET)));
        for html in [
            "",
            "<",
            "<a",
            "<a href",
            "<a href=",
            "<a href=\"https://x.example",
            "<a href='https://x.example>",
            "<a href=https://x.example",
            "<a href>",
            "<a href=>",
            "<link href='https://x.example'><img src='https://x.example'><abbr href='https://x.example'>",
            "<a data-href='https://x.example' xhref='https://x.example'>",
            "</a href='https://x.example'>",
            "<!-- <a href='https://x.example'> -->",
            "<!-- <a href='https://x.example'>",
            "<! <?a href='https://x.example'>",
            "<!DOCTYPE html PUBLIC '-//W3C//DTD' 'http://www.w3.org/'>",
            "<script>'<a href=\"https://x.example\">'</script>",
            "<style><a href='https://x.example'></styles></style >",
            "<textarea><a href='https://x.example'>",
            "<plaintext><a href='https://x.example'>",
            "https://x.example &lt;a href='https://x.example'&gt;",
        ] {
            stays(html);
        }
    }

    #[test]
    fn a_picture_is_put_at_the_end_of_the_body() {
        let with = |html: &str| tracked_html(html, |_| None, Some("https://m.example/o/T"));
        let picture = "<img src=\"https://m.example/o/T\" alt=\"\" width=\"1\" height=\"1\" style=\"border:0\">";
        for (before, after) in [
            ("<html><body><p>x</p>", "</body></html>"),
            ("<p>x</p>", ""),
            ("<p>x</p>", "</HTML>"),
            (
                "<!-- </body> --><style></body></style><p title='</body>'>",
                "</BODY >\n",
            ),
            ("</body>x", "</body>"),
            ("", ""),
        ] {
            assert_eq!(with(&format!("{before}{after}")), format!("{before}{picture}{after}"));
        }
        let both = tracked_html(
            "<a href=http://x.example></body><a href=http://y.example>",
            |_| Some("T".to_owned()),
            Some("https://m.example/o/T"),
        );
        assert_eq!(both, format!("<a href=\"T\">{picture}</body><a href=\"T\">"));
    }

    /// Whatever is made of such pieces is read to its end, and what is replaced is put back by replacing it again.
    #[test]
    fn hostile_html_is_read_without_a_panic() {
        let pieces = [
            "<a ",
            "href=",
            "\"",
            "'",
            ">",
            "https://x.example",
            "<!--",
            "-->",
            "</",
            "<script",
            "</script>",
            "/",
            "=",
            " ",
            "ü",
            "&",
            "<",
        ];
        let mut state: u32 = 1;
        for _ in 0..20_000 {
            let mut html = String::new();
            for _ in 0..12 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                html.push_str(pieces[(state >> 16) as usize % pieces.len()]);
            }
            let changed = tracked_html(&html, |target| Some(format!("https://t.example/?{target}")), Some("P"));
            let picture = "<img src=\"P\" alt=\"\" width=\"1\" height=\"1\" style=\"border:0\">";
            assert!(changed.contains(picture), "{html}");
            let back = changed
                .replacen(picture, "", 1)
                .replace("https://t.example/?", "")
                .replace('"', "");
            assert_eq!(back.replace('\'', ""), html.replace(['"', '\''], ""), "{html}");
        }
        let long = format!("{}{}", "<a href=\"".repeat(20_000), "<!--".repeat(20_000));
        let started = std::time::Instant::now();
        tracked(&long);
        assert!(started.elapsed().as_secs() < 2);
    }
}
