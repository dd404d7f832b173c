//! Taking roles on: STS's sessions, and which roles a function may be given.

use std::time::Duration;

use base::AccountId;

use crate::directory::{Document, Error, Role};
use crate::policy::{Context, Resource};
use crate::session::{Holder, Session};
use crate::{Caller, Credentials, DEFAULT_ROLE, Iam, Principal, RoleSession};

/// Whether a function may have a role that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingRoles {
    /// It may, and may do nothing itself.
    #[default]
    Allow,
    /// It is refused, as with AWS.
    Refuse,
}

/// STS API: AssumeRole.
#[derive(Debug, Clone)]
pub struct AssumeRole {
    /// Which.
    pub role_arn: String,
    /// What the session is called.
    pub session_name: String,
    /// Seconds; an hour where absent.
    pub duration_s: Option<i64>,
    /// The most that the session may, as a policy's text.
    pub policy: Option<String>,
    /// What a stranger who acts for several others has to say.
    pub external_id: Option<String>,
}

/// Why a function is not given a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotPassed {
    /// The caller may not give it; the text is the refusal.
    Denied(String),
    /// It does not let Lambda take it on, or is not there.
    NotAssumable,
}

/// The least and the most that a session lasts, seconds (STS API: AssumeRole).
const SHORTEST_S: i64 = 900;
/// See [`SHORTEST_S`].
const LONGEST_S: i64 = 43_200;
/// The most that a user's session lasts, seconds (STS API: GetSessionToken), and what it lasts by itself.
const LONGEST_USER_S: i64 = 129_600;
/// Characters of a session's policy.
const SESSION_POLICY: usize = 2_048;

impl Iam {
    /// STS API: AssumeRole. Answers the credentials and who calls with them.
    pub fn assume_role(&self, caller: &Caller, args: AssumeRole) -> Result<(Credentials, Caller), Error> {
        let role = self.role_by_arn(&args.role_arn);
        let trust = role.as_ref().map(|role| Resource {
            policy: role.trust.policy(),
            name: &args.role_arn,
            required: true,
        });
        let mut context = Context::new([("sts:RoleSessionName", args.session_name.as_str())]);
        if let Some(id) = &args.external_id {
            context.set("sts:ExternalId", id);
        }
        let permitted = caller.check("sts:AssumeRole", &args.role_arn, trust, &context);
        permitted.map_err(Error::Denied)?;
        // Who may see that it is not there is told as little as whoever may not.
        let Some(role) = role else {
            return Err(Error::Denied(format!(
                "User: {} is not authorized to perform: sts:AssumeRole on resource: {}",
                caller.arn(),
                args.role_arn
            )));
        };
        check_session_name(&args.session_name)?;
        let seconds = duration(caller, &role, args.duration_s)?;
        if let Some(policy) = &args.policy {
            if policy.chars().count() > SESSION_POLICY {
                return Err(Error::Invalid(format!(
                    "1 validation error detected: Value at 'policy' failed to satisfy constraint: Member must have length \
                     less than or equal to {SESSION_POLICY}"
                )));
            }
            Document::identity(policy.as_str())?;
        }
        let holder = Holder::Role {
            account: role.account.clone(),
            role: role.name.clone(),
            id: role.id.clone(),
            session: args.session_name.clone(),
            policy: args.policy,
        };
        let session = RoleSession::new(&role, &args.session_name);
        let who = Caller::new(role.account.clone(), Principal::Session(session.into()));
        Ok((self.issue(holder, seconds), who))
    }

    /// STS API: GetSessionToken: a user's own rights for a while.
    pub fn session_token(&self, caller: &Caller, duration_s: Option<i64>) -> Result<Credentials, Error> {
        let Principal::User { name } = &caller.principal else {
            return Err(Error::Denied("Cannot call GetSessionToken with session credentials".into()));
        };
        let seconds = duration_s.unwrap_or(LONGEST_S);
        in_range(seconds, SHORTEST_S, LONGEST_USER_S)?;
        Ok(self.issue(Holder::User { account: caller.account.clone(), name: name.clone() }, seconds))
    }

