//! Whether a package's signature holds, and for whom. Pure: what is known of profiles and the time come in.

use base::Timestamp;
use signing::{Envelope, PublicKey};

use super::model::{CodeSigningConfig, ProfileVersion, Signature};

/// How far a signer's clock may be ahead of ours.
const AHEAD_MS: i64 = 5 * 60 * 1000;

/// What lies in a package.
#[derive(Debug)]
pub(super) enum Found {
    /// No signature.
    Nothing,
    /// Something that stands where a signature would and is none.
    Unreadable(String),
    /// A signature, and the digest of the tree that it should be about.
    Signed { envelope: Envelope, tree: String },
}

/// What is known of whose signature it says it is.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The version of the profile, if it is registered.
    pub(super) version: Option<ProfileVersion>,
    /// Since when its profile signs nothing any more.
    pub(super) canceled: Option<Timestamp>,
    /// Whether this one signature was revoked.
    pub(super) revoked: bool,
}

/// What is wrong with a signature.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The package is not what was signed: never let in (Lambda: integrity).
    Broken(String),
    /// It is what was signed, but not by somebody who is trusted, or not any more.
    Untrusted(String),
}

/// Whose signature it is, as far as that could be proved, and what is wrong with it for this configuration.
pub(super) fn decide(
    found: &Found,
    known: &Known,
    config: &CodeSigningConfig,
    now: Timestamp,
) -> (Option<Signature>, Option<Problem>) {
    let signature = match proved(found, known) {
        Ok(signature) => signature,
        Err(problem) => return (None, Some(problem)),
    };
    (Some(signature), untrusted(found, known, config, now).map(Problem::Untrusted))
}

/// Whose signature it is, if it is one over this very tree by the key that it names.
pub(super) fn proved(found: &Found, known: &Known) -> Result<Signature, Problem> {
    let (envelope, tree) = match found {
        Found::Nothing => return Err(Problem::Untrusted("it is not signed".into())),
        Found::Unreadable(why) => return Err(Problem::Broken(why.clone())),
        Found::Signed { envelope, tree } => (envelope, tree),
    };
    let statement = envelope.statement();
    if statement.tree != *tree {
        return Err(Problem::Broken("its files are not those that were signed".into()));
    }
    let Some(version) = &known.version else {
        return Err(Problem::Untrusted(format!(
            "there is no signing profile version {}",
            statement.profile_version_arn
        )));
    };
    let by = PublicKey::parse(&version.public_key).is_ok_and(|key| envelope.is_by(&key));
    if !by {
        let why = format!("it was not signed with the key of {}", statement.profile_version_arn);
        return Err(Problem::Broken(why));
    }
    Ok(Signature {
        profile_version_arn: statement.profile_version_arn.clone(),
        job_arn: statement.job_arn.clone(),
    })
}

/// Why a signature that was proved is not to be trusted, if it is not.
fn untrusted(found: &Found, known: &Known, config: &CodeSigningConfig, now: Timestamp) -> Option<String> {
    let (Found::Signed { envelope, .. }, Some(version)) = (found, &known.version) else { return None };
    let statement = envelope.statement();
    let arn = &statement.profile_version_arn;
    let whole = arn.rsplit_once('/').map_or("", |(profile, _)| profile);
    if !config.publishers.iter().any(|publisher| publisher == arn || publisher == whole) {
        return Some(format!("its signer {arn} is not an allowed publisher"));
    }
    let (now, signed) = (now.as_millis(), statement.signed_at_ms);
    let until = signed.saturating_add(version.validity.as_millis());
    let until = statement.expires_at_ms.map_or(until, |expires| expires.min(until));
    if now >= until {
        return Some("its signature has expired".into());
    }
    if signed > now.saturating_add(AHEAD_MS) {
        return Some("its signature is from the future".into());
    }
    if known.revoked
        || version.revoked.as_ref().is_some_and(|revoked| signed >= revoked.effective.as_millis())
    {
        return Some("its signature was revoked".into());
    }
    if known.canceled.is_some_and(|canceled| signed >= canceled.as_millis()) {
        return Some("its signing profile was canceled before".into());
    }
    None
}

#[cfg(test)]
mod tests {
    use signing::{PrivateKey, Statement};

    use super::super::model::{Revocation, Validity, ValidityUnit};
    use super::*;

    const PROFILE: &str = "arn:aws:signer:us-east-1:123456789012:/signing-profiles/us";
    const NOW: i64 = 1_795_160_258_123;
    const DAY: i64 = 86_400_000;

    struct Case {
        statement: Statement,
        tree: &'static str,
        known: Known,
        config: CodeSigningConfig,
        forged: bool,
    }

