//! Conditions joined by `&&`, `||` and parentheses; `&&` binds closer.

use super::PatternError;
use super::cursor::Cursor;

/// Parentheses within parentheses: what reading and asking may need of the stack.
const MAX_DEPTH: usize = 32;

/// A tree of conditions.
#[derive(Debug)]
pub(super) enum Expression<T> {
    One(T),
    All(Vec<Expression<T>>),
    Any(Vec<Expression<T>>),
}

impl<T> Expression<T> {
    /// Reads an expression whose leaves `leaf` reads.
    pub(super) fn read(
        cursor: &mut Cursor<'_>,
        leaf: &mut dyn FnMut(&mut Cursor<'_>) -> Result<T, PatternError>,
    ) -> Result<Self, PatternError> {
        Self::any(cursor, leaf, 0)
    }

    /// Whether it holds where `holds` says so of leaves.
    pub(super) fn holds(&self, holds: &dyn Fn(&T) -> bool) -> bool {
        match self {
            Self::One(leaf) => holds(leaf),
            Self::All(parts) => parts.iter().all(|part| part.holds(holds)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(holds)),
        }
    }

    fn any(
        cursor: &mut Cursor<'_>,
        leaf: &mut dyn FnMut(&mut Cursor<'_>) -> Result<T, PatternError>,
        depth: usize,
    ) -> Result<Self, PatternError> {
        let mut parts = vec![Self::all(cursor, leaf, depth)?];
        while cursor.eat("||") {
            parts.push(Self::all(cursor, leaf, depth)?);
        }
        Ok(join(parts, Self::Any))
    }

    fn all(
        cursor: &mut Cursor<'_>,
        leaf: &mut dyn FnMut(&mut Cursor<'_>) -> Result<T, PatternError>,
        depth: usize,
    ) -> Result<Self, PatternError> {
        let mut parts = vec![Self::one(cursor, leaf, depth)?];
        while cursor.eat("&&") {
            parts.push(Self::one(cursor, leaf, depth)?);
        }
        Ok(join(parts, Self::All))
    }

    fn one(
        cursor: &mut Cursor<'_>,
        leaf: &mut dyn FnMut(&mut Cursor<'_>) -> Result<T, PatternError>,
        depth: usize,
    ) -> Result<Self, PatternError> {
        cursor.skip_space();
        let part = if cursor.eat("(") {
            if depth == MAX_DEPTH {
                return Err(PatternError::new(format_args!(
                    "parentheses are nested deeper than {MAX_DEPTH}"
                )));
            }
            let inner = Self::any(cursor, leaf, depth + 1)?;
            cursor.expect(")")?;
            inner
        } else {
            Self::One(leaf(cursor)?)
        };
        cursor.skip_space();
        Ok(part)
    }
}

fn join<T>(mut parts: Vec<Expression<T>>, many: fn(Vec<Expression<T>>) -> Expression<T>) -> Expression<T> {
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            many(parts)
        }
    }
}