    fn issue(&self, holder: Holder, seconds: i64) -> Credentials {
        let lifetime = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
        let verifier = &self.verifier;
        Session::issue(&verifier.sessions, holder, verifier.clock.now(), lifetime)
    }

    /// Whether the caller may give a function this role, and Lambda take it on (IAM User Guide: PassRole).
    pub fn check_pass_role(&self, caller: &Caller, role_arn: &str) -> Result<(), NotPassed> {
        let context = Context::new([("iam:PassedToService", LAMBDA)]);
        let foreign = account_and_name(role_arn).is_none_or(|(account, _)| account != caller.account);
        if foreign {
            return self.missing_role();
        }
        caller.check("iam:PassRole", role_arn, None, &context).map_err(NotPassed::Denied)?;
        match self.role_by_arn(role_arn) {
            Some(role) if role.trust.policy().names_service("sts:AssumeRole", LAMBDA) => Ok(()),
            Some(_) => Err(NotPassed::NotAssumable),
            None => self.missing_role(),
        }
    }

    fn missing_role(&self) -> Result<(), NotPassed> {
        match self.missing_roles {
            MissingRoles::Allow => Ok(()),
            MissingRoles::Refuse => Err(NotPassed::NotAssumable),
        }
    }

    fn role_by_arn(&self, arn: &str) -> Option<std::sync::Arc<Role>> {
        let (account, name) = account_and_name(arn)?;
        self.verifier.directory.role(&account, name).filter(|role| role.arn() == arn)
    }
}

/// The service that functions are.
const LAMBDA: &str = "lambda.amazonaws.com";

/// `arn:aws:iam::ACCOUNT:role/PATH/NAME`
fn account_and_name(arn: &str) -> Option<(AccountId, &str)> {
    let (account, path) = arn.strip_prefix("arn:aws:iam::")?.split_once(":role/")?;
    Some((AccountId::parse(account)?, path.rsplit('/').next()?))
}

/// The name of the role that a function was given, as its session shows it. A role of another account is none.
pub(crate) fn role_name<'a>(arn: &'a str, account: &AccountId) -> &'a str {
    match account_and_name(arn) {
        Some((owner, name)) if owner == *account && !name.is_empty() => name,
        _ => DEFAULT_ROLE,
    }
}

fn check_session_name(name: &str) -> Result<(), Error> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_+=,.@-".contains(&b);
    if (2..=64).contains(&name.len()) && name.bytes().all(plain) {
        return Ok(());
    }
    let shown = &name[..name.floor_char_boundary(100)];
    Err(Error::Invalid(format!(
        "1 validation error detected: Value '{shown}' at 'roleSessionName' failed to satisfy constraint: Member must satisfy \
         regular expression pattern: [\\w+=,.@-]* and have a length of 2 to 64"
    )))
}

fn duration(caller: &Caller, role: &Role, asked: Option<i64>) -> Result<i64, Error> {
    let seconds = asked.unwrap_or(3600);
    in_range(seconds, SHORTEST_S, LONGEST_S)?;
    if matches!(caller.principal, Principal::Session(_)) && seconds > 3600 {
        return Err(Error::Invalid(
            "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.".into(),
        ));
    }
    if seconds > i64::from(role.max_session_s) {
        return Err(Error::Invalid(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.".into(),
        ));
    }
    Ok(seconds)
}

fn in_range(seconds: i64, least: i64, most: i64) -> Result<(), Error> {
    let rule = if seconds < least {
        format!("greater than or equal to {least}")
    } else if seconds > most {
        format!("less than or equal to {most}")
    } else {
        return Ok(());
    };
    Err(Error::Invalid(format!(
        "1 validation error detected: Value '{seconds}' at 'durationSeconds' failed to satisfy constraint: Member must have \
         value {rule}"
    )))
}
