//! OCI layouts in a temporary folder, and a store that may take images from it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use images::{Digest, Error, Extras, Images, Pulled, Settings};
use serde_json::{Value, json};

pub(crate) const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// A folder with a layout, and another for the store.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) images: Images,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with_room(u64::MAX)
    }

    /// A store whose layers may take so many bytes.
    pub(crate) fn with_room(bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let images = open(dir.path(), bytes);
        images.sweep(&|_| false).unwrap();
        Self { dir, images }
    }

    /// The server ends and starts again, and wants to keep these.
    pub(crate) fn restart(&mut self, wanted: &dyn Fn(&Digest) -> bool) {
        self.images = open(self.dir.path(), u64::MAX);
        self.images.sweep(wanted).unwrap();
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub(crate) fn reference(&self) -> String {
        format!("oci:{}", self.path("layout").display())
    }

    /// Writes a blob into the layout; its descriptor.
    pub(crate) fn blob(&self, bytes: &[u8]) -> Value {
        let folder = self.path("layout/blobs/sha256");
        fs::create_dir_all(&folder).unwrap();
        let digest = Digest::of(bytes);
        fs::write(folder.join(digest.hex()), bytes).unwrap();
        json!({ "digest": digest, "size": bytes.len() })
    }

    /// Writes an image of these layers, with these settings.
    pub(crate) fn image_with(&self, layers: &[Vec<u8>], config: Value) -> Value {
        let diffs: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let layers: Vec<Value> = layers.iter().map(|layer| self.blob(&gzip(layer))).collect();
        let config = json!({
            "os": "linux", "architecture": ARCHITECTURE, "config": config,
            "rootfs": { "type": "layers", "diff_ids": diffs },
        });
        self.manifest(&config, &layers)
    }

    /// Writes an image of what it is said to be.
    pub(crate) fn manifest(&self, config: &Value, layers: &[Value]) -> Value {
        let config = self.blob(config.to_string().as_bytes());
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        let manifest = self.blob(manifest.to_string().as_bytes());
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        fs::write(self.path("layout/index.json"), index.to_string()).unwrap();
        manifest
    }

    pub(crate) fn image(&self, layers: &[Vec<u8>]) -> Value {
        self.image_with(layers, json!({}))
    }

    pub(crate) fn pull(&self) -> Result<Pulled, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.images.pull("1", &self.reference(), None))
    }

    /// Pulls an image of one layer.
    pub(crate) fn unpack(&self, layer: Vec<u8>) -> Result<Pulled, Error> {
        self.image(&[layer]);
        self.pull()
    }

    /// What is in the store's folders, by name.
    pub(crate) fn kept(&self, kind: &str) -> Vec<String> {
        let list = fs::read_dir(self.path("store").join(kind)).unwrap();
        list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

fn open(dir: &Path, most_bytes: u64) -> Images {
    let settings = Settings {
        dir: dir.join("store"),
        extras: Extras {
            files: vec![("etc/hosts".to_owned(), "127.0.0.1 localhost\n".to_owned())],
            lines: vec![("etc/passwd".to_owned(), "sandbox:x:993:993::/tmp:/sbin/nologin".to_owned())],
        },
        local: vec![dir.to_owned()],
        most_bytes,
        ..Settings::default()
    };
    Images::open(settings).unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// What went wrong, with everything that it came from.
pub(crate) fn problem(pulled: Result<Pulled, Error>) -> String {
    let error = pulled.err().expect("it is refused");
    let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}
