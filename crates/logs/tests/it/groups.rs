//! Groups, streams, tags: what they are called, what is said when they are there already or not.

use std::collections::BTreeMap;

use base::AccountId;
use logs::{GroupName, Order, Search};

use crate::support::{NOW, World, account, group, refused};

const NO_GROUP: &str = "The specified log group does not exist.";
const NO_STREAM: &str = "The specified log stream does not exist.";

fn tags(count: usize) -> BTreeMap<String, String> {
    (0..count).map(|number| (format!("key{number}"), "value".to_owned())).collect()
}

async fn names(world: &World, prefix: &str, part: &str, after: Option<&str>, most: usize) -> Vec<String> {
    let page = world.logs.groups(&account(), prefix, part, after.map(str::to_owned), most).await.unwrap();
    let mut names: Vec<_> = page.groups.into_iter().map(|group| group.info.name).collect();
    names.extend(page.next.map(|next| format!("next {next}")));
    names
}

#[tokio::test]
async fn groups_are_made_listed_and_removed() {
    let world = World::new();
    for name in ["b", "a/x", "a/y"] {
        world.logs.create_group(&group(name), BTreeMap::new()).await.unwrap();
    }
    assert_eq!(
        refused(world.logs.create_group(&group("b"), BTreeMap::new()).await),
        "The specified log group already exists"
    );
    assert!(refused(world.logs.create_group(&group("a b"), BTreeMap::new()).await).contains("pattern"));
    assert_eq!(names(&world, "", "", None, 10).await, ["a/x", "a/y", "b"]);
    assert_eq!(names(&world, "a/", "", None, 10).await, ["a/x", "a/y"]);
    assert_eq!(names(&world, "", "/y", None, 10).await, ["a/y"]);
    assert_eq!(names(&world, "", "", None, 2).await, ["a/x", "a/y", "next a/y"]);
    assert_eq!(names(&world, "", "", Some("a/y"), 2).await, ["b"]);

    world.logs.delete_group(&group("a/x")).await.unwrap();
    assert_eq!(refused(world.logs.delete_group(&group("a/x")).await), NO_GROUP);
    let world = world.reopened();
    assert_eq!(names(&world, "", "", None, 10).await, ["a/y", "b"]);
    let info = &world.logs.groups(&account(), "b", "", None, 1).await.unwrap().groups[0].info;
    assert_eq!(info.created.as_millis(), NOW);
}

#[tokio::test]
async fn nobody_sees_anothers() {
    let world = World::new().with_stream().await;
    world.put("s", &[(NOW, "mine")]).await.unwrap();
    let other = AccountId::parse("210987654321").unwrap();
    let foreign = GroupName { account: other.clone(), name: "g".to_owned() };
    assert!(world.logs.groups(&other, "", "", None, 10).await.unwrap().groups.is_empty());
    assert_eq!(refused(world.logs.search(&foreign, Search { most: 1, ..Search::default() }).await), NO_GROUP);
    assert_eq!(refused(world.logs.delete_group(&foreign).await), NO_GROUP);
    assert_eq!(refused(world.logs.create_stream(&foreign, "t").await), NO_GROUP);
    assert_eq!(refused(world.logs.tags(&foreign).await), NO_GROUP);
    assert_eq!(refused(world.logs.set_retention(&foreign, Some(1)).await), NO_GROUP);
    assert_eq!(world.all().await, ["mine"]);
}

#[tokio::test]
async fn a_group_that_is_made_again_is_a_new_one() {
    let world = World::new();
    world.logs.create_group(&group("g"), tags(1)).await.unwrap();
    world.logs.create_stream(&group("g"), "s").await.unwrap();
    world.put("s", &[(NOW, "old")]).await.unwrap();
    world.logs.set_retention(&group("g"), Some(1)).await.unwrap();
    world.logs.delete_stream(&group("g"), "s").await.unwrap();
    world.logs.delete_group(&group("g")).await.unwrap();
    // As a function does.
    world.files.stream(&account(), "g", "s").line("new");
    assert_eq!(world.all().await, ["new"]);
    assert!(world.logs.tags(&group("g")).await.unwrap().is_empty());
    let groups = world.logs.groups(&account(), "", "", None, 10).await.unwrap().groups;
    assert_eq!(groups[0].retention_days, None);
}

#[tokio::test]
async fn a_group_whose_folder_was_lost_leaves_nothing_to_the_next() {
    let world = World::new().with_stream().await;
    world.logs.tag(&group("g"), tags(2)).await.unwrap();
    world.logs.set_retention(&group("g"), Some(1)).await.unwrap();
    // What is said of it stays in the database.
    world.files.delete_group(&account(), "g").unwrap();
    world.logs.create_group(&group("g"), BTreeMap::new()).await.unwrap();
    assert!(world.logs.tags(&group("g")).await.unwrap().is_empty());
    let page = world.logs.streams(&group("g"), "", Order::Name, false, 0, 10).await.unwrap();
    assert!(page.streams.is_empty());
    let groups = world.logs.groups(&account(), "", "", None, 10).await.unwrap().groups;
    assert_eq!(groups[0].retention_days, None);
}

