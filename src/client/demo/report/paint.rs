//! Colours, on a terminal that can show them.

/// Whether to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::client::demo) struct Paint(bool);

/// What a piece of text looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Red,
    Green,
    Yellow,
    Blue,
    Cyan,
    Dim,
}

impl Paint {
    /// Plain text.
    #[cfg(test)]
    pub(super) const PLAIN: Self = Self(false);

    /// Coloured text.
    #[cfg(test)]
    pub(super) const COLOURED: Self = Self(true);

    /// Colours on a terminal, unless `NO_COLOR` (<https://no-color.org>) or a dumb terminal asks for none.
    pub(in crate::client::demo) fn for_terminal(is_terminal: bool) -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self(is_terminal && !is_set("NO_COLOR") && !is_dumb)
    }

    pub(in crate::client::demo) fn bold(self, text: &str) -> String {
        self.code("1", text)
    }

    pub(super) fn colour(self, colour: Colour, text: &str) -> String {
        let code = match colour {
            Colour::Red => "31",
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Blue => "34",
            Colour::Cyan => "36",
            Colour::Dim => "2",
        };
        self.code(code, text)
    }

    fn code(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}
