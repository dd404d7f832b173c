//! Texts with `*`, `?` and policy variables.
//!
//! A variable's value is taken as it is: an asterisk in a user's name matches an asterisk. A variable that has no
//! value and no default makes its pattern match nothing.

use std::borrow::Cow;

use super::Context;

/// A pattern, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Char(char),
    /// `?`
    One,
    /// `*`
    Many,
    Variable {
        key: String,
        default: Option<String>,
    },
}

impl Pattern {
    /// Wildcards mean what they mean; `${…}` is a variable where `variables`.
    pub(super) fn glob(text: &str, variables: bool) -> Self {
        Self::read(text, true, variables)
    }

    /// Every character stands for itself, but for variables.
    pub(super) fn literal(text: &str, variables: bool) -> Self {
        Self::read(text, false, variables)
    }

    fn read(text: &str, wildcards: bool, variables: bool) -> Self {
        let mut pieces = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            if variables && let Some((name, after)) = variable(rest) {
                pieces.push(escaped(name).map_or_else(|| named(name), Piece::Char));
                rest = after;
                continue;
            }
            pieces.push(match next {
                '*' if wildcards => Piece::Many,
                '?' if wildcards => Piece::One,
                other => Piece::Char(other),
            });
            rest = &rest[next.len_utf8()..];
        }
        Self(pieces)
    }

    /// Whether it is all of `text`.
    pub(super) fn matches(&self, text: &str, context: &Context) -> bool {
        if self.0 == [Piece::Many] {
            return true;
        }
        let Some(pieces) = self.filled(context) else { return false };
        let text: Vec<char> = text.chars().collect();
        glob(&pieces, &text)
    }

    /// The same, whatever the case.
    pub(super) fn matches_any_case(&self, text: &str, context: &Context) -> bool {
        let Some(pieces) = self.filled(context) else { return false };
        let lower = |piece: &Piece| match piece {
            Piece::Char(c) => c.to_lowercase().map(Piece::Char).collect(),
            other => vec![other.clone()],
        };
        let pieces: Vec<Piece> = pieces.iter().flat_map(lower).collect();
        let text: Vec<char> = text.chars().flat_map(char::to_lowercase).collect();
        glob(&pieces, &text)
    }

    /// The text that it stands for, where it holds no wildcards: conditions that compare numbers, dates, addresses.
    pub(super) fn text(&self, context: &Context) -> Option<String> {
        let pieces = self.filled(context)?;
        let chars = pieces.iter().map(|piece| match piece {
            Piece::Char(c) => *c,
            Piece::One => '?',
            // Variables have been filled in.
            Piece::Many | Piece::Variable { .. } => '*',
        });
        Some(chars.collect())
    }

    /// Splits at colons, for ARNs: at most six parts. Variables stay in their part.
    pub(super) fn arn_parts(&self) -> Vec<Pattern> {
        let mut parts = vec![Vec::new()];
        for piece in &self.0 {
            let full = parts.len() == 6;
            match (piece, parts.last_mut()) {
                (Piece::Char(':'), _) if !full => parts.push(Vec::new()),
                (piece, Some(last)) => last.push(piece.clone()),
                (_, None) => {}
            }
        }
        parts.into_iter().map(Pattern).collect()
    }

    fn filled(&self, context: &Context) -> Option<Cow<'_, [Piece]>> {
        if !self.0.iter().any(|piece| matches!(piece, Piece::Variable { .. })) {
            return Some(Cow::Borrowed(&self.0));
        }
        let mut out = Vec::with_capacity(self.0.len());
        for piece in &self.0 {
            match piece {
                Piece::Variable { key, default } => {
                    let value = context.single(key).or(default.as_deref())?;
                    out.extend(value.chars().map(Piece::Char));
                }
                other => out.push(other.clone()),
            }
        }
        Some(Cow::Owned(out))
    }
}

/// `${name}` at the beginning: the name, and what follows.
fn variable(text: &str) -> Option<(&str, &str)> {
    text.strip_prefix("${")?.split_once('}')
}

/// `${*}`, `${?}` and `${$}` are the characters themselves.
fn escaped(name: &str) -> Option<char> {
    match name {
        "*" => Some('*'),
        "?" => Some('?'),
        "$" => Some('$'),
        _ => None,
    }
}

/// `key`, or `key, 'default'`.
fn named(name: &str) -> Piece {
    let (key, default) = match name.split_once(',') {
        Some((key, default)) => (key, Some(default.trim().trim_matches('\'').to_owned())),
        None => (name, None),
    };
    Piece::Variable { key: key.trim().to_ascii_lowercase(), default }
}

/// Linear but for one point to go back to: a later `*` makes every earlier one settled.
fn glob(pattern: &[Piece], text: &[char]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while read < text.len() {
        match pattern.get(at) {
            Some(Piece::Many) => {
                back = Some((at + 1, read));
                at += 1;
            }
            Some(Piece::One) => (at, read) = (at + 1, read + 1),
            Some(Piece::Char(c)) if *c == text[read] => (at, read) = (at + 1, read + 1),
            _ => match back {
                Some((after, from)) => {
                    back = Some((after, from + 1));
                    (at, read) = (after, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|piece| *piece == Piece::Many)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, expect: bool) {
        let context = Context::new([("aws:username", "an*a")]);
        assert_eq!(Pattern::glob(pattern, true).matches(text, &context), expect, "{pattern} {text}");
    }

    #[test]
    fn wildcards_match_as_much_as_they_must() {
        for (pattern, text, expect) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a?c", "aüc", true),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b*", "xxbxxaxx", false),
            ("**", "x", true),
            ("*?", "", false),
        ] {
            check(pattern, text, expect);
        }
    }

    #[test]
    fn variables_are_texts_and_never_patterns() {
        check("home/${aws:username}/*", "home/an*a/x", true);
        check("home/${aws:username}", "home/anna", false);
        check("home/${AWS:UserName}", "home/an*a", true);
        check("${aws:missing}", "", false);
        check("${aws:missing, 'none'}", "none", true);
        check("a${*}b", "a*b", true);
        check("a${*}b", "axb", false);
        check("cost ${$}5", "cost $5", true);
        let old = Pattern::glob("${aws:username}", false);
        assert!(old.matches("${aws:username}", &Context::default()), "the first version has no variables");
    }

    #[test]
    fn many_asterisks_stay_fast() {
        let pattern = "*a".repeat(40) + "b";
        assert!(!Pattern::glob(&pattern, false).matches(&"a".repeat(10_000), &Context::default()));
    }
}
