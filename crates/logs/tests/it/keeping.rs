//! Retention: what is too old is not shown, and its bytes go.

use logs::ALLOWED_DAYS;

use crate::support::{DAY, NOW, World, account, group, refused};

#[tokio::test]
async fn retention_has_its_values_and_is_kept() {
    let world = World::new().with_stream().await;
    for days in ALLOWED_DAYS {
        world.logs.set_retention(&group("g"), Some(*days)).await.unwrap();
    }
    for bad in [0, -1, 2, 366, 3654] {
        assert!(
            refused(world.logs.set_retention(&group("g"), Some(bad)).await).contains("must be one of"),
            "{bad}"
        );
    }
    assert!(refused(world.logs.set_retention(&group("h"), Some(1)).await).contains("does not exist"));
    let world = world.reopened();
    let shown = world.logs.groups(&account(), "g", "", None, 1).await.unwrap();
    assert_eq!(shown.groups[0].retention_days, Some(3653));
    world.logs.set_retention(&group("g"), None).await.unwrap();
    let shown = world.logs.groups(&account(), "g", "", None, 1).await.unwrap();
    assert_eq!(shown.groups[0].retention_days, None);
}

#[tokio::test]
async fn what_is_too_old_is_not_shown_and_goes() {
    let world = World::new().with_stream().await;
    world.put("s", &[(NOW, "old")]).await.unwrap();
    world.logs.set_retention(&group("g"), Some(1)).await.unwrap();
    world.set_time(NOW + DAY);
    world.logs.keep_retention().await.unwrap();
    assert_eq!(world.all().await, ["old"]);
    world.set_time(NOW + DAY + 1);
    assert!(world.all().await.is_empty(), "not shown, though its bytes are there");
    world.logs.keep_retention().await.unwrap();
    let bytes =
        async || world.logs.groups(&account(), "g", "", None, 1).await.unwrap().groups[0].info.stored_bytes;
    assert!(bytes().await > 0, "something younger may have come in two hours later");
    world.set_time(NOW + DAY + DAY / 8);
    world.logs.keep_retention().await.unwrap();
    assert_eq!(bytes().await, 0);
    // The stream is there still, and goes on.
    let now = NOW + DAY + DAY / 8;
    world.put("s", &[(now, "new")]).await.unwrap();
    world.logs.keep_retention().await.unwrap();
    assert_eq!(world.all().await, ["new"]);
    // A writer that had its file open meanwhile loses nothing.
    let stream = world.files.stream(&account(), "g", "function");
    stream.line("before");
    world.set_time(now + 2 * DAY);
    world.logs.keep_retention().await.unwrap();
    stream.line("after");
    assert_eq!(world.all().await, ["after"]);
}
