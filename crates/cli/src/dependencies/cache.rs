//! What was resolved before, by what it was resolved from.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Outcomes that are kept, the newest.
const KEPT: usize = 16;

/// A folder of outcomes, each a folder named by its key.
pub(super) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The user's (XDG Base Directory Specification).
    pub(super) fn open() -> Result<Self> {
        Self::at(Self::place(|name| std::env::var_os(name))?)
    }

    /// A folder of the user's, and of nobody else's: what is there is deployed.
    fn place(variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
        let set = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let caches = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
        let Some(caches) = caches else {
            bail!("--build keeps what it resolved, and neither HOME nor XDG_CACHE_HOME says where")
        };
        Ok(caches.join("virga").join("dependencies"))
    }

    fn at(folder: PathBuf) -> Result<Self> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
        made.with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// What is there for this key.
    pub(super) fn get(&self, key: &str) -> Option<PathBuf> {
        Some(self.folder.join(key)).filter(|path| path.is_dir())
    }

    /// Fills a place for this key, whole or not at all; what was there is replaced.
    pub(super) fn put(&self, key: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let place = self.folder.join(key);
        let making = self.folder.join(format!(".{key}.{}", std::process::id()));
        let _ = fs::remove_dir_all(&making);
        fs::create_dir(&making).with_context(|| format!("cannot make {}", making.display()))?;
        let made = fill(&making).and_then(|()| {
            let _ = fs::remove_dir_all(&place);
            fs::rename(&making, &place).with_context(|| format!("cannot make {}", place.display()))
        });
        if made.is_err() {
            let _ = fs::remove_dir_all(&making);
        }
        made?;
        self.trim();
        Ok(place)
    }

    /// Removes all but the newest. One that cannot be removed now is next time.
    fn trim(&self) {
        let Ok(items) = fs::read_dir(&self.folder) else { return };
        let mut items: Vec<_> = items
            .flatten()
            .filter_map(|item| Some((item.metadata().ok()?.modified().ok()?, item.path())))
            .collect();
        items.sort();
        let surplus = items.len().saturating_sub(KEPT);
        for (_, path) in items.into_iter().take(surplus) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_the_users_or_none() {
        let place = |cache: Option<&str>, home: Option<&str>| {
            let find = |name: &str| if name == "HOME" { home } else { cache }.map(OsString::from);
            Cache::place(find).ok().map(|path| path.to_str().unwrap().to_owned())
        };
        assert_eq!(place(Some("/c"), Some("/h")).as_deref(), Some("/c/virga/dependencies"));
        assert_eq!(place(Some("c"), Some("/h")).as_deref(), Some("/h/.cache/virga/dependencies"));
        assert_eq!(place(Some(""), Some("")), None);
        assert_eq!(place(None, None), None, "never a folder that others write to");
    }

    #[test]
    fn whole_or_not_at_all_and_not_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path().join("a/b")).unwrap();
        assert_eq!(cache.get("k"), None);
        let failed = cache.put("k", |place| {
            fs::write(place.join("half"), "").unwrap();
            anyhow::bail!("broken off")
        });
        assert!(failed.is_err() && cache.get("k").is_none());
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), 0);
        for number in 0..KEPT + 5 {
            let fill = |place: &Path| Ok(fs::write(place.join("x"), number.to_string())?);
            cache.put(&format!("k{number}"), fill).unwrap();
        }
        assert!(cache.get("k0").is_none());
        let newest = cache.get(&format!("k{}", KEPT + 4)).unwrap();
        assert_eq!(fs::read_to_string(newest.join("x")).unwrap(), (KEPT + 4).to_string());
        assert_eq!(fs::read_dir(dir.path().join("a/b")).unwrap().count(), KEPT);
    }
}
