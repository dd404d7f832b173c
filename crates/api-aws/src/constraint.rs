//! A model's constraints (required, length, range, enum, pattern), collected and reported together in the
//! words that AWS's own front ends use.

use crate::failure::Failure;

/// The constraints that a request breaks.
#[derive(Debug, Default)]
pub(crate) struct Violations(Vec<String>);

impl Violations {
    /// A member that the model requires.
    pub(crate) fn required(&mut self, member: &str, present: bool) {
        if !present {
            self.0.push(format!(
                "Value null at '{member}' failed to satisfy constraint: Member must not be null"
            ));
        }
    }

    /// A string's length in characters.
    pub(crate) fn length(&mut self, member: &str, value: &str, min: usize, max: usize) {
        let length = value.chars().count();
        if length < min {
            self.add(member, value, &format!("Member must have length greater than or equal to {min}"));
        } else if length > max {
            self.add(member, value, &format!("Member must have length less than or equal to {max}"));
        }
    }

    /// How many items a list has.
    pub(crate) fn count(&mut self, member: &str, items: usize, max: usize) {
        if items > max {
            self.add(member, "[…]", &format!("Member must have length less than or equal to {max}"));
        }
    }

    /// A number's bounds, both inclusive.
    pub(crate) fn range(&mut self, member: &str, value: i64, min: i64, max: i64) {
        if value < min {
            let rule = format!("Member must have value greater than or equal to {min}");
            self.add(member, &value.to_string(), &rule);
        } else if value > max {
            let rule = format!("Member must have value less than or equal to {max}");
            self.add(member, &value.to_string(), &rule);
        }
    }

    /// One of a fixed set.
    pub(crate) fn one_of(&mut self, member: &str, value: &str, set: &[&str]) {
        if !set.contains(&value) {
            self.add(member, value, &format!("Member must satisfy enum value set: [{}]", set.join(", ")));
        }
    }

    /// A pattern that was checked by the caller.
    pub(crate) fn pattern(&mut self, member: &str, value: &str, matches: bool, pattern: &str) {
        if !matches {
            self.add(member, value, &format!("Member must satisfy regular expression pattern: {pattern}"));
        }
    }

    /// Another rule, that was checked by the caller.
    pub(crate) fn rule(&mut self, member: &str, value: &str, kept: bool, rule: &str) {
        if !kept {
            self.add(member, value, rule);
        }
    }

    fn add(&mut self, member: &str, value: &str, rule: &str) {
        // An error is not the place to send a large value back.
        let shown = &value[..value.floor_char_boundary(200)];
        self.0.push(format!("Value '{shown}' at '{member}' failed to satisfy constraint: {rule}"));
    }

    /// The message for all of them, if any.
    pub(crate) fn message(self) -> Option<String> {
        let count = self.0.len();
        let noun = if count == 1 { "error" } else { "errors" };
        (count > 0).then(|| format!("{count} validation {noun} detected: {}", self.0.join("; ")))
    }

    /// A `ValidationException` if there is any violation.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        self.message().map_or(Ok(()), |message| Err(Failure::bad("ValidationException", message)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_all_at_once() {
        let mut violations = Violations::default();
        violations.required("role", false);
        violations.range("memorySize", 64, 128, 32_768);
        violations.one_of("packageType", "Tar", &["Zip", "Image"]);
        assert_eq!(
            violations.message().as_deref(),
            Some(
                "3 validation errors detected: Value null at 'role' failed to satisfy constraint: Member must \
                 not be null; Value '64' at 'memorySize' failed to satisfy constraint: Member must have value \
                 greater than or equal to 128; Value 'Tar' at 'packageType' failed to satisfy constraint: \
                 Member must satisfy enum value set: [Zip, Image]"
            )
        );
        let mut fine = Violations::default();
        fine.length("description", "x", 0, 256);
        fine.range("timeout", 900, 1, 5_400);
        fine.required("role", true);
        assert_eq!(fine.finish(), Ok(()));
    }
}
