//! Reserved and provisioned concurrency as they are set, kept and lost; and the account's limits.

use functions::model::*;
use functions::{Bounds, Error, ProvisionedStatus, Scaling};

use crate::world::{World, bounds, until};

async fn world(account_concurrency: u32) -> World {
    let scaling = Scaling { account_concurrency, ..Scaling::default() };
    World::with(Bounds { scaling, ..bounds() }).await
}

async fn publish(world: &World, name: &str) {
    let args = PublishVersion { description: Some(name.into()), ..PublishVersion::default() };
    world.functions.publish(&world.caller, &world.named(name), args).await.unwrap();
}

impl World {
    async fn reserve(&self, name: &str, calls: u32) -> Result<u32, Error> {
        self.functions.reserve(&self.caller, &self.named(name), calls).await
    }

    async fn provision(&self, name: &str, version: &str, instances: u32) -> Result<ProvisionedView, Error> {
        self.functions.provision(&self.caller, &self.version(name, version), instances).await
    }

    fn provisioned(&self, name: &str, version: &str) -> Result<u32, Error> {
        let found = self.functions.provisioned(&self.caller, &self.version(name, version));
        found.map(|view| view.provisioned.requested)
    }

    fn limits(&self) -> (u64, u64) {
        let settings = self.functions.account_settings(&self.caller).unwrap();
        (settings.concurrency, settings.unreserved)
    }
}

