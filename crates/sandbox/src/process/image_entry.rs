//! What an image is started with: its program looked up as inside, its working directory, its user.
//!
//! The image's files are a stranger's, and links in it mean places inside it: every look-up has the image's root as its
//! root (`openat2`, `RESOLVE_IN_ROOT`).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::environment::IMAGE_PATH;
use crate::{Error, Image};

/// Bytes of `/etc/passwd` and `/etc/group` that are looked at.
const USERS_BYTES: u64 = 1 << 20;

/// Bytes of one name (Linux: NAME_MAX).
const NAME_BYTES: usize = 255;
/// Folders of a `PATH` that are looked into. An image's may be megabytes long, and is gone through before each start.
const PLACES: usize = 1000;

/// How often a look-up is tried that renames elsewhere get in the way of. Each takes some microseconds.
const AGAIN: usize = 1000;

/// The working directory.
pub(crate) fn folder(image: &Image) -> &str {
    if image.working_directory.is_empty() { "/" } else { &image.working_directory }
}

/// The program (absolute, inside) and its arguments. `root` is the image's tree on the host.
pub(crate) fn command(root: &Path, image: &Image) -> Result<Vec<String>, Error> {
    let invalid = |text: String| Err(Error::Invalid(text));
    let Some((name, arguments)) = image.argv.split_first().filter(|(name, _)| !name.is_empty()) else {
        return invalid(
            "the image says no program to start: it has neither entry point nor command, and the function gives none"
                .to_owned(),
        );
    };
    let looking = |error: io::Error| Error::host("looking into an image")(error);
    let tree = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let tree = Tree(tree.map_err(|error| looking(error.into()))?);
    let folder = folder(image);
    if !folder.starts_with('/') {
        return invalid(format!("the working directory {folder} is not an absolute path"));
    }
    if !tree.open(folder).is_some_and(|found| is(&found, |found| found.is_dir())) {
        return invalid(format!("the working directory {folder} is not in the image"));
    }
    user(&tree, &image.user)?;
    let program = find(&tree, name, folder, image)?;
    Ok([program].into_iter().chain(arguments.iter().cloned()).collect())
}

fn find(tree: &Tree, name: &str, folder: &str, image: &Image) -> Result<String, Error> {
    if name.contains('/') {
        let path = if name.starts_with('/') {
            name.to_owned()
        } else {
            format!("{}/{name}", folder.trim_end_matches('/'))
        };
        let problem = match tree.open(&path) {
            None => "is not in the image",
            Some(found) if is(&found, |found| found.is_dir()) => "is a folder of the image, not a program",
            Some(found) if !is_program(&found) => "is not executable in the image",
            Some(_) => return Ok(path),
        };
        return Err(Error::Invalid(format!("the program {path} {problem}")));
    }
    let given = image.env.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_str());
    let search = given.filter(|path| !path.is_empty()).unwrap_or(IMAGE_PATH);
    let places = search.split(':').filter(|place| place.starts_with('/') && name.len() <= NAME_BYTES);
    let places = places.take(PLACES);
    let mut candidates = places.map(|place| format!("{}/{name}", place.trim_end_matches('/')));
    let found = candidates.find(|path| tree.open(path).is_some_and(|found| is_program(&found)));
    // As long as the image says.
    let shown = |text: &str| text.chars().take(1000).collect::<String>();
    found.ok_or_else(|| {
        let (name, search) = (shown(name), shown(search));
        Error::Invalid(format!("the image has no program {name} in its PATH ({search})"))
    })
}

/// User and group that the image's program sees itself as; `None` is the usual one, which stands for root too. Of an
/// image that passed [`command`].
pub(crate) fn shown_as(root: &Path, image: &Image) -> Option<(u32, u32)> {
    let tree =
        rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    user(&Tree(tree), &image.user).ok()?.filter(|(user, _)| *user != 0)
}

