//! Functions as the destinations of subscriptions to log groups.

use base::{AccountId, FunctionArn, Kind, RequestId};
use functions::model::FunctionRef;
use functions::{Error, Functions, Invoke};
use iam::{Caller, Principal};
use logs::{Deliver, Delivery, Undelivered};

/// Calls functions by asynchronous invokes: from then on the event is the queue's to keep.
pub(crate) struct Subscribers(pub(crate) Functions);

impl Deliver for Subscribers {
    fn log_group(&self, account: &AccountId, function: &str) -> Option<String> {
        let function = reference(account, function)?;
        let view = self.0.get(&owner(account), &function).ok()?;
        let own = format!("/aws/lambda/{}", function.name);
        Some(view.configuration.log_group.clone().unwrap_or(own))
    }

    fn deliver(&self, account: AccountId, function: String, event: Vec<u8>) -> Delivery {
        let functions = self.0.clone();
        Box::pin(async move {
            let function = reference(&account, &function)
                .ok_or_else(|| Undelivered::Never(format!("{function} is no function of {account}")))?;
            let call = Invoke {
                id: RequestId::random(),
                function,
                payload: event.into(),
                client_context: None,
                trace_id: None,
                tail: false,
                trace: false,
            };
            functions.invoke_later(&owner(&account), call).await.map_err(|error| undelivered(&error))
        })
    }
}

fn undelivered(error: &Error) -> Undelivered {
    match error.kind() {
        Kind::NotFound | Kind::Invalid | Kind::Denied | Kind::LimitExceeded => {
            Undelivered::Never(error.to_string())
        }
        Kind::Conflict | Kind::Throttled | Kind::Unavailable | Kind::Internal => {
            Undelivered::Later(error.to_string())
        }
    }
}

/// A subscription leads to a function of its own account, whose owner made it.
fn owner(account: &AccountId) -> Caller {
    Caller::new(account.clone(), Principal::User { name: "admin".to_owned() })
}

fn reference(account: &AccountId, arn: &str) -> Option<FunctionRef> {
    let arn = FunctionArn::parse(arn).filter(|arn| arn.account == *account)?;
    Some(FunctionRef { account: arn.account, name: arn.name, qualifier: arn.qualifier })
}
