//! Reading a pattern's text from left to right.

use super::PatternError;
use super::regex::Regex;

/// Regular expressions in one pattern over JSON or fields (CloudWatch Logs: Supported regular expressions syntax).
const MAX_REGEXES: usize = 2;

/// A place in a text.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a str,
    regexes: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, regexes: 0 }
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    pub(super) fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Goes past `text` if it comes next.
    pub(super) fn eat(&mut self, text: &str) -> bool {
        let after = self.rest.strip_prefix(text);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    /// Goes past a word in capitals or not, which no letter may follow.
    pub(super) fn eat_keyword(&mut self, word: &str) -> bool {
        let Some((start, after)) = self.rest.split_at_checked(word.len()) else { return false };
        let ends = !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let found = ends && start.eq_ignore_ascii_case(word);
        if found {
            self.rest = after;
        }
        found
    }

    pub(super) fn expect(&mut self, text: &str) -> Result<(), PatternError> {
        if self.eat(text) { Ok(()) } else { Err(self.unexpected(&format!("'{text}'"))) }
    }

    /// The characters up to the first that is not `part` of it.
    pub(super) fn take_while(&mut self, part: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// The characters up to the first of these texts, or all.
    pub(super) fn take_until(&mut self, ends: &[&str]) -> &'a str {
        let end = ends.iter().filter_map(|end| self.rest.find(end)).min().unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// What stands between double quotation marks; a backslash takes the next mark or backslash as it is.
    pub(super) fn quoted(&mut self) -> Result<String, PatternError> {
        self.expect("\"")?;
        let mut text = String::new();
        let mut characters = self.rest.chars();
        while let Some(character) = characters.next() {
            match character {
                '"' => {
                    self.rest = characters.as_str();
                    return Ok(text);
                }
                '\\' if characters.as_str().starts_with(['"', '\\']) => text.extend(characters.next()),
                other => text.push(other),
            }
        }
        Err(PatternError::new("a quotation mark is not closed"))
    }

    /// What stands between percent signs.
    pub(super) fn regex(&mut self) -> Result<Regex, PatternError> {
        self.expect("%")?;
        let Some((text, rest)) = self.rest.split_once('%') else {
            return Err(PatternError::new("a regular expression is not closed by %"));
        };
        self.rest = rest;
        Regex::parse(text)
    }

    /// The same where a pattern may have two of them at most.
    pub(super) fn bounded_regex(&mut self) -> Result<Regex, PatternError> {
        self.regexes += 1;
        if self.regexes > MAX_REGEXES {
            return Err(PatternError::new(format_args!(
                "it has more than {MAX_REGEXES} regular expressions"
            )));
        }
        self.regex()
    }

    pub(super) fn finished(&mut self) -> Result<(), PatternError> {
        self.skip_space();
        if self.rest.is_empty() { Ok(()) } else { Err(self.unexpected("the end")) }
    }

    pub(super) fn unexpected(&self, wanted: &str) -> PatternError {
        match self.peek() {
            Some(found) => PatternError::new(format_args!("{wanted} was expected where '{found}' stands")),
            None => PatternError::new(format_args!("{wanted} was expected at its end")),
        }
    }
}
