//! The role that a new function is given: the one that was said, or the account's own for functions.

use anyhow::{Context, Result, bail};
use http::{HeaderMap, Method};

use crate::client::Client;

/// What asks who is calling.
const WHO: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// The role's ARN.
pub(crate) async fn of(client: &Client, said: Option<&str>) -> Result<String> {
    if let Some(said) = said {
        return Ok(said.to_owned());
    }
    let mut headers = HeaderMap::new();
    headers.insert("content-type", "application/x-www-form-urlencoded".parse()?);
    let answer = client.send("sts", Method::POST, "/", headers, WHO.into()).await?;
    let account = account(&answer.body).context("the answer names no account: is this a Virga server?")?;
    Ok(format!("arn:aws:iam::{account}:role/{}", iam::DEFAULT_ROLE))
}

/// The account in GetCallerIdentity's answer.
fn account(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(body).ok()?;
    let (account, _) = text.split_once("<Account>")?.1.split_once("</Account>")?;
    base::AccountId::parse(account).map(|_| account)
}

/// Reads a flag: only a whole ARN says whose role it is.
pub(super) fn parse(text: &str) -> Result<String> {
    if !text.starts_with("arn:aws:iam::") {
        bail!("a role is named by its ARN: arn:aws:iam::ACCOUNT:role/NAME");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::account;

    #[test]
    fn the_account_is_in_the_answer() {
        let answer = |inner: &str| format!("<R><Arn>x</Arn>{inner}</R>");
        assert_eq!(account(answer("<Account>123456789012</Account>").as_bytes()), Some("123456789012"));
        assert_eq!(account(answer("<Account>12</Account>").as_bytes()), None);
        assert_eq!(account(answer("").as_bytes()), None);
    }
}
