//! Terms: `ERROR "exact phrase" -without %reg.ex%`, or `?this ?or ?that`. A term matches anywhere in a message, also within a
//! word.

use super::PatternError;
use super::cursor::Cursor;
use super::regex::Regex;

/// What a message has to have, and what not.
#[derive(Debug, Default)]
pub(super) struct Terms {
    included: Vec<Term>,
    excluded: Vec<Term>,
    /// One of them suffices. Beside others they count for nothing.
    optional: Vec<Term>,
}

#[derive(Debug)]
enum Term {
    Text(String),
    Regex(Regex),
}

/// `None` where there is no term: everything matches.
pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Option<Terms>, PatternError> {
    let mut terms = Terms::default();
    let mut any = false;
    loop {
        cursor.skip_space();
        if cursor.peek().is_none() {
            return Ok(any.then_some(terms));
        }
        let list = if cursor.eat("?") {
            &mut terms.optional
        } else if cursor.eat("-") {
            &mut terms.excluded
        } else {
            &mut terms.included
        };
        match term(cursor)? {
            // An empty phrase is in every message.
            Term::Text(text) if text.trim().is_empty() => {}
            term => {
                list.push(term);
                any = true;
            }
        }
    }
}

fn term(cursor: &mut Cursor<'_>) -> Result<Term, PatternError> {
    match cursor.peek() {
        Some('"') => Ok(Term::Text(cursor.quoted()?)),
        Some('%') => Ok(Term::Regex(cursor.regex()?)),
        _ => {
            let word = cursor.take_while(|c| !c.is_whitespace());
            if word.is_empty() || !word.chars().all(|c| c.is_alphanumeric() || c == '_') {
                return Err(PatternError(format!("Invalid character(s) in term '{word}'")));
            }
            Ok(Term::Text(word.to_owned()))
        }
    }
}

impl Terms {
    pub(super) fn matches(&self, message: &str) -> bool {
        if self.included.is_empty() && self.excluded.is_empty() {
            return self.optional.iter().any(|term| term.is_in(message));
        }
        self.included.iter().all(|term| term.is_in(message))
            && !self.excluded.iter().any(|term| term.is_in(message))
    }
}

impl Term {
    fn is_in(&self, message: &str) -> bool {
        match self {
            Self::Text(text) => message.contains(text.as_str()),
            Self::Regex(regex) => regex.finds(message),
        }
    }
}
