//! Layers: versions, what functions have of them, and what is kept of them for how long.

use base::{AccountId, LayerArn};
use functions::model::*;
use functions::{Error, LayerFilter, LayerPage, LayerPermission, LayerView, PackageSource, PublishLayer};
use iam::{Caller, Principal};

use crate::world::{World, until};
use crate::zips;

fn zip(name: &str, text: &str) -> Vec<u8> {
    zips::zip(&[zips::file(name, text.as_bytes())])
}

fn args(name: &str, zip: Vec<u8>) -> PublishLayer {
    PublishLayer {
        name: name.into(),
        description: String::new(),
        license: String::new(),
        runtimes: Vec::new(),
        architectures: Vec::new(),
        content: PackageSource::Zip(zip.into()),
    }
}

async fn publish(world: &World, name: &str, text: &str) -> LayerView {
    let args = args(name, zip(&format!("lib/{name}"), text));
    world.functions.publish_layer(&world.caller, args).await.unwrap()
}

async fn with_layers(world: &World, name: &str, layers: &[&LayerView]) -> Result<FunctionView, Error> {
    let layers = layers.iter().map(|view| view.arn.clone()).collect();
    let created =
        world.functions.create(&world.caller, CreateFunction { layers, ..World::args(name, "echo") });
    let created = created.await?;
    world.settled(&world.named(name)).await;
    Ok(created)
}

fn layers_of(world: &World, name: &str) -> Vec<String> {
    let view = world.functions.get(&world.caller, &world.named(name)).unwrap();
    view.configuration.layers.into_iter().map(|layer| layer.arn).collect()
}

/// Merged trees on the disk.
fn trees(world: &World) -> Vec<String> {
    world.folders().0.into_iter().filter(|name| name.starts_with("layers-")).collect()
}

#[tokio::test]
async fn numbers_are_never_given_twice() {
    let world = World::new().await;
    assert_eq!(publish(&world, "tools", "1").await.arn.version, Some(1));
    let second = publish(&world, "tools", "2").await;
    assert_eq!(second.arn.version, Some(2));
    world.functions.delete_layer_version(&world.caller, &second.arn).await.unwrap();
    world.functions.delete_layer_version(&world.caller, &second.arn).await.expect("it is deleted already");
    let first = second.arn.versioned(1);
    world.functions.delete_layer_version(&world.caller, &first).await.unwrap();
    let world = world.crash().await;
    assert!(matches!(world.functions.layer_version(&world.caller, &first), Err(Error::NotFound(_))));
    assert_eq!(publish(&world, "tools", "3").await.arn.version, Some(3));
}