/// `USER[:GROUP]` as Docker reads it: names must be in the image, numbers need not; a user without a group has the one
/// that the image's list says, or root's. `None` where the image says nothing.
fn user(tree: &Tree, text: &str) -> Result<Option<(u32, u32)>, Error> {
    let (name, group) = text.split_once(':').map_or((text, ""), |(name, group)| (name, group));
    let unknown = |name: &str, list: &str| {
        Error::Invalid(format!("the image's USER names {name}, which its {list} does not have"))
    };
    let (user, listed) = match (name, number(name)) {
        ("" | "root", _) => (0, 0),
        (_, Some(number)) => {
            let listed = lookup(tree, "/etc/passwd", 2, name).and_then(|fields| fields.get(3)?.parse().ok());
            (number, listed.unwrap_or(0))
        }
        (name, None) => {
            let fields = lookup(tree, "/etc/passwd", 0, name).unwrap_or_default();
            let [user, listed] = [2, 3].map(|at: usize| fields.get(at).and_then(|field| number(field)));
            user.zip(listed).ok_or_else(|| unknown(name, "/etc/passwd"))?
        }
    };
    let group = match (group, number(group)) {
        ("", _) => listed,
        ("root", _) => 0,
        (_, Some(number)) => number,
        (group, None) => {
            let fields = lookup(tree, "/etc/group", 0, group).unwrap_or_default();
            let found = fields.get(2).and_then(|field| number(field));
            found.ok_or_else(|| unknown(group, "/etc/group"))?
        }
    };
    Ok((!text.is_empty()).then_some((user, group)))
}

/// The last number is none that a user can have.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

/// The line of a list of users or groups whose field is this, taken apart.
fn lookup(tree: &Tree, list: &str, field: usize, wanted: &str) -> Option<Vec<String>> {
    let mut text = Vec::new();
    // What cannot be read has no names.
    let _ = tree.read(list)?.take(USERS_BYTES).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>());
    lines.find(|fields| fields.get(field).is_some_and(|found| found == wanted))
}

/// An image's root, opened.
struct Tree(OwnedFd);

impl Tree {
    /// What is at an absolute path inside, for looking at it.
    fn open(&self, path: &str) -> Option<File> {
        self.resolve(path, OFlags::PATH)
    }

    /// A regular file inside, for reading.
    fn read(&self, path: &str) -> Option<File> {
        self.resolve(path, OFlags::RDONLY | OFlags::NONBLOCK)
            .filter(|found| is(found, |found| found.is_file()))
    }

    fn resolve(&self, path: &str, flags: OFlags) -> Option<File> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        // openat2(2): a rename anywhere on the host, while a link's `..` is looked up, has it try again.
        for _ in 0..AGAIN {
            match rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(rustix::io::Errno::AGAIN) => {}
                opened => return opened.ok().map(File::from),
            }
        }
        None
    }
}

fn is(found: &File, what: fn(&std::fs::Metadata) -> bool) -> bool {
    found.metadata().is_ok_and(|found| what(&found))
}

