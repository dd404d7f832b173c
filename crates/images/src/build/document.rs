//! The documents of an image that is made (OCI image spec 1.1): pure, and the same for the same input.

use serde_json::{Map, Value, json};

use super::Run;
use crate::manifest::ARCHITECTURE;
use crate::{Digest, Error};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub(crate) const LAYER_PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";

/// Every image is of this time: when it was built says nothing about what is in it.
pub(super) const CREATED: &str = "1970-01-01T00:00:00Z";

/// On a layer: the digest of its table of contents (eStargz).
const TOC_ANNOTATION: &str = "containerd.io/snapshot/stargz/toc.digest";

/// A layer as a manifest lists it.
pub(crate) struct Listed<'a> {
    pub(crate) media_type: &'a str,
    pub(crate) digest: &'a Digest,
    pub(crate) size: u64,
    /// Of its table of contents, if it can be fetched in parts.
    pub(crate) toc: Option<&'a Digest>,
}

/// What OCI calls the layers of a base, which may be of Docker's kinds. Their bytes stay the same.
pub(crate) fn layer_type(base: &str) -> Result<&'static str, Error> {
    let refused = |why: &str| Err(Error::Invalid(format!("the base cannot be built upon: a layer {why}")));
    match base {
        "" => refused("does not say of which type it is"),
        _ if base.contains("foreign") || base.contains("nondistributable") => {
            refused("may not be distributed")
        }
        _ if base.ends_with(".tar.gzip") || base.ends_with(".tar+gzip") => Ok(LAYER_GZIP),
        _ if base.ends_with(".tar+zstd") || base.ends_with(".tar.zstd") => Ok(LAYER_ZSTD),
        _ if base.ends_with(".tar") => Ok(LAYER_PLAIN),
        other => refused(&format!("is of the unknown type {other:.100}")),
    }
}

/// The configuration: the base's, more layers, and what is said about running it.
pub(crate) fn config(base: Option<&Value>, layers: &[Digest], run: &Run) -> Result<Vec<u8>, Error> {
    let mut config = base.cloned().unwrap_or_else(|| {
        json!({
            "architecture": ARCHITECTURE, "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": [] }, "history": [],
        })
    });
    config["created"] = CREATED.into();
    let odd = || Error::Invalid("the base's configuration makes no sense".to_owned());
    let diffs = config.pointer_mut("/rootfs/diff_ids").and_then(Value::as_array_mut).ok_or_else(odd)?;
    diffs.extend(layers.iter().map(|diff| diff.to_string().into()));
    // A base without a history: one that tells of its own layers only would be wrong.
    if let Some(history) = config.get_mut("history").and_then(Value::as_array_mut) {
        let line = json!({ "created": CREATED, "created_by": "virga build" });
        history.extend(layers.iter().map(|_| line.clone()));
    }
    if !config["config"].is_object() {
        config["config"] = json!({});
    }
    apply(config["config"].as_object_mut().ok_or_else(odd)?, run);
    serde_json::to_vec(&config).map_err(|_| odd())
}

fn apply(into: &mut Map<String, Value>, run: &Run) {
    // Instructions for a build by Docker upon this base.
    into.remove("OnBuild");
    if let Some(entrypoint) = &run.entrypoint {
        into.insert("Entrypoint".to_owned(), json!(entrypoint));
        // What the base's entry point was given means nothing to another.
        into.remove("Cmd");
    }
    if let Some(command) = &run.command {
        into.insert("Cmd".to_owned(), json!(command));
    }
    if let Some(folder) = &run.folder {
        into.insert("WorkingDir".to_owned(), json!(folder));
    }
    if let Some(user) = &run.user {
        into.insert("User".to_owned(), json!(user));
    }
    if !run.env.is_empty() {
        let before = into.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
        into.insert("Env".to_owned(), json!(environment(&before, &run.env)));
    }
    let added = [
        ("ExposedPorts", run.ports.iter().map(|port| (format!("{port}/tcp"), json!({}))).collect()),
        ("Labels", run.labels.iter().map(|(key, value)| (key.clone(), json!(value))).collect::<Map<_, _>>()),
    ];
    for (member, added) in added {
        if !added.is_empty() {
            let mut all = into.get(member).and_then(Value::as_object).cloned().unwrap_or_default();
            all.extend(added);
            into.insert(member.to_owned(), Value::Object(all));
        }
    }
}

/// The base's variables, those that are given in their place or behind them.
fn environment(base: &[Value], given: &[(String, String)]) -> Vec<String> {
    let mut all: Vec<String> = base.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect();
    for (key, value) in given {
        let line = format!("{key}={value}");
        let is_same = |other: &&mut String| other.split_once('=').is_some_and(|(name, _)| name == key);
        match all.iter_mut().find(is_same) {
            Some(other) => *other = line,
            None => all.push(line),
        }
    }
    all
}

