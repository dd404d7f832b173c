//! Conditions over fields separated by spaces: `[ip, user, ..., status = 4*, bytes > 1000]`.
//!
//! What stands between square brackets or quotation marks in a message is one field, without them. `...` stands for any
//! number of fields, and a pattern without it wants exactly as many as it names.

use super::PatternError;
use super::cursor::Cursor;
use super::expression::Expression;
use super::test::{Operator, Test};

/// What a message's fields have to be.
#[derive(Debug)]
pub(super) struct Fields {
    first: Vec<Option<Expression<Test>>>,
    /// What comes behind `...`, if there is one.
    last: Option<Vec<Option<Expression<Test>>>>,
}

/// Where a value without quotation marks ends.
const ENDS: &[&str] = &[" ", "\t", "\n", "\r", ",", ")", "]", "&&", "||"];

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Fields, PatternError> {
    cursor.expect("[")?;
    let mut fields = Fields { first: Vec::new(), last: None };
    loop {
        cursor.skip_space();
        if cursor.eat("...") {
            if fields.last.replace(Vec::new()).is_some() {
                return Err(PatternError::new("'...' stands in it twice"));
            }
        } else {
            let field = field(cursor)?;
            fields.last.as_mut().unwrap_or(&mut fields.first).push(field);
        }
        cursor.skip_space();
        if cursor.eat("]") {
            return Ok(fields);
        }
        cursor.expect(",")?;
    }
}

/// A field's name alone, or conditions on it.
fn field(cursor: &mut Cursor<'_>) -> Result<Option<Expression<Test>>, PatternError> {
    let mut ahead = cursor.clone();
    let named = !name(&mut ahead).is_empty();
    ahead.skip_space();
    if named && matches!(ahead.peek(), Some(',' | ']')) {
        *cursor = ahead;
        return Ok(None);
    }
    let mut known = None;
    Expression::read(cursor, &mut |cursor| condition(cursor, &mut known)).map(Some)
}

/// `NAME OPERATOR VALUE`; one field has one name.
fn condition(cursor: &mut Cursor<'_>, known: &mut Option<String>) -> Result<Test, PatternError> {
    let name = name(cursor);
    if name.is_empty() {
        return Err(cursor.unexpected("a field's name"));
    }
    if known.get_or_insert_with(|| name.to_owned()) != name {
        return Err(PatternError::new(format_args!("one field cannot have two names, '{name}' is another")));
    }
    cursor.skip_space();
    let Some(operator) = Operator::read(cursor) else { return Err(cursor.unexpected("an operator")) };
    Test::read(cursor, operator, ENDS)
}

fn name<'a>(cursor: &mut Cursor<'a>) -> &'a str {
    cursor.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

impl Fields {
    pub(super) fn matches(&self, message: &str) -> bool {
        let found = split(message);
        match &self.last {
            None => found.len() == self.first.len() && hold(&self.first, &found),
            Some(last) => {
                found.len() >= self.first.len() + last.len()
                    && hold(&self.first, &found)
                    && hold(last, &found[found.len() - last.len()..])
            }
        }
    }
}

fn hold(wanted: &[Option<Expression<Test>>], found: &[&str]) -> bool {
    wanted.iter().zip(found).all(|(wanted, found)| {
        wanted.as_ref().is_none_or(|wanted| {
            wanted.holds(&|test| test.holds(Some(found), found.parse().ok().filter(|n: &f64| n.is_finite())))
        })
    })
}

/// The fields of a message.
fn split(message: &str) -> Vec<&str> {
    let mut fields = Vec::new();
    let mut rest = message.trim_start();
    while let Some(first) = rest.chars().next() {
        let enclosed = match first {
            '[' => rest[1..].split_once(']'),
            '"' => rest[1..].split_once('"'),
            _ => None,
        };
        let (field, after) = enclosed.unwrap_or_else(|| match rest.find(char::is_whitespace) {
            Some(end) => rest.split_at(end),
            None => (rest, ""),
        });
        fields.push(field);
        rest = after.trim_start();
    }
    fields
}