#[tokio::test]
async fn what_is_said_of_a_group_while_it_is_deleted_is_not_kept_for_the_next() {
    let world = World::new().with_stream().await;
    let name = group("g");
    let (deleted, said) =
        tokio::join!(world.logs.delete_group(&name), world.logs.set_retention(&name, Some(1)));
    deleted.unwrap();
    assert_eq!(refused(said), NO_GROUP);
    // As a function does.
    world.files.stream(&account(), "g", "s").line("new");
    let groups = world.logs.groups(&account(), "", "", None, 10).await.unwrap().groups;
    assert_eq!(groups[0].retention_days, None);
}

#[tokio::test]
async fn streams_are_made_listed_and_removed() {
    let world = World::new().with_stream().await;
    let list = async |prefix: &str, order, descending, skip, most| {
        let page = world.logs.streams(&group("g"), prefix, order, descending, skip, most).await.unwrap();
        let mut names: Vec<_> = page.streams.into_iter().map(|stream| stream.name).collect();
        names.extend(page.more.then(|| "more".to_owned()));
        names
    };
    assert_eq!(
        refused(world.logs.create_stream(&group("g"), "s").await),
        "The specified log stream already exists"
    );
    assert_eq!(refused(world.logs.create_stream(&group("h"), "s").await), NO_GROUP);
    assert!(refused(world.logs.create_stream(&group("g"), "a:b").await).contains("pattern"));
    world.logs.create_stream(&group("g"), "empty").await.unwrap();
    world.files.stream(&account(), "g", "function").line("x");
    // A function's stream is there though nobody made it.
    assert_eq!(
        refused(world.logs.create_stream(&group("g"), "function").await),
        "The specified log stream already exists"
    );
    world.set_time(NOW + 1);
    world.put("s", &[(NOW + 1, "y")]).await.unwrap();
    assert_eq!(list("", Order::Name, false, 0, 50).await, ["empty", "function", "s"]);
    assert_eq!(list("", Order::Name, true, 1, 1).await, ["function", "more"]);
    assert_eq!(list("", Order::LastEvent, true, 0, 50).await, ["s", "function", "empty"]);
    assert_eq!(list("f", Order::Name, false, 0, 50).await, ["function"]);

    world.logs.delete_stream(&group("g"), "function").await.unwrap();
    assert_eq!(refused(world.logs.delete_stream(&group("g"), "function").await), NO_STREAM);
    assert_eq!(list("", Order::Name, false, 0, 50).await, ["empty", "s"]);
    assert_eq!(world.all().await, ["y"]);
    let world = world.reopened();
    assert_eq!(world.all().await, ["y"]);
    // What is written to it later is shown, what was there is not.
    world.files.stream(&account(), "g", "function").line("again");
    assert_eq!(world.all().await.len(), 2);
    world.logs.delete_stream(&group("g"), "s").await.unwrap();
    assert_eq!(refused(world.put("s", &[(NOW, "z")]).await), NO_STREAM);
    world.logs.create_stream(&group("g"), "s").await.unwrap();
    world.put("s", &[(NOW, "z")]).await.unwrap();
    assert_eq!(world.found(Search { streams: vec!["s".to_owned()], ..Search::default() }).await, ["z"]);
}

#[tokio::test]
async fn tags_are_added_changed_and_bounded() {
    let world = World::new();
    world.logs.create_group(&group("g"), tags(1)).await.unwrap();
    world.logs.tag(&group("g"), [("key0".to_owned(), "new".to_owned())].into()).await.unwrap();
    world.logs.tag(&group("g"), tags(0)).await.unwrap();
    let world = world.reopened();
    assert_eq!(world.logs.tags(&group("g")).await.unwrap(), [("key0".to_owned(), "new".to_owned())].into());
    world.logs.tag(&group("g"), tags(50)).await.unwrap();
    let more = [("one more".to_owned(), String::new())];
    assert_eq!(
        refused(world.logs.tag(&group("g"), more.clone().into()).await),
        "A log group can have 50 tags."
    );
    world.logs.untag(&group("g"), &["key0".to_owned(), "absent".to_owned()]).await.unwrap();
    world.logs.tag(&group("g"), more.into()).await.unwrap();
    assert_eq!(world.logs.tags(&group("g")).await.unwrap().len(), 50);
    for bad in [("", "x"), ("a\u{1}", "x"), ("aws:x", "x"), (&"k".repeat(129), "x"), ("k", &"v".repeat(257))]
    {
        let given = [(bad.0.to_owned(), bad.1.to_owned())];
        assert!(world.logs.tag(&group("g"), given.into()).await.is_err(), "{bad:?}");
    }
    let longest = [("k".repeat(128), "v".repeat(256))];
    world.logs.create_group(&group("h"), longest.into()).await.unwrap();
    assert!(world.logs.create_group(&group("i"), tags(51)).await.is_err());
}
