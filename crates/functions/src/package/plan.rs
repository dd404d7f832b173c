//! What each entry of an archive would become, before a byte is written.
//!
//! Invariants of a [`Plan`]: every path is relative and made of plain names, no path occurs twice, nothing lies
//! under a path that is not a folder, nothing is of a kind other than file, folder and link, and every
//! link resolves inside the tree, whatever chain of links it goes through.

use std::collections::BTreeMap;

use crate::{Error, limits};

use super::hostile;

/// What an entry becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    /// A folder, mentioned or implied.
    Folder,
    /// A file.
    File {
        /// Index in the archive.
        index: usize,
        /// Whether it has an execute bit.
        executable: bool,
    },
    /// A symbolic link.
    Link {
        /// As in the archive.
        target: String,
    },
}

/// The kinds of entry that Unix modes tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    Folder,
    File,
    Link,
}

/// Everything an archive would become, folders before what is in them.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// By path: plain names joined by slashes.
    nodes: BTreeMap<String, Node>,
    /// Bytes of all paths. One deep path implies a folder a level, so that the entries' number bounds too little.
    path_bytes: usize,
}

/// The kind of an entry by its mode's file type bits and its name.
pub(super) fn kind(name: &str, mode: Option<u32>) -> Result<EntryKind, Error> {
    match mode.unwrap_or(0) & 0o170_000 {
        0o040_000 => Ok(EntryKind::Folder),
        0 | 0o100_000 if name.ends_with('/') => Ok(EntryKind::Folder),
        0 | 0o100_000 => Ok(EntryKind::File),
        0o120_000 => Ok(EntryKind::Link),
        _ => Err(hostile(name, "it is neither a file, a folder nor a link")),
    }
}

/// An entry's name as plain names joined by slashes.
pub(super) fn parse_path(name: &str) -> Result<String, Error> {
    if name.len() > limits::PATH_BYTES {
        return Err(hostile(name, "its path is too long"));
    }
    if name.contains(['\0', '\\']) {
        return Err(hostile(name, "its path holds a NUL or a backslash"));
    }
    if name.starts_with('/') || name.as_bytes().get(1) == Some(&b':') {
        return Err(hostile(name, "its path is absolute"));
    }
    let mut path = String::with_capacity(name.len());
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(hostile(name, "its path leads out of the package")),
            part if part.len() > limits::NAME_BYTES => {
                return Err(hostile(name, "a name in its path is too long"));
            }
            part => push(&mut path, part),
        }
    }
    Ok(path)
}

impl Plan {
    /// Adds an entry and the folders it lies in.
    pub(super) fn add(&mut self, name: &str, path: String, node: Node) -> Result<(), Error> {
        if path.is_empty() {
            return match node {
                Node::Folder => Ok(()),
                _ => Err(hostile(name, "it has no name")),
            };
        }
        match (self.nodes.get(&path), &node) {
            (None, _) => {}
            (Some(Node::Folder), Node::Folder) => return Ok(()),
            (Some(_), _) => return Err(hostile(name, "its path occurs more than once")),
        }
        // From the inside out: where a folder is known, those around it are.
        for (end, _) in path.rmatch_indices('/') {
            match self.nodes.get(&path[..end]) {
                Some(Node::Folder) => break,
                Some(_) => return Err(hostile(name, "it lies under something that is not a folder")),
                None => self.insert(name, path[..end].to_owned(), Node::Folder)?,
            }
        }
        self.insert(name, path, node)
    }

    fn insert(&mut self, name: &str, path: String, node: Node) -> Result<(), Error> {
        self.path_bytes += path.len();
        // Folders that paths imply are nodes too, and deep paths imply many.
        if self.nodes.len() >= 2 * limits::PACKAGE_ENTRIES || self.path_bytes > limits::PACKAGE_PATH_BYTES {
            return Err(hostile(name, "the package has too many entries"));
        }
        self.nodes.insert(path, node);
        Ok(())
    }

    /// Checks what can be checked only once every entry is known: where links lead.
    pub(super) fn check_links(&self) -> Result<(), Error> {
        let mut steps = limits::LINK_STEPS;
        for (path, node) in &self.nodes {
            if let Node::Link { target } = node {
                self.resolve(path, target, &mut steps)?;
            }
        }
        Ok(())
    }

    /// Follows a link the way the kernel would, in as many steps as are left for all links together.
    fn resolve(&self, link: &str, target: &str, steps: &mut usize) -> Result<(), Error> {
        let mut at = link.to_owned();
        pop(&mut at);
        let mut ahead: Vec<&str> = reversed(link, target)?;
        let mut hops = 1;
        while let Some(part) = ahead.pop() {
            *steps = steps.checked_sub(1).ok_or_else(|| hostile(link, "the package's links are too many"))?;
            match part {
                "" | "." => continue,
                ".." if at.is_empty() => return Err(hostile(link, "it links out of the package")),
                ".." => {
                    pop(&mut at);
                    continue;
                }
                part => push(&mut at, part),
            }
            if let Some(Node::Link { target }) = self.nodes.get(&at) {
                hops += 1;
                if hops > limits::LINK_HOPS {
                    return Err(hostile(link, "it is a link that goes through too many links"));
                }
                pop(&mut at);
                ahead.extend(reversed(link, target)?);
            }
        }
        Ok(())
    }

