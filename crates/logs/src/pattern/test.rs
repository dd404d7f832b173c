//! What a value is compared with, in conditions over JSON and over fields.

use super::PatternError;
use super::cursor::Cursor;
use super::regex::Regex;

/// A comparison's operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    Unequal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

impl Operator {
    /// Longer ones first.
    const ALL: [(&'static str, Self); 6] = [
        ("!=", Self::Unequal),
        ("<=", Self::AtMost),
        (">=", Self::AtLeast),
        ("=", Self::Equal),
        ("<", Self::Less),
        (">", Self::Greater),
    ];

    pub(super) fn read(cursor: &mut Cursor<'_>) -> Option<Self> {
        Self::ALL.into_iter().find(|(text, _)| cursor.eat(text)).map(|(_, operator)| operator)
    }

    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Unequal => left != right,
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::Greater => left > right,
            Self::AtLeast => left >= right,
        }
    }
}

/// A comparison, waiting for its left side.
#[derive(Debug)]
pub(super) struct Test {
    operator: Operator,
    operand: Operand,
}

#[derive(Debug)]
enum Operand {
    /// A number, and the text that it was.
    Number(f64, Wildcards),
    Text(Wildcards),
    Regex(Regex),
    /// `NULL` without quotation marks.
    Null,
}

impl Test {
    /// Reads what follows an operator; a value without quotation marks goes on until one of `ends`.
    pub(super) fn read(
        cursor: &mut Cursor<'_>,
        operator: Operator,
        ends: &[&str],
    ) -> Result<Self, PatternError> {
        cursor.skip_space();
        let operand = match cursor.peek() {
            Some('"') => Operand::Text(Wildcards::new(&cursor.quoted()?)),
            Some('%') => Operand::Regex(cursor.bounded_regex()?),
            _ => bare(cursor, ends)?,
        };
        let ordered = !matches!(operator, Operator::Equal | Operator::Unequal);
        if ordered && !matches!(operand, Operand::Number(..)) {
            return Err(PatternError::new("only numbers can be compared by <, <=, > and >="));
        }
        Ok(Self { operator, operand })
    }

    /// Whether it holds for a value that is there: its text, and its number if it is one. A value without text is
    /// null.
    pub(super) fn holds(&self, text: Option<&str>, number: Option<f64>) -> bool {
        if let (Operand::Number(wanted, _), Some(number)) = (&self.operand, number) {
            return self.operator.holds(number, *wanted);
        }
        let equal = match (&self.operand, text) {
            (Operand::Null, text) => text.is_none(),
            (_, None) => false,
            (Operand::Number(_, wanted) | Operand::Text(wanted), Some(text)) => wanted.match_whole(text),
            (Operand::Regex(wanted), Some(text)) => wanted.finds(text),
        };
        match self.operator {
            Operator::Equal => equal,
            Operator::Unequal => !equal,
            _ => false,
        }
    }
}

fn bare(cursor: &mut Cursor<'_>, ends: &[&str]) -> Result<Operand, PatternError> {
    let text = cursor.take_until(ends).trim_end();
    if text.is_empty() {
        return Err(cursor.unexpected("a value"));
    }
    if text.contains('"') {
        return Err(PatternError::new(format_args!("a quotation mark stands within the value {text}")));
    }
    Ok(match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Operand::Number(number, Wildcards::new(text)),
        _ if text == "NULL" => Operand::Null,
        _ => Operand::Text(Wildcards::new(text)),
    })
}

/// A text in which `*` stands for any characters.
#[derive(Debug)]
struct Wildcards(Vec<String>);

impl Wildcards {
    fn new(text: &str) -> Self {
        Self(text.split('*').map(str::to_owned).collect())
    }

    /// The first and the last part are at the ends; those between are looked for from left to right, each once: taking
    /// the first place leaves most to what follows.
    fn match_whole(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.0.as_slice() else {
            // `split` gives one part at least.
            return self.0.first().is_some_and(|whole| whole == text);
        };
        let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
        for part in middle {
            match rest.find(part.as_str()) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.len() >= last.len() && rest.ends_with(last.as_str())
    }
}
