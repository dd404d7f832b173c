//! Functions as the destinations of subscriptions to log groups.

use std::sync::Arc;
use std::time::Duration;

use base::{AccountId, FunctionArn, Kind, RequestId};
use bytes::Bytes;
use functions::model::FunctionRef;
use functions::{Error, Functions, Invoke};
use iam::{Caller, Principal};
use logs::{Deliver, Delivery, Undelivered};
use tokio::sync::Semaphore;

/// Calls functions, a bounded number at a time, without anybody who waits for their answers.
pub(crate) struct Subscribers {
    functions: Functions,
    places: Arc<Semaphore>,
}

/// Calls under way for all subscriptions together.
const CALLS: usize = 32;

/// How often a call is made that found no place on an instance, and how long after the first time it is made again; then
/// twice as long.
const ATTEMPTS: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_secs(1);

impl Subscribers {
    pub(crate) fn new(functions: Functions) -> Self {
        Self { functions, places: Arc::new(Semaphore::new(CALLS)) }
    }
}

impl Deliver for Subscribers {
    fn log_group(&self, account: &AccountId, function: &str) -> Option<String> {
        let function = reference(account, function)?;
        let view = self.functions.get(&owner(account), &function).ok()?;
        let own = format!("/aws/lambda/{}", function.name);
        Some(view.configuration.log_group.clone().unwrap_or(own))
    }

    fn deliver(&self, account: AccountId, function: String, event: Vec<u8>) -> Delivery {
        let (functions, places) = (self.functions.clone(), Arc::clone(&self.places));
        Box::pin(async move {
            let Some(function) = reference(&account, &function) else {
                return Err(Undelivered::Never(format!("{function} is no function of {account}")));
            };
            let place = places.try_acquire_owned();
            let place = place.map_err(|_| Undelivered::Later("too many calls are under way".to_owned()))?;
            let caller = owner(&account);
            functions.check_invoke(&caller, &function).map_err(|error| undelivered(&error))?;
            tokio::spawn(async move {
                call(&functions, &caller, function, event.into()).await;
                drop(place);
            });
            Ok(())
        })
    }
}

/// Calls until the function has been called; what it answers is its own affair.
async fn call(functions: &Functions, caller: &Caller, function: FunctionRef, event: Bytes) {
    let mut pause = FIRST_PAUSE;
    for attempt in 1..=ATTEMPTS {
        let call = Invoke {
            id: RequestId::random(),
            function: function.clone(),
            payload: event.clone(),
            client_context: None,
            trace_id: None,
            tail: false,
            trace: false,
        };
        let Err(error) = functions.invoke(caller, call).await else { return };
        if attempt == ATTEMPTS || matches!(undelivered(&error), Undelivered::Never(_)) {
            tracing::warn!(function = function.name, %error, "log events of a subscription are dropped");
            return;
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
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
    Caller { account: account.clone(), principal: Principal::User { name: "admin".to_owned() } }
}

fn reference(account: &AccountId, arn: &str) -> Option<FunctionRef> {
    let arn = FunctionArn::parse(arn).filter(|arn| arn.account == *account)?;
    Some(FunctionRef { account: arn.account, name: arn.name, qualifier: arn.qualifier })
}
