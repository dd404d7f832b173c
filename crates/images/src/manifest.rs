//! The documents of an image: index, manifest, configuration (OCI image spec 1.1; Docker image manifest v2, schema 2).

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::{Digest, Error, limits};

/// What registries are asked for.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// This machine, as images call it.
pub(crate) const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// Points to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Annotations,
}

/// Of the annotations, what is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Annotations {
    #[serde(default, rename = "org.opencontainers.image.ref.name")]
    pub(crate) name: Option<String>,
    /// Of an eStargz layer's table of contents.
    #[serde(default, rename = "containerd.io/snapshot/stargz/toc.digest")]
    pub(crate) toc: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: String,
}

/// An index or a manifest.
#[derive(Debug)]
pub(crate) enum Document {
    Index(Vec<Descriptor>),
    Manifest(Manifest),
}

/// What an image consists of.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

impl Descriptor {
    /// The digest of its table of contents, where it is a layer that has one. One of another kind is none.
    pub(crate) fn toc(&self) -> Option<Digest> {
        self.annotations.toc.as_deref().and_then(Digest::parse)
    }

    /// Its name in a layout's index.
    pub(crate) fn name(&self) -> Option<&str> {
        self.annotations.name.as_deref()
    }
}

/// Reads an index or a manifest. What it is says its content: media types are missing in old ones, and wrong in some.
pub(crate) fn parse(bytes: &[u8]) -> Result<Document, Error> {
    /// What tells them apart.
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Look<'a> {
        #[serde(borrow, default)]
        schema_version: Option<&'a RawValue>,
        #[serde(borrow, default)]
        manifests: Option<&'a RawValue>,
    }
    let look: Look<'_> = read(bytes, "manifest")?;
    if look.schema_version.is_some_and(|version| version.get() == "1") {
        return Err(Error::Invalid(
            "the manifest is of Docker's old schema 1: push the image anew with a current tool".to_owned(),
        ));
    }
    if let Some(manifests) = look.manifests.filter(|manifests| manifests.get().starts_with('[')) {
        return Ok(Document::Index(read(manifests.get().as_bytes(), "index")?));
    }
    let manifest: Manifest = read(bytes, "manifest")?;
    if manifest.layers.len() > limits::LAYERS {
        return Err(Error::Invalid(format!("the image has more than {} layers", limits::LAYERS)));
    }
    if manifest.config.size > limits::CONFIG_BYTES {
        return Err(Error::Invalid("the image's configuration is too large".to_owned()));
    }
    let bytes = manifest.layers.iter().fold(0_u64, |sum, layer| sum.saturating_add(layer.size));
    if bytes > limits::IMAGE_BYTES {
        return Err(crate::digest::too_large());
    }
    Ok(Document::Manifest(manifest))
}

/// The manifest of an index that is for this machine.
pub(crate) fn choose(manifests: &[Descriptor]) -> Result<&Descriptor, Error> {
    let fits = |descriptor: &&Descriptor| {
        descriptor.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == ARCHITECTURE)
    };
    // An index of one manifest need not say what it is for; its configuration does.
    if let [only] = manifests
        && only.platform.is_none()
    {
        return Ok(only);
    }
    // arm64's variant is v8 or nothing; amd64's v2 and above need newer processors than some hosts have.
    let plain =
        |d: &&Descriptor| d.platform.as_ref().is_some_and(|p| matches!(&*p.variant, "" | "v8" | "v1"));
    let found = manifests.iter().filter(fits).find(plain).or_else(|| manifests.iter().find(fits));
    found.ok_or_else(|| {
        // Attestations are listed beside images as of an unknown platform.
        let mut there: Vec<String> = manifests
            .iter()
            .filter_map(|d| d.platform.as_ref())
            .filter(|p| p.os != "unknown")
            .map(|p| format!("{:.20}/{:.20}", p.os, p.architecture))
            .collect();
        there.sort();
        there.dedup();
        there.truncate(20);
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        Error::Invalid(format!("the image has nothing for linux/{ARCHITECTURE}: it is for {there}"))
    })
}

/// Of an image's configuration, what is used.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    pub(crate) rootfs: Rootfs,
    #[serde(default)]
    pub(crate) config: Option<Execution>,
}

/// Which layers, uncompressed.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Rootfs {
    pub(crate) diff_ids: Vec<Digest>,
}

