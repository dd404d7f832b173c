//! Who is calling.

use base::{AccountId, FunctionArn};

/// The first account's first user.
pub(crate) const ADMIN: &str = "admin";

/// Who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Whose resources the call is about.
    pub account: AccountId,
    /// Who exactly.
    pub principal: Principal,
}

/// An identity that signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A user of the account.
    User {
        /// Its name: `admin` for the first.
        name: String,
    },
    /// A function's own session.
    Function {
        /// The function and version.
        arn: FunctionArn,
    },
}

impl Caller {
    /// The identity's ARN, as errors and GetCallerIdentity show it.
    pub fn arn(&self) -> String {
        match &self.principal {
            Principal::User { name } => format!("arn:aws:iam::{}:user/{name}", self.account),
            Principal::Function { arn } => {
                format!("arn:aws:sts::{}:assumed-role/virga-function/{}", self.account, arn.name)
            }
        }
    }

    /// Whether the caller may do `action` (`lambda:InvokeFunction`) on `resource` (an ARN).
    ///
    /// Until policies are built: `admin` everything in its own account, a function nothing.
    pub fn may(&self, _action: &str, resource: &str) -> bool {
        match &self.principal {
            Principal::User { name } => name == ADMIN && self.owns(resource),
            Principal::Function { .. } => false,
        }
    }

    /// Whether the ARN names no other account. Some ARNs name none (`arn:aws:s3:::bucket`); `*` is all.
    fn owns(&self, resource: &str) -> bool {
        let account = resource.split(':').nth(4).unwrap_or_default();
        account.is_empty() || account == self.account.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(principal: Principal) -> Caller {
        Caller { account: AccountId::parse("123456789012").unwrap(), principal }
    }

    fn function() -> Principal {
        let arn = FunctionArn::parse("arn:aws:lambda:us-east-1:123456789012:function:hello:7").unwrap();
        Principal::Function { arn }
    }

    #[test]
    fn identities_have_arns() {
        assert_eq!(
            caller(Principal::User { name: "admin".into() }).arn(),
            "arn:aws:iam::123456789012:user/admin"
        );
        assert_eq!(caller(function()).arn(), "arn:aws:sts::123456789012:assumed-role/virga-function/hello");
    }

    #[test]
    fn admin_rules_its_own_account_and_functions_nothing() {
        let own = "arn:aws:lambda:us-east-1:123456789012:function:hello";
        let foreign = "arn:aws:lambda:us-east-1:210987654321:function:hello";
        let admin = caller(Principal::User { name: "admin".into() });
        assert!(admin.may("lambda:InvokeFunction", own));
        assert!(admin.may("lambda:ListFunctions", "*"));
        assert!(admin.may("s3:GetObject", "arn:aws:s3:::bucket/key"));
        assert!(!admin.may("lambda:InvokeFunction", foreign));
        assert!(!caller(Principal::User { name: "guest".into() }).may("lambda:InvokeFunction", own));
        assert!(!caller(function()).may("lambda:InvokeFunction", own));
    }
}