fn is_program(found: &File) -> bool {
    is(found, |found| found.is_file() && found.mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn world() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for folder in ["bin", "usr/local/bin", "app", "etc"] {
            fs::create_dir_all(root.path().join(folder)).unwrap();
        }
        for (file, mode) in
            [("bin/sh", 0o755), ("usr/local/bin/tool", 0o755), ("app/run", 0o755), ("app/data", 0o644)]
        {
            let path = root.path().join(file);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::write(root.path().join("etc/passwd"), "www:x:33:34::/:\n").unwrap();
        fs::write(root.path().join("etc/group"), "staff:x:50:\n").unwrap();
        symlink("/bin/sh", root.path().join("app/shell")).unwrap();
        symlink("../../../../../../../../usr/bin/env", root.path().join("app/out")).unwrap();
        root
    }

    fn check(argv: &[&str], folder: &str, user: &str) -> Result<String, String> {
        let world = world();
        let image = Image {
            argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
            working_directory: folder.to_owned(),
            user: user.to_owned(),
            env: Vec::new(),
        };
        let argv = command(world.path(), &image);
        argv.map(|argv| argv.join(" ")).map_err(|error| error.to_string())
    }

    #[test]
    fn programs_are_found_as_inside() {
        assert_eq!(check(&["tool", "-x"], "", "").as_deref(), Ok("/usr/local/bin/tool -x"));
        assert_eq!(check(&["/bin/sh"], "/app", "").as_deref(), Ok("/bin/sh"));
        assert_eq!(check(&["./run"], "/app/", "").as_deref(), Ok("/app/./run"));
        assert_eq!(check(&["/app/shell"], "", "").as_deref(), Ok("/app/shell"), "a link inside");
    }

    #[test]
    fn renames_elsewhere_do_not_matter() {
        use std::sync::atomic::{AtomicBool, Ordering};

        let (world, other) = (world(), tempfile::tempdir().unwrap());
        symlink(format!("{}bin/sh", "../".repeat(60)), world.path().join("app/up")).unwrap();
        let image = Image {
            argv: vec!["/app/up".to_owned()],
            working_directory: String::new(),
            user: String::new(),
            env: Vec::new(),
        };
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let [one, two] = ["one", "two"].map(|name| other.path().join(name));
                fs::write(&one, "").unwrap();
                while !over.load(Ordering::Relaxed) {
                    fs::rename(&one, &two).unwrap();
                    fs::rename(&two, &one).unwrap();
                }
            });
            let failed = (0..5000).find_map(|_| command(world.path(), &image).err());
            over.store(true, Ordering::Relaxed);
            assert!(failed.is_none(), "{failed:?}");
        });
    }

    #[test]
    fn what_cannot_be_started_is_said() {
        let problem = |argv: &[&str], folder| check(argv, folder, "").unwrap_err();
        assert!(problem(&[], "").contains("neither entry point nor command"));
        assert!(problem(&["none"], "").contains("no program none in its PATH"));
        assert!(problem(&["/app/out"], "").contains("is not in the image"), "the host's is not meant");
        assert!(problem(&["/app/data"], "").contains("is not executable"));
        assert!(problem(&["/app"], "").contains("is a folder"));
        assert!(problem(&["sh"], "/none").contains("the working directory /none is not in the image"));
        assert!(problem(&["sh"], "app").contains("not an absolute path"));
    }

    #[test]
    fn long_search_paths_are_cut_off() {
        let world = world();
        let found = |name: &str, places: usize| {
            let path = format!("{}/bin", "/none:".repeat(places));
            let image = Image {
                argv: vec![name.to_owned()],
                working_directory: String::new(),
                user: String::new(),
                env: vec![("PATH".to_owned(), path)],
            };
            command(world.path(), &image).map_err(|error| error.to_string())
        };
        assert_eq!(found("sh", 999), Ok(vec!["/bin/sh".to_owned()]));
        assert!(found("sh", 1000).unwrap_err().len() < 2000);
        assert!(found(&"n".repeat(2 << 20), 500_000).unwrap_err().contains("has no program"));
    }

    #[test]
    fn users_are_the_images() {
        let world = world();
        let shown = |user: &str| {
            let image = Image {
                argv: vec!["sh".to_owned()],
                working_directory: String::new(),
                user: user.to_owned(),
                env: Vec::new(),
            };
            command(world.path(), &image).map_err(|error| error.to_string())?;
            Ok(shown_as(world.path(), &image))
        };
        for (user, expect) in [
            ("", None),
            ("root", None),
            ("0:5", None),
            ("1000", Some((1000, 0))),
            ("1000:1001", Some((1000, 1001))),
            ("www", Some((33, 34))),
            ("33", Some((33, 34))),
            ("www:staff", Some((33, 50))),
            ("www:root", Some((33, 0))),
        ] {
            assert_eq!(shown(user), Ok(expect), "{user}");
        }
        let problem = |user| -> String { shown(user).unwrap_err() };
        assert!(problem("nobody").contains("USER names nobody"));
        assert!(problem("www:none").contains("/etc/group"));
        assert!(problem("4294967295").contains("/etc/passwd"));
    }
}
