//! What a transaction can do, whatever the engine.

use crate::Error;

/// A parameter or a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// NULL
    Null,
    /// 64-bit integer.
    Int(i64),
    /// UTF-8 text, compared bytewise.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}
impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}
impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}
impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(value)
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Row(pub Vec<Value>);

impl Row {
    /// The text in a column.
    pub fn text(&self, column: usize) -> Result<&str, Error> {
        match self.0.get(column) {
            Some(Value::Text(text)) => Ok(text),
            _ => Err(Error::Column { column, problem: "not text" }),
        }
    }

    /// The integer in a column.
    pub fn int(&self, column: usize) -> Result<i64, Error> {
        match self.0.get(column) {
            Some(Value::Int(number)) => Ok(*number),
            _ => Err(Error::Column { column, problem: "not an integer" }),
        }
    }

    /// The bytes in a column.
    pub fn blob(&self, column: usize) -> Result<&[u8], Error> {
        match self.0.get(column) {
            Some(Value::Blob(bytes)) => Ok(bytes),
            _ => Err(Error::Column { column, problem: "not bytes" }),
        }
    }
}

/// One step in the schema of a noun, applied once, in order, in a transaction.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Unique for ever, for example `functions-0001`.
    pub name: &'static str,
    /// One or more statements.
    pub sql: &'static str,
}

/// A transaction. After its first error it is dead: whatever comes next fails, and nothing is kept.
pub trait Tx {
    /// Runs a statement; the number of rows it changed. Parameters are `$1`, `$2`, …
    fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64, Error>;

    /// Runs a query.
    fn query(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>, Error>;
}