#[tokio::test]
async fn listings_are_filtered_and_paged() {
    let world = World::new().await;
    for (name, runtime) in
        [("b", "python3.11"), ("a", "nodejs20.x"), ("a", "python3.11"), ("a", "nodejs20.x")]
    {
        let args = PublishLayer {
            runtimes: vec![runtime.into()],
            architectures: vec!["x86_64".into()],
            ..args(name, zip("x", name))
        };
        world.functions.publish_layer(&world.caller, args).await.unwrap();
    }
    let filter = |runtime: Option<&str>, architecture: Option<&str>| LayerFilter {
        runtime: runtime.map(str::to_owned),
        architecture: architecture.map(str::to_owned),
    };
    let shown = |items: &[LayerView]| -> Vec<String> {
        items.iter().map(|view| format!("{}:{}", view.arn.name, view.arn.version.unwrap())).collect()
    };
    let all = |filter: LayerFilter| {
        let page = world.functions.layers(&world.caller, &filter, &LayerPage::default()).unwrap();
        shown(&page.items)
    };
    assert_eq!(all(filter(None, None)), ["a:3", "b:1"]);
    assert_eq!(all(filter(Some("python3.11"), Some("x86_64"))), ["a:2", "b:1"]);
    assert_eq!(all(filter(Some("nodejs20.x"), None)), ["a:3"]);
    assert_eq!(all(filter(None, Some("arm64"))), [""; 0]);
    let layer = publish(&world, "b", "more").await.arn.unversioned();
    let layer = LayerArn { name: "a".into(), ..layer };
    let (mut found, mut marker) = (Vec::new(), None);
    loop {
        let page = LayerPage { marker, max_items: 1 };
        let page = world.functions.layer_versions(&world.caller, &layer, &filter(None, None), &page).unwrap();
        assert!(page.items.len() <= 1);
        found.extend(shown(&page.items));
        marker = page.next_marker;
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(found, ["a:3", "a:2", "a:1"], "the newest first");
    let first =
        world.functions.layers(&world.caller, &filter(None, None), &LayerPage { marker: None, max_items: 1 });
    let first = first.unwrap();
    let rest = LayerPage { marker: first.next_marker, max_items: 1 };
    let rest = world.functions.layers(&world.caller, &filter(None, None), &rest).unwrap();
    assert_eq!((shown(&rest.items), rest.next_marker), (vec!["b:2".to_owned()], None));
    let bad = LayerPage { marker: Some("!".into()), max_items: 0 };
    assert!(world.functions.layers(&world.caller, &filter(None, None), &bad).is_err());
}

#[tokio::test]
async fn functions_see_layers_in_order_and_keep_them() {
    let world = World::new().await;
    let (one, two) = (publish(&world, "one", "1").await, publish(&world, "two", "22").await);
    with_layers(&world, "app", &[&one, &two]).await.unwrap();
    assert_eq!(layers_of(&world, "app"), [one.arn.to_string(), two.arn.to_string()]);
    let seen = world.stage.layers.lock().unwrap().clone().expect("it was prepared with its layers");
    let read = |name: &str| std::fs::read_to_string(seen.join("lib").join(name)).unwrap();
    assert_eq!((read("one").as_str(), read("two").as_str()), ("1", "22"));
    // Of one layer there is nothing to merge.
    with_layers(&world, "single", &[&one]).await.unwrap();
    assert_eq!(
        world.stage.layers.lock().unwrap().clone(),
        Some(world.code_dir().join(&one.version.code.digest))
    );
    assert_eq!(trees(&world).len(), 1);

    for layer in [&one, &two] {
        world.functions.delete_layer_version(&world.caller, &layer.arn).await.unwrap();
    }
    let refused = with_layers(&world, "other", &[&one]).await.unwrap_err().to_string();
    assert_eq!(refused, format!("Layer version {} does not exist.", one.arn));
    std::fs::remove_dir_all(world.code_dir()).unwrap();
    let world = world.crash().await;
    assert_eq!(trees(&world).len(), 1, "it is made again from what is kept");
    world.invoke("app", "1").await.unwrap().result.unwrap();
    let app = world.named("app");
    let again = world.functions.publish(&world.caller, &app, PublishVersion::default()).await;
    assert_eq!(again.unwrap().configuration.layers.len(), 2, "versions have them too");

    for name in ["app", "single"] {
        world.functions.delete(&world.caller, &world.named(name)).await.unwrap();
    }
    world.nothing_kept().await;
}

#[tokio::test]
async fn a_change_of_layers_is_an_update_and_lets_go_of_the_old() {
    let world = World::new().await;
    let (one, two) = (publish(&world, "one", "1").await, publish(&world, "two", "2").await);
    with_layers(&world, "app", &[&one, &two]).await.unwrap();
    let before = trees(&world);
    let update = |layers: &[&LayerView]| UpdateConfiguration {
        layers: Some(layers.iter().map(|view| view.arn.clone()).collect()),
        ..Default::default()
    };
    let functions = &world.functions;
    let app = world.named("app");
    let changed = functions.update_configuration(&world.caller, &app, update(&[&two, &one])).await;
    assert_eq!(changed.unwrap().configuration.layers[0].arn, two.arn.to_string());
    world.settled(&world.named("app")).await;
    until("the old tree is gone", || (trees(&world).len() == 1 && trees(&world) != before).then_some(()))
        .await;
    // What is not said stays.
    let timeout = UpdateConfiguration { timeout_s: Some(9), ..Default::default() };
    functions.update_configuration(&world.caller, &world.named("app"), timeout).await.unwrap();
    world.settled(&world.named("app")).await;
    assert_eq!(layers_of(&world, "app").len(), 2);
    functions.update_configuration(&world.caller, &world.named("app"), update(&[])).await.unwrap();
    world.settled(&world.named("app")).await;
    until("no tree is left", || trees(&world).is_empty().then_some(())).await;
    assert_eq!(world.stage.layers.lock().unwrap().clone(), None);
}

#[tokio::test]
async fn what_cannot_be_a_functions_layers() {
    let world = World::new().await;
    let one = publish(&world, "one", "1").await;
    let create = |arns: Vec<LayerArn>, runtime: &str| {
        let args = CreateFunction { layers: arns, runtime: runtime.into(), ..World::args("app", "echo") };
        let (functions, caller) = (world.functions.clone(), world.caller.clone());
        async move { functions.create(&caller, args).await.unwrap_err().to_string() }
    };
    let same = vec![one.arn.clone(), one.arn.clone()];
    assert!(create(same, "python3.11").await.starts_with("Two different versions of the same layer"));
    let missing = one.arn.versioned(2);
    assert!(create(vec![missing], "python3.11").await.ends_with(":layer:one:2 does not exist."));
    let elsewhere = LayerArn { region: base::Region::parse("eu-west-3").unwrap(), ..one.arn.clone() };
    assert!(create(vec![elsewhere], "python3.11").await.contains("not in the same region"));
    assert!(create(vec![one.arn.clone()], "wasm").await.contains("have no /opt"));
    let image = CreateFunction {
        layers: vec![one.arn.clone()],
        runtime: String::new(),
        handler: String::new(),
        code: NewCode::Image("registry.example/a:b".into()),
        ..World::args("image", "")
    };
    let refused = world.functions.create(&world.caller, image).await.unwrap_err().to_string();
    assert!(refused.starts_with("Please don't provide Handler or Runtime or Layer"), "{refused}");
    // What was refused holds nothing.
    world.functions.delete_layer_version(&world.caller, &one.arn).await.unwrap();
    world.nothing_kept().await;
}

#[tokio::test]
async fn hostile_and_broken_packages_are_no_layers() {
    let world = World::new().await;
    for zip in [zip("../x", "out"), b"nonsense".to_vec(), Vec::new()] {
        let refused = world.functions.publish_layer(&world.caller, args("tools", zip)).await;
        assert!(matches!(refused, Err(Error::InvalidPackage(_))), "{refused:?}");
    }
    assert!(matches!(
        world.functions.publish_layer(&world.caller, args("a b", zip("x", ""))).await,
        Err(Error::Invalid(_))
    ));
    assert_eq!(publish(&world, &"n".repeat(140), "").await.arn.version, Some(1));
    assert!(
        world.functions.publish_layer(&world.caller, args(&"n".repeat(141), zip("x", ""))).await.is_err()
    );
    world.functions.layer_version(&world.caller, &publish(&world, "fine", "").await.arn).unwrap();
}

#[tokio::test]
async fn the_same_bytes_are_kept_once() {
    let world = World::new().await;
    let same = || zip("lib/x", "same");
    let one = world.functions.publish_layer(&world.caller, args("one", same())).await.unwrap();
    let two = world.functions.publish_layer(&world.caller, args("two", same())).await.unwrap();
    assert_eq!(one.version.code, two.version.code);
    assert_eq!(world.blobs.list().await.unwrap().len(), 1);
    world.functions.delete_layer_version(&world.caller, &one.arn).await.unwrap();
    let package = world.functions.layer_package(&world.caller, &two.arn).await.unwrap();
    assert_eq!(package, same(), "the other's");
    world.functions.delete_layer_version(&world.caller, &two.arn).await.unwrap();
    world.nothing_kept().await;
}

#[tokio::test]
async fn other_accounts_need_a_permission() {
    let world = World::new().await;
    let one = publish(&world, "one", "1").await;
    let stranger =
        Caller::new(AccountId::parse("210987654321").unwrap(), Principal::User { name: "admin".into() });
    let look = || world.functions.layer_version(&stranger, &one.arn);
    assert!(matches!(look(), Err(Error::Denied(_))));
    assert!(matches!(world.functions.layer_version(&stranger, &one.arn.versioned(9)), Err(Error::Denied(_))));
    assert!(matches!(world.functions.layer_policy(&world.caller, &one.arn), Err(Error::NotFound(_))));
    let permission = LayerPermission {
        statement: "other".into(),
        action: "lambda:GetLayerVersion".into(),
        principal: "210987654321".into(),
        organization: None,
        revision_id: None,
    };
    let added = world.functions.permit_layer_version(&world.caller, &one.arn, permission).await.unwrap();
    let world = world.crash().await;
    let look = || world.functions.layer_version(&stranger, &one.arn);
    look().unwrap();
    let theirs = CreateFunction { layers: vec![one.arn.clone()], ..World::args("theirs", "echo") };
    let theirs = world.functions.create(&stranger, theirs).await.unwrap();
    assert_eq!(theirs.configuration.layers[0].arn, one.arn.to_string());
    assert!(matches!(world.functions.delete_layer_version(&stranger, &one.arn).await, Err(Error::Denied(_))));
    let (functions, caller) = (&world.functions, &world.caller);
    let stale = functions.forbid_layer_version(caller, &one.arn, "other", Some("old")).await;
    assert!(matches!(stale, Err(Error::PreconditionFailed(_))));
    functions.forbid_layer_version(caller, &one.arn, "other", Some(&added.revision_id)).await.unwrap();
    assert!(matches!(look(), Err(Error::Denied(_))));
}
