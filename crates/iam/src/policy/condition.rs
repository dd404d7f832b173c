//! One line of a `Condition` element: operator, key, values.

use super::Context;
use super::pattern::Pattern;
use super::values::{Order, Test};

/// `ForAllValues:StringNotLikeIfExists` and a key with its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    operator: Operator,
    /// In lower case.
    key: String,
    values: Vec<Pattern>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    /// `Null`, with what it wants: whether the key is to be absent. Either, where both are listed.
    Null {
        absent: bool,
        present: bool,
    },
    Compare {
        quantifier: Quantifier,
        test: Test,
        negated: bool,
        if_exists: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    None,
    Any,
    All,
}

impl Condition {
    /// Reads one; the error says what is wrong with it.
    pub(super) fn read(
        operator: &str,
        key: &str,
        values: &[String],
        variables: bool,
    ) -> Result<Self, String> {
        let key = key.to_ascii_lowercase();
        if operator == "Null" {
            let wants = |text: &str| values.iter().any(|value| value.eq_ignore_ascii_case(text));
            let operator = Operator::Null { absent: wants("true"), present: wants("false") };
            return Ok(Self { operator, key, values: Vec::new() });
        }
        let (quantifier, rest) = match operator.split_once(':') {
            Some(("ForAnyValue", rest)) => (Quantifier::Any, rest),
            Some(("ForAllValues", rest)) => (Quantifier::All, rest),
            _ => (Quantifier::None, operator),
        };
        let (name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let (test, negated) = test(name).ok_or_else(|| format!("Invalid Condition type : {operator}."))?;
        let read = |text: &String| {
            test.read(text, variables).ok_or_else(|| format!("Invalid value {text} for {operator}."))
        };
        let values = values.iter().map(read).collect::<Result<_, _>>()?;
        let operator = Operator::Compare { quantifier, test, negated, if_exists };
        Ok(Self { operator, key, values })
    }

    /// Whether the request meets it.
    pub(super) fn holds(&self, context: &Context) -> bool {
        let actual = context.values(&self.key);
        match self.operator {
            Operator::Null { absent, present } => {
                if actual.is_none() {
                    absent
                } else {
                    present
                }
            }
            Operator::Compare { quantifier, test, negated, if_exists } => {
                let Some(actual) = actual else {
                    return if_exists
                        || quantifier == Quantifier::All
                        || (negated && quantifier == Quantifier::None);
                };
                let met = |value: &String| {
                    self.values.iter().any(|wanted| test.meets(value, wanted, context)) != negated
                };
                match quantifier {
                    Quantifier::Any => actual.iter().any(met),
                    Quantifier::All => actual.iter().all(met),
                    // One value as a rule; of several, a `Not…` must hold for each.
                    Quantifier::None if negated => actual.iter().all(met),
                    Quantifier::None => actual.iter().any(met),
                }
            }
        }
    }
}

/// The operators by name: what they test, and whether they want the opposite.
fn test(name: &str) -> Option<(Test, bool)> {
    Some(match name {
        "StringEquals" => (Test::Equals, false),
        "StringNotEquals" => (Test::Equals, true),
        "StringEqualsIgnoreCase" => (Test::EqualsIgnoreCase, false),
        "StringNotEqualsIgnoreCase" => (Test::EqualsIgnoreCase, true),
        "StringLike" => (Test::Like, false),
        "StringNotLike" => (Test::Like, true),
        // With ARNs, equality knows wildcards too.
        "ArnEquals" | "ArnLike" => (Test::Arn, false),
        "ArnNotEquals" | "ArnNotLike" => (Test::Arn, true),
        "NumericEquals" => (Test::Numeric(Order::Equal), false),
        "NumericNotEquals" => (Test::Numeric(Order::Equal), true),
        "NumericLessThan" => (Test::Numeric(Order::Less), false),
        "NumericLessThanEquals" => (Test::Numeric(Order::LessOrEqual), false),
        "NumericGreaterThan" => (Test::Numeric(Order::Greater), false),
        "NumericGreaterThanEquals" => (Test::Numeric(Order::GreaterOrEqual), false),
        "DateEquals" => (Test::Date(Order::Equal), false),
        "DateNotEquals" => (Test::Date(Order::Equal), true),
        "DateLessThan" => (Test::Date(Order::Less), false),
        "DateLessThanEquals" => (Test::Date(Order::LessOrEqual), false),
        "DateGreaterThan" => (Test::Date(Order::Greater), false),
        "DateGreaterThanEquals" => (Test::Date(Order::GreaterOrEqual), false),
        "Bool" => (Test::Bool, false),
        "IpAddress" => (Test::IpAddress, false),
        "NotIpAddress" => (Test::IpAddress, true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(operator: &str, values: &[&str], actual: Option<&[&str]>, expect: bool) {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        let condition = Condition::read(operator, "aws:Key", &values, true).unwrap();
        let mut context = Context::default();
        if let Some(actual) = actual {
            context.set_all("AWS:key", actual.iter().map(|value| (*value).to_owned()).collect());
        }
        assert_eq!(condition.holds(&context), expect, "{operator} {values:?} {actual:?}");
    }

    #[test]
    fn an_absent_key_meets_what_asks_for_nothing_of_it() {
        check("StringEquals", &["a"], None, false);
        check("StringNotEquals", &["a"], None, true);
        check("StringEqualsIfExists", &["a"], None, true);
        check("StringEqualsIfExists", &["a"], Some(&["b"]), false);
        check("ForAllValues:StringEquals", &["a"], None, true);
        check("ForAnyValue:StringEquals", &["a"], None, false);
        check("ForAnyValue:StringNotEquals", &["a"], None, false);
        check("Null", &["true"], None, true);
        check("Null", &["true"], Some(&["x"]), false);
        check("Null", &["false"], Some(&["x"]), true);
    }

    #[test]
    fn lists_are_alternatives() {
        check("StringEquals", &["a", "b"], Some(&["b"]), true);
        check("StringNotEquals", &["a", "b"], Some(&["b"]), false);
        check("StringNotEquals", &["a", "b"], Some(&["c"]), true);
        check("ForAllValues:StringEquals", &["a", "b"], Some(&["a", "b"]), true);
        check("ForAllValues:StringEquals", &["a", "b"], Some(&["a", "c"]), false);
        check("ForAnyValue:StringEquals", &["a", "b"], Some(&["c", "a"]), true);
        check("ForAnyValue:StringLike", &["a*"], Some(&["b", "ab"]), true);
        check("ForAllValues:StringNotEquals", &["a"], Some(&["b", "a"]), false);
    }

    #[test]
    fn what_is_no_operator_is_refused() {
        for operator in ["StringEqual", "stringequals", "NullIfExists", "ForSomeValues:Bool", "Binary"] {
            assert!(Condition::read(operator, "k", &["true".into()], true).is_err(), "{operator}");
        }
        assert!(Condition::read("NumericEquals", "k", &["x".into()], true).is_err());
        assert!(Condition::read("NumericEquals", "k", &["${aws:x}".into()], true).is_ok());
    }
}