fn said<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(error @ (Error::Invalid(_) | Error::NotFound(_) | Error::FunctionNotFound(_))) => {
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_reserved_is_kept_and_goes_with_the_function() {
    let world = world(300).await;
    world.create("a", "echo").await;
    let reserved = |world: &World| world.functions.reserved(&world.caller, &world.named("a")).unwrap();
    assert_eq!((reserved(&world), world.limits()), (None, (300, 300)));
    assert_eq!(world.reserve("a", 40).await.unwrap(), 40);
    assert_eq!((reserved(&world), world.limits()), (Some(40), (300, 260)));
    let described = world.functions.describe(&world.caller, &world.named("a")).unwrap();
    assert_eq!(described.reserved, Some(40));

    let world = world.crash().await;
    assert_eq!((reserved(&world), world.limits().1), (Some(40), 260));
    world.reserve("a", 0).await.unwrap();
    assert_eq!((reserved(&world), world.limits().1), (Some(0), 300));
    world.functions.unreserve(&world.caller, &world.named("a")).await.unwrap();
    world.functions.unreserve(&world.caller, &world.named("a")).await.unwrap();
    assert_eq!(reserved(&world), None);

    world.reserve("a", 7).await.unwrap();
    world.functions.delete(&world.caller, &world.named("a")).await.unwrap();
    assert_eq!(world.limits().1, 300);
    world.create("a", "echo").await;
    assert_eq!(reserved(&world), None);
}

#[tokio::test]
async fn a_part_stays_for_functions_that_reserve_nothing() {
    let world = world(150).await;
    world.create("a", "echo").await;
    world.create("b", "echo").await;
    world.reserve("a", 50).await.unwrap();
    let (fits, above) = (world.reserve("b", 25).await, world.reserve("b", 26).await);
    assert_eq!(fits.unwrap(), 25);
    assert_eq!(
        said(above),
        "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below \
         its minimum value of [75]."
    );
    assert_eq!(world.limits().1, 75, "a refused change changes nothing");
    // What a function has already does not count against its own next value.
    world.reserve("a", 40).await.unwrap();
    world.reserve("a", 50).await.unwrap();
    let both = tokio::join!(world.reserve("a", 55), world.reserve("b", 30));
    assert!(both.0.is_err() && both.1.is_err());
    world.reserve("a", 40).await.unwrap();
    let both = tokio::join!(world.reserve("a", 50), world.reserve("b", 35));
    assert!(both.0.is_ok() != both.1.is_ok(), "one gets the last of it: {both:?}");
}

#[tokio::test]
async fn calls_are_counted_whatever_an_instance_takes() {
    let world = world(300).await;
    let tags = [("virga:contract", "http"), ("virga:hard-concurrency", "10")];
    world.create_with(World::args("web", "echo"), &tags).await;
    world.reserve("web", 101).await.unwrap();
    assert_eq!(world.limits().1, 300 - 101);
}

#[tokio::test]
async fn versions_are_provisioned_and_nothing_else() {
    let world = world(300).await;
    world.create("a", "echo").await;
    publish(&world, "a").await;
    let made = world.provision("a", "1", 2).await.unwrap();
    assert_eq!((made.provisioned.requested, made.provisioned.available), (2, 0));
    assert!(made.arn.to_string().ends_with(":function:a:1"));
    assert_eq!(world.provisioned("a", "1").unwrap(), 2);
    world.live(2).await;
    let ready = || {
        let found = world.functions.provisioned(&world.caller, &world.version("a", "1")).unwrap().provisioned;
        (found.available == 2 && found.status == ProvisionedStatus::Ready).then_some(())
    };
    until("both are ready", ready).await;
    assert_eq!(
        said(world.provision("a", "$LATEST", 1).await),
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions."
    );
    assert_eq!(
        said(world.provisioned("a", "$LATEST")),
        "The function resource provided must be an alias or a published version."
    );
    let arn = |name: &str| world.functions.get(&world.caller, &world.named("a")).unwrap().arn.qualified(name);
    assert_eq!(said(world.provision("a", "2", 1).await), format!("Function not found: {}", arn("2")));
    assert_eq!(
        said(world.provision("a", "live", 1).await),
        format!("Cannot find alias arn: {}", arn("live"))
    );

    let world = world.crash().await;
    assert_eq!(world.provisioned("a", "1").unwrap(), 2);
    world.functions.unprovision(&world.caller, &world.version("a", "1")).await.unwrap();
    world.functions.unprovision(&world.caller, &world.version("a", "1")).await.unwrap();
    assert!(matches!(world.provisioned("a", "1"), Err(Error::ProvisionedNotFound)));
    world.provision("a", "1", 2).await.unwrap();
    world.functions.delete(&world.caller, &world.version("a", "1")).await.unwrap();
    let left = world.functions.all_provisioned(&world.caller, &world.named("a"), None, 50).unwrap();
    assert!(left.items.is_empty());
}

#[tokio::test]
async fn provisioned_and_reserved_bound_each_other() {
    let world = world(200).await;
    world.create("a", "echo").await;
    publish(&world, "a").await;
    world.reserve("a", 5).await.unwrap();
    assert_eq!(
        said(world.provision("a", "1", 6).await),
        "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for function"
    );
    world.provision("a", "1", 4).await.unwrap();
    assert_eq!(
        said(world.reserve("a", 3).await),
        "ReservedConcurrentExecutions  3 should not be lower than function's total provisioned concurrency [4]."
    );
    world.functions.unreserve(&world.caller, &world.named("a")).await.unwrap();
    assert_eq!(
        said(world.provision("a", "1", 201).await),
        "Specified ConcurrentExecutions for function is greater than account's unreserved concurrency [200]."
    );
    assert_eq!(
        said(world.provision("a", "1", 101).await),
        "Specified ConcurrentExecutions for function decreases account's UnreservedConcurrentExecution below its \
         minimum value of [100]."
    );
    assert_eq!(world.provisioned("a", "1").unwrap(), 4);
}

#[tokio::test]
async fn listings_go_by_version() {
    let world = world(300).await;
    world.create("a", "echo").await;
    for number in 1..=3 {
        publish(&world, "a").await;
        let update = UpdateConfiguration { timeout_s: Some(number + 3), ..UpdateConfiguration::default() };
        world.functions.update_configuration(&world.caller, &world.named("a"), update).await.unwrap();
        world.settled(&world.named("a")).await;
        world.provision("a", &number.to_string(), number).await.unwrap();
    }
    let page = |marker: Option<&str>, size| {
        let page = world.functions.all_provisioned(&world.caller, &world.named("a"), marker, size).unwrap();
        let items: Vec<u32> = page.items.iter().map(|view| view.provisioned.requested).collect();
        (items, page.next_marker)
    };
    let (first, marker) = page(None, 2);
    assert_eq!(first, [1, 2]);
    assert_eq!(page(marker.as_deref(), 2), (vec![3], None));
    assert_eq!(page(None, 3), (vec![1, 2, 3], None));
    assert!(world.functions.all_provisioned(&world.caller, &world.named("a"), Some("?"), 2).is_err());
}

#[tokio::test]
async fn each_operation_has_a_permission_of_its_own() {
    let world = World::new().await;
    world.create("a", "echo").await;
    publish(&world, "a").await;
    let arn = world.functions.get(&world.caller, &world.named("a")).unwrap().arn;
    let nobody = iam::Caller::new(
        world.caller.account.clone(),
        iam::Principal::Session(iam::RoleSession::of_function(arn, "virga-function").into()),
    );
    let (function, version) = (world.named("a"), world.version("a", "1"));
    let functions = &world.functions;
    let denials = [
        (functions.reserve(&nobody, &function, 1).await.map(drop), "PutFunctionConcurrency"),
        (functions.reserved(&nobody, &function).map(drop), "GetFunctionConcurrency"),
        (functions.unreserve(&nobody, &function).await, "DeleteFunctionConcurrency"),
        (functions.provision(&nobody, &version, 1).await.map(drop), "PutProvisionedConcurrencyConfig"),
        (functions.provisioned(&nobody, &version).map(drop), "GetProvisionedConcurrencyConfig"),
        (functions.unprovision(&nobody, &version).await, "DeleteProvisionedConcurrencyConfig"),
        (
            functions.all_provisioned(&nobody, &function, None, 1).map(drop),
            "ListProvisionedConcurrencyConfigs",
        ),
        (functions.account_settings(&nobody).map(drop), "GetAccountSettings"),
        (functions.describe(&nobody, &function).map(drop), "GetFunction"),
    ];
    for (outcome, action) in denials {
        match outcome {
            Err(Error::Denied(text)) => assert!(text.contains(&format!("lambda:{action} ")), "{text}"),
            other => panic!("{action}: {other:?}"),
        }
    }
}