    /// Every path, folders before what is in them.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }
}

/// Goes on to a name.
fn push(path: &mut String, name: &str) {
    if !path.is_empty() {
        path.push('/');
    }
    path.push_str(name);
}

/// Goes back to the folder around.
fn pop(path: &mut String) {
    path.truncate(path.rfind('/').unwrap_or(0));
}

/// A link's target as a stack of names, the first on top.
fn reversed<'a>(link: &str, target: &'a str) -> Result<Vec<&'a str>, Error> {
    if target.is_empty() || target.contains('\0') || target.len() > limits::PATH_BYTES {
        return Err(hostile(link, "its target is no path"));
    }
    if target.starts_with('/') {
        return Err(hostile(link, "it links out of the package"));
    }
    Ok(target.split('/').rev().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(target: &str) -> Node {
        Node::Link { target: target.to_owned() }
    }

    fn plan(entries: &[(&str, Node)]) -> Result<Plan, String> {
        let mut plan = Plan::default();
        let built =
            entries.iter().try_for_each(|(name, node)| plan.add(name, parse_path(name)?, node.clone()));
        built.and_then(|()| plan.check_links()).map_err(|error| error.to_string())?;
        Ok(plan)
    }

    const FILE: Node = Node::File { index: 0, executable: false };

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for bad in ["../x", "a/../../x", "/etc/passwd", "C:/x", "c:\\x", "a\\..\\x", "a\0b", "a/.."] {
            assert!(parse_path(bad).is_err(), "{bad:?}");
        }
        assert!(parse_path(&"n".repeat(256)).is_err());
        assert_eq!(parse_path("./a//b.py").unwrap(), "a/b.py");
    }

    #[test]
    fn clashes_are_refused() {
        assert!(plan(&[("a", FILE), ("./a", FILE)]).unwrap_err().contains("more than once"));
        assert!(plan(&[("a", FILE), ("a/b", FILE)]).unwrap_err().contains("not a folder"));
        assert!(plan(&[("a/b", FILE), ("a", FILE)]).unwrap_err().contains("more than once"));
        assert!(plan(&[("a", link("b")), ("a/b", FILE)]).unwrap_err().contains("not a folder"));
        assert!(plan(&[("a/", Node::Folder), ("a/b", FILE), ("a/", Node::Folder)]).is_ok());
    }

    #[test]
    fn links_stay_inside_whatever_they_go_through() {
        assert!(plan(&[("lib/a.so", link("a.so.1")), ("lib/a.so.1", FILE)]).is_ok());
        assert!(plan(&[("x/y", link("../z")), ("z", FILE)]).is_ok());
        assert!(plan(&[("gone", link("nowhere"))]).is_ok());
        for bad in [
            &[("a", link("/etc"))][..],
            &[("a", link("../x"))],
            &[("x/a", link("../../y"))],
            &[("a", link(""))],
        ] {
            assert!(plan(bad).is_err(), "{bad:?}");
        }
        // Each looks harmless by its text; together they lead out.
        assert!(plan(&[("x/y/d", link("../..")), ("x/y/e", link("d/..")), ("x/y/f", FILE)]).is_err());
        assert!(plan(&[("a", link("b")), ("b", link("a"))]).unwrap_err().contains("too many links"));
    }

    #[test]
    fn deep_paths_and_long_chains_cost_no_more_than_they_may() {
        // A hundred of them would imply a hundred thousand folders with a hundred million bytes of names.
        let deep = |n: usize| (format!("{n}{}", "/a".repeat(1000)), FILE);
        let entries: Vec<_> = (0..100).map(deep).collect();
        let entries: Vec<_> = entries.iter().map(|(name, node)| (name.as_str(), node.clone())).collect();
        let refused = |entries: &[_], why| plan(entries).err().is_some_and(|error| error.contains(why));
        assert!(refused(&entries, "too many entries"));

        // Each goes through forty others by the longest way there is.
        let way = "x/../".repeat(400);
        let entries: Vec<_> = (0..1000).map(|n| (n.to_string(), link(&format!("{way}{}", n + 1)))).collect();
        let mut entries: Vec<_> = entries.iter().map(|(name, node)| (name.as_str(), node.clone())).collect();
        entries.retain(|(name, _)| name.parse::<usize>().is_ok_and(|n| n % 39 != 0));
        assert!(refused(&entries, "links are too many"));
    }

    #[test]
    fn devices_are_refused() {
        assert_eq!(kind("a/", None).unwrap(), EntryKind::Folder);
        assert_eq!(kind("a", Some(0o100_755)).unwrap(), EntryKind::File);
        assert_eq!(kind("a", Some(0o120_777)).unwrap(), EntryKind::Link);
        for mode in [0o020_666, 0o060_666, 0o010_666, 0o140_777] {
            assert!(kind("a", Some(mode)).is_err(), "{mode:o}");
        }
    }
}
