//! Conditions over a message that is a JSON object: `{ ($.user.id = 1 || $.tags[0] = "a*") && $.error NOT EXISTS }`.
//!
//! A comparison holds only for a value that is there and is no object or array: what is absent is not unequal either.

use serde_json::Value;

use super::PatternError;
use super::cursor::Cursor;
use super::expression::Expression;
use super::test::{Operator, Test};

/// What a message has to be.
pub(super) type Condition = Expression<Leaf>;

/// A condition on one property.
#[derive(Debug)]
pub(super) struct Leaf {
    selector: Vec<Step>,
    check: Check,
}

#[derive(Debug)]
enum Step {
    Member(String),
    Element(usize),
}

#[derive(Debug)]
enum Check {
    Test(Test),
    IsNull,
    Is(bool),
    NotExists,
}

/// Where a value without quotation marks ends.
const ENDS: &[&str] = &[" ", "\t", "\n", "\r", ")", "}", "&&", "||"];

pub(super) fn parse(cursor: &mut Cursor<'_>) -> Result<Condition, PatternError> {
    cursor.expect("{")?;
    let condition = Expression::read(cursor, &mut leaf)?;
    cursor.expect("}")?;
    Ok(condition)
}

pub(super) fn matches(condition: &Condition, message: &str) -> bool {
    match serde_json::from_str::<Value>(message) {
        Ok(message) if message.is_object() => condition.holds(&|leaf| leaf.holds(&message)),
        _ => false,
    }
}

fn leaf(cursor: &mut Cursor<'_>) -> Result<Leaf, PatternError> {
    let selector = selector(cursor)?;
    cursor.skip_space();
    Ok(Leaf { selector, check: check(cursor)? })
}

fn check(cursor: &mut Cursor<'_>) -> Result<Check, PatternError> {
    if cursor.eat_keyword("IS") {
        cursor.skip_space();
        let values = [("NULL", Check::IsNull), ("TRUE", Check::Is(true)), ("FALSE", Check::Is(false))];
        let found = values.into_iter().find(|(word, _)| cursor.eat_keyword(word));
        return found.map(|(_, check)| check).ok_or_else(|| cursor.unexpected("NULL, TRUE or FALSE"));
    }
    if cursor.eat_keyword("NOT") {
        cursor.skip_space();
        return match cursor.eat_keyword("EXISTS") {
            true => Ok(Check::NotExists),
            false => Err(cursor.unexpected("EXISTS")),
        };
    }
    let Some(operator) = Operator::read(cursor) else { return Err(cursor.unexpected("an operator")) };
    Ok(Check::Test(Test::read(cursor, operator, ENDS)?))
}

fn selector(cursor: &mut Cursor<'_>) -> Result<Vec<Step>, PatternError> {
    if !cursor.eat("$") {
        return Err(cursor.unexpected("a property that begins with '$.'"));
    }
    let mut steps = Vec::new();
    loop {
        if cursor.eat(".") {
            let name = cursor.take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '-'));
            if name.is_empty() {
                return Err(cursor.unexpected("a property's name"));
            }
            steps.push(Step::Member(name.to_owned()));
        } else if cursor.eat("[") {
            steps.push(bracketed(cursor)?);
        } else if steps.is_empty() {
            return Err(cursor.unexpected("'.'"));
        } else {
            return Ok(steps);
        }
    }
}

fn bracketed(cursor: &mut Cursor<'_>) -> Result<Step, PatternError> {
    let step = match cursor.peek() {
        Some('"') => Step::Member(cursor.quoted()?),
        _ => {
            let digits = cursor.take_while(|c| c.is_ascii_digit());
            let number = digits.parse().map_err(|_| cursor.unexpected("an element's number"))?;
            Step::Element(number)
        }
    };
    cursor.expect("]")?;
    Ok(step)
}

impl Leaf {
    fn holds(&self, message: &Value) -> bool {
        let found = self.selector.iter().try_fold(message, |value, step| match step {
            Step::Member(name) => value.get(name.as_str()),
            Step::Element(number) => value.get(*number),
        });
        match (&self.check, found) {
            (Check::NotExists, found) => found.is_none(),
            (_, None) => false,
            (Check::IsNull, Some(value)) => value.is_null(),
            (Check::Is(wanted), Some(value)) => value.as_bool() == Some(*wanted),
            (Check::Test(test), Some(value)) => compare(test, value),
        }
    }
}

fn compare(test: &Test, value: &Value) -> bool {
    match value {
        Value::Null => test.holds(None, None),
        Value::Bool(value) => test.holds(Some(if *value { "true" } else { "false" }), None),
        Value::Number(number) => test.holds(Some(&number.to_string()), number.as_f64()),
        Value::String(text) => test.holds(Some(text), None),
        Value::Array(_) | Value::Object(_) => false,
    }
}
