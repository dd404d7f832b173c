//! Filter patterns (CloudWatch Logs: Filter pattern syntax): which messages a search or a subscription wants.
//!
//! Pure: a pattern is read once, then asked for message after message. Three kinds, told apart by the first character:
//! terms, `{ … }` over a message that is a JSON object, `[ … ]` over fields that are separated by spaces. Matching takes
//! time in proportion to the message: regular expressions are automata, wildcards never go back.

mod cursor;
mod expression;
mod fields;
mod json;
mod regex;
mod terms;
mod test;

use cursor::Cursor;

/// The longest pattern, in characters (CloudWatch Logs API: FilterPattern).
pub const MAX_LENGTH: usize = 1024;

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PatternError(String);

impl PatternError {
    fn new(reason: impl std::fmt::Display) -> Self {
        Self(format!("Invalid filter pattern: {reason}"))
    }
}

/// A pattern that was read.
#[derive(Debug)]
pub struct Pattern(Kind);

#[derive(Debug)]
enum Kind {
    /// Nothing was asked for.
    All,
    Terms(terms::Terms),
    Json(json::Condition),
    Fields(fields::Fields),
}

impl Pattern {
    /// Reads a pattern of at most [`MAX_LENGTH`] characters.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if text.chars().count() > MAX_LENGTH {
            return Err(PatternError::new(format_args!("it is longer than {MAX_LENGTH} characters")));
        }
        let text = text.trim();
        let mut cursor = Cursor::new(text);
        let kind = match text.chars().next() {
            None => Kind::All,
            Some('{') => Kind::Json(json::parse(&mut cursor)?),
            Some('[') => Kind::Fields(fields::parse(&mut cursor)?),
            Some(_) => terms::parse(&mut cursor)?.map_or(Kind::All, Kind::Terms),
        };
        cursor.finished()?;
        Ok(Self(kind))
    }

    /// Whether the pattern wants a message.
    pub fn matches(&self, message: &str) -> bool {
        match &self.0 {
            Kind::All => true,
            Kind::Terms(terms) => terms.matches(message),
            Kind::Json(condition) => json::matches(condition, message),
            Kind::Fields(fields) => fields.matches(message),
        }
    }

    /// Whether it wants every message.
    pub fn is_all(&self) -> bool {
        matches!(self.0, Kind::All)
    }
}

#[cfg(test)]
mod tests;