    fn case() -> (PrivateKey, Case) {
        let key = PrivateKey::generate().unwrap();
        let version = ProfileVersion {
            version: "abcdefghij".into(),
            public_key: key.public().to_line(),
            validity: Validity { value: 30, unit: ValidityUnit::Days },
            parameters: Default::default(),
            created: Timestamp(0),
            revoked: None,
        };
        let statement = Statement {
            profile_version_arn: format!("{PROFILE}/abcdefghij"),
            job_arn: "arn:aws:signer:us-east-1:123456789012:/signing-jobs/1".into(),
            tree: "sha256:00".into(),
            signed_at_ms: NOW - DAY,
            expires_at_ms: None,
        };
        let config = CodeSigningConfig {
            description: String::new(),
            publishers: vec![format!("{PROFILE}/abcdefghij")],
            enforce: true,
            modified: Timestamp(0),
        };
        let known = Known { version: Some(version), ..Known::default() };
        (key, Case { statement, tree: "sha256:00", known, config, forged: false })
    }

    /// What is wrong: the words of it, with `!` for what is never let in; and whether it is known whose it is.
    fn check(change: impl FnOnce(&mut Case), expect: &str, proved: bool) {
        let (key, mut case) = case();
        change(&mut case);
        let key = if case.forged { PrivateKey::generate().unwrap() } else { key };
        let envelope = Envelope::sign(case.statement, &key).unwrap();
        let found = Found::Signed { envelope, tree: case.tree.into() };
        let (signature, problem) = decide(&found, &case.known, &case.config, Timestamp(NOW));
        let shown = match problem {
            None => String::new(),
            Some(Problem::Broken(why)) => format!("!{why}"),
            Some(Problem::Untrusted(why)) => why,
        };
        assert!(shown.contains(expect) && shown.is_empty() == expect.is_empty(), "{shown} for {expect}");
        assert_eq!(signature.is_some(), proved, "{expect}");
    }

    fn revoked(effective: i64) -> Option<Revocation> {
        let (at, by, reason) = (Timestamp(NOW), String::new(), String::new());
        Some(Revocation { effective: Timestamp(effective), at, by, reason })
    }

    #[test]
    fn a_package_is_taken_from_its_publishers_alone() {
        check(|_| (), "", true);
        check(|case| case.config.publishers = vec![PROFILE.into()], "", true);
        check(
            |case| case.config.publishers = vec![format!("{PROFILE}/klmnopqrst")],
            "not an allowed publisher",
            true,
        );
        // A name that begins alike is another's.
        check(
            |case| case.config.publishers = vec![PROFILE[..PROFILE.len() - 1].into()],
            "not an allowed",
            true,
        );
        check(|case| case.known.version = None, "there is no signing profile version", false);
    }

    #[test]
    fn what_was_changed_or_forged_is_never_let_in() {
        check(|case| case.tree = "sha256:01", "!its files are not those", false);
        check(|case| case.forged = true, "!it was not signed with the key", false);
        let (_, case) = case();
        let unreadable = Found::Unreadable("nonsense".into());
        let decided = decide(&unreadable, &case.known, &case.config, Timestamp(NOW));
        assert_eq!(decided, (None, Some(Problem::Broken("nonsense".into()))));
        let decided = decide(&Found::Nothing, &case.known, &case.config, Timestamp(NOW));
        assert_eq!(decided, (None, Some(Problem::Untrusted("it is not signed".into()))));
    }

    #[test]
    fn a_signature_has_its_time() {
        check(|case| case.statement.signed_at_ms = NOW - 30 * DAY + 1, "", true);
        check(|case| case.statement.signed_at_ms = NOW - 30 * DAY, "expired", true);
        check(|case| case.statement.expires_at_ms = Some(NOW + 1), "", true);
        check(|case| case.statement.expires_at_ms = Some(NOW), "expired", true);
        // A signer cannot make it longer than the profile has it.
        check(
            |case| {
                case.statement.signed_at_ms = NOW - 31 * DAY;
                case.statement.expires_at_ms = Some(NOW + DAY);
            },
            "expired",
            true,
        );
        check(|case| case.statement.signed_at_ms = NOW + AHEAD_MS, "", true);
        check(|case| case.statement.signed_at_ms = NOW + AHEAD_MS + 1, "from the future", true);
        check(|case| case.statement.signed_at_ms = i64::MAX, "from the future", true);
    }

    #[test]
    fn what_was_revoked_counts_no_more() {
        let version = |case: &mut Case, effective| {
            if let Some(version) = &mut case.known.version {
                version.revoked = revoked(effective);
            }
        };
        check(|case| version(case, NOW - DAY), "revoked", true);
        check(|case| version(case, NOW - DAY + 1), "", true);
        check(|case| case.known.revoked = true, "revoked", true);
        check(|case| case.known.canceled = Some(Timestamp(NOW - DAY)), "canceled", true);
        check(|case| case.known.canceled = Some(Timestamp(NOW - DAY + 1)), "", true);
    }
}
