//! Code signing: whose packages are taken, and what is known of them afterwards.

use ::signing::{PrivateKey, Statement, sign};
use base::Timestamp;
use functions::model::*;
use functions::{
    CodeSigningConfigChange, CodeSigningConfigView, Error, LayerView, PackageSource, ProfileView,
    PublishLayer, PutProfile,
};

use crate::world::World;
use crate::zips;

/// A signer: a key under a profile's name.
struct Signer {
    key: PrivateKey,
    profile: ProfileView,
}

impl Signer {
    async fn new(world: &World, name: &str) -> Self {
        let key = PrivateKey::generate().unwrap();
        let args = PutProfile {
            name: name.into(),
            public_key: key.public().to_pem(),
            validity: None,
            parameters: Default::default(),
        };
        Self { profile: world.functions.put_profile(&world.caller, args).await.unwrap(), key }
    }

    fn job(&self) -> String {
        self.profile
            .arn
            .replace("signing-profiles/us", "signing-jobs/one")
            .replace("signing-profiles/them", "signing-jobs/one")
    }

    /// The package as this one signs it.
    fn signs(&self, zip: &[u8]) -> Vec<u8> {
        self.signs_at(zip, 1_795_160_258_123, None)
    }

    fn signs_at(&self, zip: &[u8], signed_at_ms: i64, expires_at_ms: Option<i64>) -> Vec<u8> {
        let statement = |tree| Statement {
            profile_version_arn: self.profile.version_arn(),
            job_arn: self.job(),
            tree,
            signed_at_ms,
            expires_at_ms,
        };
        sign(zip, &self.key, statement).unwrap()
    }
}

fn package(text: &str) -> Vec<u8> {
    zips::zip(&[zips::file("index.py", text.as_bytes())])
}

/// A configuration that takes packages of these.
async fn config(world: &World, publishers: &[&str], enforce: bool) -> CodeSigningConfigView {
    let publishers = publishers.iter().map(|arn| (*arn).to_owned()).collect();
    let args =
        CodeSigningConfigChange { description: None, publishers: Some(publishers), enforce: Some(enforce) };
    world.functions.create_code_signing_config(&world.caller, args).await.unwrap()
}

async fn create(world: &World, name: &str, zip: Vec<u8>, config: &str) -> Result<FunctionView, Error> {
    let mut args = World::args(name, "echo");
    (args.code, args.code_signing) = (zip.into(), Some(config.to_owned()));
    let created = world.functions.create(&world.caller, args).await?;
    world.settled(&world.named(name)).await;
    Ok(created)
}

async fn update(world: &World, name: &str, zip: Vec<u8>, dry_run: bool) -> Result<FunctionView, Error> {
    let args = UpdateCode { code: zip.into(), dry_run, publish: false, revision_id: None };
    let updated = world.functions.update_code(&world.caller, &world.named(name), args).await?;
    world.settled(&world.named(name)).await;
    Ok(updated)
}