/// How it is run. All of it may be null.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Execution {
    pub(crate) user: Option<String>,
    pub(crate) env: Option<Vec<String>>,
    pub(crate) entrypoint: Option<Vec<String>>,
    pub(crate) cmd: Option<Vec<String>>,
    pub(crate) working_dir: Option<String>,
    pub(crate) exposed_ports: Option<std::collections::BTreeMap<String, IgnoredAny>>,
}

impl Config {
    /// Reads it; an image for another machine is refused.
    pub(crate) fn parse(bytes: &[u8], layers: usize) -> Result<Self, Error> {
        let config: Self = read(bytes, "configuration")?;
        if config.os != "linux" || config.architecture != ARCHITECTURE {
            return Err(Error::Invalid(format!(
                "the image is for {:.20}/{:.20}, this server runs linux/{ARCHITECTURE}",
                config.os, config.architecture
            )));
        }
        if config.rootfs.diff_ids.len() != layers {
            return Err(Error::Invalid("manifest and configuration list different numbers of layers".into()));
        }
        Ok(config)
    }
}

/// Reads a document, and of it only what is wanted: as a tree of values it would take a hundred times its bytes.
pub(crate) fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &str) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|error| {
        let problem = if error.is_data() { "makes no sense" } else { "is not JSON" };
        // It quotes what it does not like, however long that is.
        let said: String = error.to_string().chars().take(200).collect();
        Error::Invalid(format!("the {what} {problem}: {said}"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn descriptor(platform: Value) -> Value {
        json!({ "digest": Digest::of(b"x").to_string(), "size": 1, "platform": platform })
    }

    fn chosen(platforms: &[Value]) -> Result<usize, String> {
        let manifests: Vec<Value> = platforms.iter().cloned().map(descriptor).collect();
        let index = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
        let Document::Index(all) = parse(index.as_bytes()).unwrap() else { panic!("an index") };
        let found = choose(&all).map_err(|error| error.to_string())?;
        Ok(all.iter().position(|each| std::ptr::eq(each, found)).unwrap())
    }

    #[test]
    fn an_index_has_something_for_this_machine_or_says_what_it_has() {
        let p = |os: &str, architecture: &str| json!({ "os": os, "architecture": architecture });
        assert_eq!(
            chosen(&[p("linux", "s390x"), p("windows", ARCHITECTURE), p("linux", ARCHITECTURE)]),
            Ok(2)
        );
        let newer = json!({ "os": "linux", "architecture": ARCHITECTURE, "variant": "v3" });
        assert_eq!(chosen(&[newer.clone(), p("linux", ARCHITECTURE)]), Ok(1));
        assert_eq!(chosen(&[newer]), Ok(0));
        assert_eq!(chosen(&[Value::Null]), Ok(0), "its configuration says");
        let error = chosen(&[p("linux", "s390x"), p("unknown", "unknown")]).unwrap_err();
        assert!(error.contains("it is for linux/s390x") && !error.contains("unknown"), "{error}");
    }

    #[test]
    fn a_configuration_is_for_this_machine() {
        let config = |architecture: &str| {
            let text = json!({
                "os": "linux", "architecture": architecture,
                "rootfs": { "type": "layers", "diff_ids": [Digest::of(b"l").to_string()] },
                "config": null,
            });
            Config::parse(text.to_string().as_bytes(), 1).map(drop).map_err(|error| error.to_string())
        };
        assert!(config(ARCHITECTURE).is_ok());
        assert!(config("s390x").unwrap_err().contains("the image is for linux/s390x"));
        assert!(Config::parse(b"{}", 0).is_err() && Config::parse(b"nonsense", 0).is_err());
    }

    #[test]
    fn manifests_are_bounded() {
        let manifest = |count: usize, size: u64| {
            let layer = json!({ "digest": Digest::of(b"x").to_string(), "size": size });
            let text = json!({ "schemaVersion": 2, "config": layer, "layers": vec![layer.clone(); count] });
            parse(text.to_string().as_bytes()).map(drop).map_err(|error| error.to_string())
        };
        assert!(manifest(127, 10).is_ok());
        assert!(manifest(128, 10).unwrap_err().contains("127 layers"));
        assert!(manifest(1, 11 << 30).is_err());
        let quoted = json!({ "schemaVersion": 2, "config": "x".repeat(1 << 20), "layers": [] }).to_string();
        let error = parse(quoted.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("makes no sense") && error.len() < 500, "{} bytes", error.len());
        assert!(parse(br#"{"schemaVersion":1}"#).unwrap_err().to_string().contains("schema 1"));
        assert!(parse(br#"{"schemaVersion":2,"config":{"digest":"md5:1","size":0},"layers":[]}"#).is_err());
    }
}
