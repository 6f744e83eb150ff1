//! Call scripts in Twilio's markup.

/// What is said in a call: each paragraph by itself, with a second between them.
pub(super) fn twiml(script: &str) -> String {
    let lines: Vec<&str> = script.lines().map(str::trim).collect();
    let paragraphs = lines.split(|line| line.is_empty()).filter(|lines| !lines.is_empty());
    let said: Vec<String> = paragraphs
        .map(|lines| format!("<Say>{}</Say>", escaped(&lines.join(" "))))
        .collect();
    format!("<Response>{}</Response>", said.join("<Pause length=\"1\"/>"))
}

/// A text within XML. What XML 1.0 can't have becomes a space.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            '\u{FFFE}' | '\u{FFFF}' => escaped.push(' '),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_become_markup_that_says_what_they_say() {
        for (script, expected) in [
            ("Good day", "<Say>Good day</Say>"),
            ("One\ntwo", "<Say>One two</Say>"),
            ("One\n\n \nTwo\r\n", "<Say>One</Say><Pause length=\"1\"/><Say>Two</Say>"),
            (
                "</Say><Dial>+1900</Dial> & \"it's\"",
                "<Say>&lt;/Say&gt;&lt;Dial&gt;+1900&lt;/Dial&gt; &amp; &quot;it&apos;s&quot;</Say>",
            ),
            ("a\u{0}b\u{1b}c\u{FFFF}", "<Say>a b c </Say>"),
            ("Zoë 🎈", "<Say>Zoë 🎈</Say>"),
            ("", ""),
        ] {
            assert_eq!(twiml(script), format!("<Response>{expected}</Response>"));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_script_escapes_its_markup(script in "(\\PC|[<>&\"'\n\u{0}-\u{1f}]){0,200}") {
            let markup = twiml(&script);
            let inner = markup.replace("<Pause length=\"1\"/>", "").replace("<Say>", "").replace("</Say>", "");
            let inner = inner.strip_prefix("<Response>").and_then(|rest| rest.strip_suffix("</Response>")).expect("a response");
            proptest::prop_assert!(!inner.contains(['<', '>', '"']) && !inner.contains(char::is_control), "{}", markup);
        }
    }
}