/// What a deployment was refused for: `!` for what is never let in.
fn refusal<T: std::fmt::Debug>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::InvalidSignature(text)) => format!("!{text}"),
        Err(Error::CodeVerificationFailed(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_deployed_is_what_a_publisher_signed() {
    let world = World::new().await;
    let (us, them) = (Signer::new(&world, "us").await, Signer::new(&world, "them").await);
    let config = config(&world, &[&us.profile.version_arn()], true).await;
    assert!(refusal(create(&world, "f", package("x"), &config.arn).await).contains("it is not signed"));
    assert!(world.functions.get(&world.caller, &world.named("f")).is_err(), "nothing of it is there");

    let created = create(&world, "f", us.signs(&package("x")), &config.arn).await.unwrap();
    let signature = created.configuration.signature.unwrap();
    assert_eq!((signature.profile_version_arn, signature.job_arn), (us.profile.version_arn(), us.job()));

    for (zip, said) in [
        (package("y"), "it is not signed"),
        (them.signs(&package("y")), "is not an allowed publisher"),
        (us.signs_at(&package("y"), 0, Some(1)), "expired"),
    ] {
        assert!(refusal(update(&world, "f", zip.clone(), true).await).contains(said), "{said}");
        assert!(refusal(update(&world, "f", zip, false).await).contains(said), "{said}");
    }
    let view = world.functions.get(&world.caller, &world.named("f")).unwrap();
    assert_eq!(view.configuration.code, created.configuration.code, "it has what it had");
    update(&world, "f", us.signs(&package("y")), false).await.unwrap();

    let world = world.crash().await;
    let view = world.functions.get(&world.caller, &world.named("f")).unwrap();
    assert!(view.configuration.signature.is_some());
    assert!(refusal(update(&world, "f", package("z"), false).await).contains("not signed"));
    let functions = &world.functions;
    let listed = functions.functions_by_code_signing_config(&world.caller, &config.arn, None, 50).unwrap();
    assert_eq!(listed.items, [view.arn.to_string()]);
}

#[tokio::test]
async fn what_was_changed_is_let_in_by_nobody() {
    let world = World::new().await;
    let us = Signer::new(&world, "us").await;
    let config = config(&world, &[&us.profile.arn], false).await;
    // A warning is enough for what is not signed, and for what somebody else signed.
    create(&world, "f", package("x"), &config.arn).await.unwrap();
    let view = world.functions.get(&world.caller, &world.named("f")).unwrap();
    assert_eq!(view.configuration.signature, None);
    let them = Signer::new(&world, "them").await;
    let updated = update(&world, "f", them.signs(&package("y")), false).await.unwrap();
    assert!(updated.configuration.signature.is_some(), "whose it is was proved");

    // The signature of another package.
    let signed = us.signs(&package("one"));
    let signature = signature_of(&signed);
    let moved = zips::zip(&[zips::file("index.py", b"two"), zips::file(::signing::FILE, &signature)]);
    assert!(refusal(update(&world, "f", moved, false).await).starts_with('!'));
    let nonsense = zips::zip(&[zips::file("index.py", b"two"), zips::file(::signing::FILE, b"{}")]);
    assert!(refusal(update(&world, "f", nonsense, false).await).starts_with('!'));
    // A signature in the name of somebody whose key it is not.
    let forger = Signer { key: PrivateKey::generate().unwrap(), profile: us.profile.clone() };
    assert!(refusal(update(&world, "f", forger.signs(&package("two")), false).await).starts_with('!'));
}

fn signature_of(zip: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(zip);
    let start = text.find("{\"payloadType\"").unwrap();
    let end = start + text[start..].find("]}").unwrap() + 2;
    text[start..end].as_bytes().to_vec()
}

#[tokio::test]
async fn layers_are_checked_too() {
    let world = World::new().await;
    let us = Signer::new(&world, "us").await;
    let config = config(&world, &[&us.profile.arn], true).await;
    let plain = publish(&world, "plain", package("plain")).await;
    let signed = publish(&world, "signed", us.signs(&package("signed"))).await;
    assert_eq!(plain.version.signature, None);
    assert_eq!(signed.version.signature.as_ref().map(|one| one.job_arn.clone()), Some(us.job()));
    let with = |layer: &LayerView| {
        let mut args = World::args("f", "echo");
        args.code = us.signs(&package("x")).into();
        (args.layers, args.code_signing) = (vec![layer.arn.clone()], Some(config.arn.clone()));
        world.functions.create(&world.caller, args)
    };
    let said = refusal(with(&plain).await);
    assert!(said.contains(":layer:plain:1: it is not signed"), "{said}");
    let created = with(&signed).await.unwrap();
    assert!(created.configuration.layers[0].signature.is_some());
    world.settled(&world.named("f")).await;
    let change = UpdateConfiguration { layers: Some(vec![plain.arn.clone()]), ..Default::default() };
    let changed = world.functions.update_configuration(&world.caller, &world.named("f"), change).await;
    assert!(refusal(changed).contains("layer:plain"));
}

async fn publish(world: &World, name: &str, zip: Vec<u8>) -> LayerView {
    let args = PublishLayer {
        name: name.into(),
        description: String::new(),
        license: String::new(),
        runtimes: Vec::new(),
        architectures: Vec::new(),
        content: PackageSource::Zip(zip.into()),
    };
    world.functions.publish_layer(&world.caller, args).await.unwrap()
}

#[tokio::test]
async fn what_is_revoked_is_deployed_no_more_and_runs_on() {
    let world = World::new().await;
    let (us, functions, caller) = (Signer::new(&world, "us").await, &world.functions, &world.caller);
    let config = config(&world, &[&us.profile.arn], true).await;
    let signed = us.signs(&package("x"));
    create(&world, "f", signed.clone(), &config.arn).await.unwrap();
    functions.revoke_signature(caller, "one", "leaked").await.unwrap();
    assert!(refusal(update(&world, "f", signed.clone(), false).await).contains("revoked"));
    world.invoke("f", "{}").await.unwrap().result.unwrap();

    let two = Signer::new(&world, "us").await;
    assert_ne!(two.profile.current.version, us.profile.current.version);
    let mut other = two.profile.clone();
    other.arn = us.profile.arn.clone();
    let statement = |tree| Statement {
        profile_version_arn: two.profile.version_arn(),
        job_arn: two.job().replace("/one", "/two"),
        tree,
        signed_at_ms: 1_795_160_258_123,
        expires_at_ms: None,
    };
    let again = sign(&package("y"), &two.key, statement).unwrap();
    update(&world, "f", again.clone(), false).await.unwrap();
    let version = &two.profile.current.version;
    functions.revoke_profile(caller, "us", version, Timestamp(1_795_160_258_124), "lost").await.unwrap();
    update(&world, "f", again.clone(), false).await.expect("it was signed before");
    functions.revoke_profile(caller, "us", version, Timestamp(0), "lost").await.unwrap();
    functions.revoke_profile(caller, "us", version, Timestamp(i64::MAX), "found?").await.unwrap();
    let world = world.crash().await;
    assert!(refusal(update(&world, "f", again, false).await).contains("revoked"));
    assert!(refusal(update(&world, "f", signed, false).await).contains("revoked"));
}

#[tokio::test]
async fn configurations_are_there_while_functions_have_them() {
    let world = World::new().await;
    let (us, functions, caller) = (Signer::new(&world, "us").await, &world.functions, &world.caller);
    let one = config(&world, &[&us.profile.arn], false).await;
    let gone = one.arn.replace(&one.id, "csc-00000000000000000");
    let missing = create(&world, "g", package("x"), &gone).await;
    assert!(matches!(missing, Err(Error::CodeSigningConfigNotFound(_))), "{missing:?}");
    world.create("f", "echo").await;
    assert_eq!(functions.function_code_signing(caller, &world.named("f")).unwrap(), None);
    functions.put_function_code_signing(caller, &world.named("f"), &one.arn).await.unwrap();
    let used = functions.delete_code_signing_config(caller, &one.arn).await;
    assert!(matches!(used, Err(Error::Conflict(_))), "{used:?}");
    let change = CodeSigningConfigChange { enforce: Some(true), ..Default::default() };
    let changed = functions.update_code_signing_config(caller, &one.arn, change).await.unwrap();
    assert!(changed.config.enforce && changed.config.publishers == [us.profile.arn.clone()]);
    assert!(refusal(update(&world, "f", package("y"), false).await).contains("not signed"));
    functions.delete_function_code_signing(caller, &world.named("f")).await.unwrap();
    update(&world, "f", package("y"), false).await.unwrap();
    functions.delete_code_signing_config(caller, &one.arn).await.unwrap();
    assert!(matches!(functions.code_signing_config(caller, &one.arn), Err(Error::NotFound(_))));
    let put = functions.put_function_code_signing(caller, &world.named("f"), &one.arn).await;
    assert!(matches!(put, Err(Error::CodeSigningConfigNotFound(_))), "{put:?}");
    for _ in 0..3 {
        config(&world, &[&us.profile.arn], false).await;
    }
    let first = functions.code_signing_configs(caller, None, 2).unwrap();
    let rest = functions.code_signing_configs(caller, first.next_marker.as_deref(), 2).unwrap();
    assert_eq!((first.items.len(), rest.items.len(), rest.next_marker), (2, 1, None));
}

#[tokio::test]
async fn a_canceled_profile_signs_nothing_more() {
    let world = World::new().await;
    let (us, functions, caller) = (Signer::new(&world, "us").await, &world.functions, &world.caller);
    let config = config(&world, &[&us.profile.arn], true).await;
    functions.cancel_profile(caller, "us").await.unwrap();
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap();
    let after = us.signs_at(&package("x"), now + 1000, None);
    assert!(refusal(create(&world, "f", after, &config.arn).await).contains("canceled"));
    create(&world, "f", us.signs_at(&package("x"), now - 60_000, None), &config.arn).await.unwrap();
    let names = |page: Page<ProfileView>| page.items.into_iter().map(|one| one.name).collect::<Vec<_>>();
    assert_eq!(names(functions.profiles(caller, None, 25, |one| one.canceled.is_some()).unwrap()), ["us"]);
    let bad = PutProfile {
        name: "bad".into(),
        public_key: "nonsense".into(),
        validity: None,
        parameters: Default::default(),
    };
    assert!(matches!(functions.put_profile(caller, bad).await, Err(Error::Invalid(_))));
}
