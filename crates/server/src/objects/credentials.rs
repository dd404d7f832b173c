//! The keys that packages are read with: a file in the form of AWS's shared credentials, its section `default`.

use std::path::Path;

use anyhow::{Context, Result};
use iam::Credentials;

/// Bytes of the file that are read.
const MOST: u64 = 64 << 10;

/// Reads them.
pub(super) fn read(file: &Path) -> Result<Credentials> {
    let told = || format!("--package-store-credentials: {}", file.display());
    let about = std::fs::metadata(file).with_context(told)?;
    anyhow::ensure!(about.len() <= MOST, "{}: the file is too large", told());
    parse(&std::fs::read_to_string(file).with_context(told)?).with_context(told)
}

fn parse(text: &str) -> Result<Credentials> {
    let mut section = String::new();
    let (mut id, mut secret, mut token) = (None, None, None);
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim().to_owned();
        } else if let (true, Some((name, value))) = (section == "default", line.split_once('=')) {
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match name.trim() {
                "aws_access_key_id" => id = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    Ok(Credentials {
        access_key_id: id.context("there is no aws_access_key_id in its section [default]")?,
        secret_access_key: secret.context("there is no aws_secret_access_key in its section [default]")?,
        session_token: token,
        expires: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_section_counts() {
        let text = "# x\n[other]\naws_access_key_id=no\n[default]\naws_access_key_id = A\naws_secret_access_key=b=c \n";
        let found = parse(text).unwrap();
        assert_eq!((found.access_key_id.as_str(), found.secret_access_key.as_str()), ("A", "b=c"));
        assert_eq!(found.session_token, None);
        let token = parse(&format!("{text}aws_session_token = t\n")).unwrap();
        assert_eq!(token.session_token.as_deref(), Some("t"));
        for bad in
            ["", "[default]\naws_access_key_id=A", "[other]\naws_access_key_id=A\naws_secret_access_key=b"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
