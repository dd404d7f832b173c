//! CloudWatch Logs API: PutSubscriptionFilter, DescribeSubscriptionFilters, DeleteSubscriptionFilter. Destinations are
//! Lambda functions of the same account.

use ::logs::{NewSubscription, Subscription};
use base::FunctionArn;
use serde_json::{Value, json};

use super::{Target, failed, invalid, limit, nothing, put, required};
use crate::failure::Failure;
use crate::limits;
use crate::members::Members;
use crate::request::Request;

pub(super) async fn put_filter(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let target = Target::named(request, members, "logs:PutSubscriptionFilter")?;
    let subscription = NewSubscription {
        name: required(members, "filterName")?,
        pattern: required(members, "filterPattern")?,
        destination: destination(request, &required(members, "destinationArn")?)?,
        distribution: members.text("distribution")?.unwrap_or_else(|| "ByLogStream".to_owned()),
    };
    request.api.logs.subscribe(&target.group, subscription).await.map_err(failed(request))?;
    Ok(nothing())
}

/// The ARN of a function of the caller's account.
fn destination(request: &Request<'_>, arn: &str) -> Result<String, Failure> {
    match FunctionArn::parse(arn) {
        Some(function)
            if function.account == request.caller.account && function.region == request.api.region =>
        {
            Ok(arn.to_owned())
        }
        Some(_) => {
            Err(invalid("destinationArn must be a function of the log group's own account and region."))
        }
        None => Err(invalid(
            "destinationArn must be the ARN of a Lambda function: this server has no other destinations.",
        )),
    }
}

/// A group has few; the token is the last name of the page before.
pub(super) async fn describe_filters(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let target = Target::named(request, members, "logs:DescribeSubscriptionFilters")?;
    let prefix = members.text("filterNamePrefix")?.unwrap_or_default();
    let most = limit(members, limits::DESCRIBE_PAGE)?;
    let after = members.text("nextToken")?;
    let found = request.api.logs.subscriptions_of(&target.group, &prefix).await.map_err(failed(request))?;
    let mut rest = found.iter().filter(|each| after.as_ref().is_none_or(|after| each.name > *after));
    let page: Vec<&Subscription> = rest.by_ref().take(most).collect();
    let shapes: Vec<Value> = page.iter().map(|each| shape(each)).collect();
    let mut out = json!({ "subscriptionFilters": shapes });
    let more = rest.next().and_then(|_| page.last());
    put(&mut out, "nextToken", more.map(|last| last.name.as_str()));
    Ok(out)
}

fn shape(subscription: &Subscription) -> Value {
    json!({
        "filterName": subscription.name,
        "logGroupName": subscription.group.name,
        "filterPattern": subscription.pattern,
        "destinationArn": subscription.destination,
        "distribution": subscription.distribution,
        "applyOnTransformedLogs": false,
        "creationTime": subscription.created,
    })
}

pub(super) async fn delete_filter(request: &Request<'_>, members: &Members<'_>) -> Result<Value, Failure> {
    let target = Target::named(request, members, "logs:DeleteSubscriptionFilter")?;
    let name = required(members, "filterName")?;
    request.api.logs.unsubscribe(&target.group, &name).await.map_err(failed(request))?;
    Ok(nothing())
}
