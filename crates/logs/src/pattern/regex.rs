//! Regular expressions between percent signs, as far as CloudWatch Logs has them: no groups, no multi-byte
//! characters, letters, digits, some symbols, and `^ $ ? [ ] { } | \ * + .`

use super::PatternError;

/// Bytes of a compiled expression: what one step of matching may cost. Counted repetition is what needs them.
const MAX_COMPILED: usize = 64 << 10;

/// A regular expression that finds anywhere in a text.
#[derive(Debug)]
pub(super) struct Regex(regex_lite::Regex);

impl Regex {
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::new("a regular expression is empty"));
        }
        check(text)?;
        let compiled = regex_lite::RegexBuilder::new(text).size_limit(MAX_COMPILED).build();
        compiled
            .map(Self)
            .map_err(|error| PatternError::new(format_args!("the regular expression {text}: {error}")))
    }

    pub(super) fn finds(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

fn check(text: &str) -> Result<(), PatternError> {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let fine = match character {
            '\\' => characters.next().is_some_and(is_escapable),
            c => c.is_ascii_alphanumeric() || " _#=@/;,-:^$?[]{}|*+.".contains(c),
        };
        if !fine {
            return Err(PatternError::new(format_args!(
                "'{character}' is not supported in the regular expression {text}"
            )));
        }
    }
    Ok(())
}

/// Classes, a byte by its number, and operators taken as they are.
fn is_escapable(character: char) -> bool {
    (character.is_ascii_punctuation() && !"<>".contains(character)) || "dDsSwWx".contains(character)
}