/// The manifest.
pub(crate) fn manifest(config: &[u8], layers: &[Listed<'_>]) -> Vec<u8> {
    let listed = |layer: &Listed<'_>| {
        let mut listed =
            json!({ "mediaType": layer.media_type, "digest": layer.digest.to_string(), "size": layer.size });
        if let Some(toc) = layer.toc {
            listed["annotations"] = json!({ TOC_ANNOTATION: toc.to_string() });
        }
        listed
    };
    let config =
        Listed { media_type: CONFIG, digest: &Digest::of(config), size: config.len() as u64, toc: None };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": listed(&config),
        "layers": layers.iter().map(listed).collect::<Vec<_>>(),
    });
    manifest.to_string().into_bytes()
}

/// A layout's index with an image under a name: what had the name gives way.
pub(crate) fn index(before: Option<&[u8]>, tag: &str, manifest: &[u8]) -> Result<Vec<u8>, Error> {
    let not = || Error::Invalid("index.json of the layout is no index".to_owned());
    let mut index = match before {
        None => json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [],
        }),
        Some(before) => serde_json::from_slice(before).map_err(|_| not())?,
    };
    let all = index.get_mut("manifests").and_then(Value::as_array_mut).ok_or_else(not)?;
    let name = "org.opencontainers.image.ref.name";
    all.retain(|each| each["annotations"][name] != tag);
    all.push(json!({
        "mediaType": MANIFEST,
        "digest": Digest::of(manifest).to_string(),
        "size": manifest.len(),
        "platform": { "architecture": ARCHITECTURE, "os": "linux" },
        "annotations": { name: tag },
    }));
    Ok(index.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(base: Option<Value>, run: &Run) -> Value {
        let bytes = config(base.as_ref(), &[Digest::of(b"layer")], run).unwrap();
        assert_eq!(bytes, config(base.as_ref(), &[Digest::of(b"layer")], run).unwrap());
        serde_json::from_slice(&bytes).unwrap()
    }

    fn words(words: &[&str]) -> Option<Vec<String>> {
        Some(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn from_nothing() {
        let run = Run { entrypoint: words(&["/app/x"]), ports: vec![8080], ..Run::default() };
        let config = made(None, &run);
        assert_eq!(config["rootfs"]["diff_ids"], json!([Digest::of(b"layer").to_string()]));
        assert_eq!(config["history"].as_array().unwrap().len(), 1);
        assert_eq!(config["config"], json!({ "Entrypoint": ["/app/x"], "ExposedPorts": { "8080/tcp": {} } }));
        assert!(crate::manifest::Config::parse(config.to_string().as_bytes(), 1).is_ok());
    }

    #[test]
    fn a_base_is_inherited() {
        let base = json!({
            "architecture": ARCHITECTURE, "os": "linux", "author": "them",
            "config": { "Env": ["PATH=/bin", "A=1"], "User": "web", "Entrypoint": ["/e"], "Cmd": ["c"],
                        "WorkingDir": "/srv", "ExposedPorts": { "80/tcp": {} }, "OnBuild": ["RUN x"] },
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(b"base").to_string()] },
        });
        let env = vec![("A".to_owned(), "2".to_owned()), ("B".to_owned(), "=".to_owned())];
        let config = made(Some(base.clone()), &Run { env, ports: vec![8080], ..Run::default() });
        let expect = json!({
            "Env": ["PATH=/bin", "A=2", "B=="], "User": "web", "Entrypoint": ["/e"], "Cmd": ["c"],
            "WorkingDir": "/srv", "ExposedPorts": { "80/tcp": {}, "8080/tcp": {} },
        });
        assert_eq!((&config["config"], &config["author"]), (&expect, &json!("them")));
        assert!(config.get("history").is_none());
        assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);
        let config = made(Some(base.clone()), &Run { entrypoint: words(&["/mine"]), ..Run::default() });
        assert_eq!(config["config"]["Entrypoint"], json!(["/mine"]));
        assert!(config["config"].get("Cmd").is_none());
        let config = made(Some(base), &Run { command: words(&["d"]), ..Run::default() });
        assert_eq!(
            (&config["config"]["Entrypoint"], &config["config"]["Cmd"]),
            (&json!(["/e"]), &json!(["d"]))
        );
    }

    #[test]
    fn layers_keep_their_kind() {
        let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        assert_eq!(layer_type(docker).unwrap(), LAYER_GZIP);
        assert_eq!(layer_type(LAYER_ZSTD).unwrap(), LAYER_ZSTD);
        assert_eq!(layer_type("application/vnd.docker.image.rootfs.diff.tar").unwrap(), LAYER_PLAIN);
        for bad in ["", "text/plain", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"] {
            assert!(layer_type(bad).unwrap_err().to_string().contains("cannot be built upon"), "{bad}");
        }
    }

    #[test]
    fn an_index_has_a_name_once() {
        let first = index(None, "v1", b"one").unwrap();
        let second = index(Some(&first), "v2", b"two").unwrap();
        let third = index(Some(&second), "v1", b"three").unwrap();
        let third: Value = serde_json::from_slice(&third).unwrap();
        let digests: Vec<_> =
            third["manifests"].as_array().unwrap().iter().map(|m| m["digest"].clone()).collect();
        assert_eq!(digests, [Digest::of(b"two").to_string(), Digest::of(b"three").to_string()]);
        assert!(index(Some(b"[]"), "v1", b"one").is_err() && index(Some(b"?"), "v1", b"one").is_err());
    }
}
