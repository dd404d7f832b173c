//! Names, paths and unique ids.

use super::Error;
use crate::random;

/// `[\w+=,.@-]+`, at most so many characters.
pub(super) fn check(member: &str, name: &str, most: usize) -> Result<(), Error> {
    if name.is_empty() || name.len() > most {
        let rule = if name.is_empty() { "greater than or equal to 1" } else { "less than or equal to" };
        let most = if name.is_empty() { String::new() } else { format!(" {most}") };
        return Err(violation(member, name, &format!("Member must have length {rule}{most}")));
    }
    if !name.bytes().all(is_name_byte) {
        return Err(Error::Invalid(format!(
            "The specified value for {member} is invalid. It must contain only alphanumeric characters and/or the \
             following: +=,.@_-"
        )));
    }
    Ok(())
}

pub(super) fn violation(member: &str, value: &str, rule: &str) -> Error {
    let shown = &value[..value.floor_char_boundary(200)];
    Error::Invalid(format!(
        "1 validation error detected: Value '{shown}' at '{member}' failed to satisfy constraint: {rule}"
    ))
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte)
}

/// A path begins and ends with a slash.
pub(super) fn check_path(path: &str) -> Result<(), Error> {
    let legal = path == "/"
        || (path.len() >= 3
            && path.len() <= 512
            && path.starts_with('/')
            && path.ends_with('/')
            && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*' && byte != b'?'));
    if legal {
        return Ok(());
    }
    Err(Error::Invalid(
        "The specified value for path is invalid. It must begin and end with / and contain only alphanumeric characters \
         and/or / characters."
            .into(),
    ))
}

/// A role's unique id.
pub(super) fn role_id() -> String {
    format!("AROA{}", random::base32::<17>())
}

/// A policy's unique id.
pub(super) fn policy_id() -> String {
    format!("ANPA{}", random::base32::<17>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_paths_are_iams() {
        assert!(check("roleName", "a+=,.@_-1", 64).is_ok() && check("roleName", &"r".repeat(64), 64).is_ok());
        for bad in ["", "a b", "a/b", &"r".repeat(65)] {
            assert!(check("roleName", bad, 64).is_err(), "{bad}");
        }
        assert!(check_path("/").is_ok() && check_path("/a/b/").is_ok());
        for bad in ["", "a", "/a", "a/", "//x y/", "/*/"] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }
}
