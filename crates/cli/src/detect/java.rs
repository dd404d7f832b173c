//! Java: jars and folders of classes, looked into for a handler or a main class. Sources are not compiled.
//!
//! A class file says what its class is called and what it implements; that is all that is read of it, besides the
//! names of the classes that it uses, by which a web server is told. The format is the machine specification's (JVMS §4).

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use zip::ZipArchive;

use super::{Contract, Detected, Family, Known, names};
use crate::package::Files;

/// A larger class is not looked into.
const MAX_CLASS_BYTES: u64 = 4 << 20;
/// Folders within folders.
const MAX_DEPTH: usize = 12;

/// What makes a class an event handler.
const HANDLERS: [&str; 2] = [
    "com/amazonaws/services/lambda/runtime/RequestHandler",
    "com/amazonaws/services/lambda/runtime/RequestStreamHandler",
];

/// What a program with a main class uses that is a web server.
const SERVERS: [&str; 10] = [
    "com/sun/net/httpserver/HttpServer",
    "io/javalin/Javalin",
    "io/micronaut/runtime/Micronaut",
    "io/netty/bootstrap/ServerBootstrap",
    "io/quarkus/runtime/Quarkus",
    "io/undertow/Undertow",
    "io/vertx/core/Vertx",
    "org/eclipse/jetty/server/Server",
    "org/springframework/boot/SpringApplication",
    "spark/Spark",
];

/// Where builds put their jars, in the folder of a project.
const OUTPUTS: [&str; 3] = ["target", "build/libs", "build"];

/// What was read of a package.
#[derive(Debug, Default)]
struct Found {
    /// Classes that implement Lambda's interfaces, by their names in the language.
    handlers: Vec<String>,
    /// `Main-Class` of the manifest.
    main: Option<String>,
    serves: bool,
}

/// A jar.
pub(super) fn jar(path: &Path, name: &str, known: &Known) -> Result<Detected> {
    let mut found = Found::default();
    if known.handler.is_none() || known.contract.is_none() {
        found = read_jar(path).with_context(|| format!("cannot read the jar {}", path.display()))?;
    }
    let whole = Files::Ready(path.to_owned());
    let alone = Files::One { path: path.to_owned(), name: name.to_owned(), executable: false };
    let serves = found.handlers.is_empty() && found.main.is_some() && found.serves && known.handler.is_none();
    let http = known.contract == Some(Contract::Http) || known.contract.is_none() && serves;
    let (handler, contract, files) = match (&known.handler, http) {
        // As `java -jar` has it.
        (None, true) => (name.to_owned(), Contract::Http, alone),
        (Some(handler), true) if handler == name => (handler.clone(), Contract::Http, alone),
        (Some(handler), true) => (handler.clone(), Contract::Http, whole),
        (_, false) => (handler(path, known, found)?, Contract::Lambda, whole),
    };
    Ok(Detected { family: Family::Java, handler, contract, files, hints: Vec::new() })
}

/// A folder: of classes, with `lib/*.jar`, or that a build left its one jar in.
pub(super) fn folder(path: &Path, known: &Known) -> Result<Detected> {
    if let Some(jar) = built(path)? {
        let name = jar.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return self::jar(&jar, &name, known);
    }
    let mut found = Found::default();
    let mut classes = Vec::new();
    collect(path, 0, &mut classes);
    for class in &classes {
        found.read(&fs::read(class).with_context(|| format!("cannot read {}", class.display()))?);
    }
    let jars = jars_in(&path.join("lib"));
    if classes.is_empty() && jars.is_empty() {
        bail!("{} holds Java sources, which are not compiled here: {HOW}", path.display());
    }
    // Those that the package brings, not those of its libraries.
    let jars = if found.handlers.is_empty() { jars } else { Vec::new() };
    for jar in &jars {
        let inside = read_jar(jar).with_context(|| format!("cannot read the jar {}", jar.display()))?;
        found.handlers.extend(inside.handlers);
    }
    let files = Files::Folder(path.to_owned());
    let contract = known.contract.unwrap_or(Contract::Lambda);
    let handler = match (&known.handler, contract) {
        (None, Contract::Http) => bail!("say which main class serves, with --handler package.Class"),
        _ => handler(path, known, found)?,
    };
    Ok(Detected { family: Family::Java, handler, contract, files, hints: Vec::new() })
}

/// What to do with sources.
pub(super) const HOW: &str = "make a jar of them (javac --release 17 -d classes *.java && jar --create --file app.jar -C classes .) \
     and deploy that";

/// Whether a folder without anything else that is known is Java's.
pub(super) fn is_package(path: &Path, names: &[String]) -> bool {
    let ending = |end: &str| names.iter().any(|name| name.ends_with(end));
    let project = ["pom.xml", "build.gradle", "build.gradle.kts"];
    let mut classes = Vec::new();
    ending(".jar")
        || ending(".java")
        || names.iter().any(|name| project.contains(&name.as_str()))
        || [&["lib"][..], &OUTPUTS].concat().iter().any(|folder| !jars_in(&path.join(folder)).is_empty())
        || {
            collect(path, 0, &mut classes);
            !classes.is_empty()
        }
}

/// The one handler.
fn handler(path: &Path, known: &Known, found: Found) -> Result<String> {
    if let Some(handler) = &known.handler {
        return Ok(handler.clone());
    }
    match &found.handlers[..] {
        [one] => Ok(one.clone()),
        [] => {
            let main = found.main.map(|main| {
                format!("; or, if its main class {main} is a web server on $PORT, say --contract http")
            });
            bail!(
                "{} holds no class that implements RequestHandler or RequestStreamHandler: name a method with --handler, \
                 as in package.Class::method{}",
                path.display(),
                main.unwrap_or_default()
            )
        }
        several => bail!("which of {} handles events? Name it with --handler", several.join(", ")),
    }
}

/// The jar in a folder: at its top, else where builds put it.
fn built(path: &Path) -> Result<Option<PathBuf>> {
    let places = [path.to_owned()].into_iter().chain(OUTPUTS.map(|output| path.join(output)));
    for place in places {
        match &jars_in(&place)[..] {
            [] => {}
            [one] => return Ok(Some(one.clone())),
            several => {
                let names: Vec<_> = several.iter().filter_map(|jar| jar.file_name()?.to_str()).collect();
                bail!("{} holds {}: deploy one of them by its path", place.display(), names.join(", "));
            }
        }
    }
    Ok(None)
}

/// Jars that may be run: not those that builds make beside them.
fn jars_in(folder: &Path) -> Vec<PathBuf> {
    let beside = ["-sources.jar", "-javadoc.jar", "-tests.jar", "-plain.jar"];
    let wanted = |name: &String| {
        name.ends_with(".jar")
            && !name.starts_with("original-")
            && !beside.iter().any(|end| name.ends_with(end))
    };
    names(folder).unwrap_or_default().into_iter().filter(wanted).map(|name| folder.join(name)).collect()
}

/// Class files beneath a folder, in order.
fn collect(folder: &Path, depth: usize, into: &mut Vec<PathBuf>) {
    for name in names(folder).unwrap_or_default() {
        let path = folder.join(&name);
        if name.ends_with(".class") {
            into.push(path);
        } else if depth < MAX_DEPTH && path.is_dir() && !path.is_symlink() {
            collect(&path, depth + 1, into);
        }
    }
}

fn read_jar(path: &Path) -> Result<Found> {
    let mut archive = ZipArchive::new(File::open(path)?)?;
    let mut found = Found::default();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index)?;
        let mut bytes = Vec::new();
        let name = entry.name()?.into_owned();
        if name == "META-INF/MANIFEST.MF" {
            entry.by_ref().take(MAX_CLASS_BYTES).read_to_end(&mut bytes)?;
            found.main = main_class(&String::from_utf8_lossy(&bytes));
        } else if name.ends_with(".class")
            && !name.starts_with("META-INF/")
            && entry.size() <= MAX_CLASS_BYTES
        {
            entry.by_ref().take(MAX_CLASS_BYTES).read_to_end(&mut bytes)?;
            found.read(&bytes);
        }
    }
    // Its classes are in a folder of their own, which its own loader knows.
    found.serves |=
        found.main.as_deref().is_some_and(|main| main.starts_with("org.springframework.boot.loader."));
    Ok(found)
}

/// `Main-Class`; long lines go on with a space (JAR specification: Line length).
fn main_class(manifest: &str) -> Option<String> {
    let text = manifest.replace("\r\n", "\n").replace("\n ", "");
    let main = text.lines().find_map(|line| line.strip_prefix("Main-Class:"))?;
    Some(main.trim().to_owned()).filter(|main| !main.is_empty())
}

impl Found {
    /// Takes note of a class. What is no class file is passed over.
    fn read(&mut self, bytes: &[u8]) {
        let Some(class) = Class::parse(bytes) else { return };
        self.serves |= SERVERS.iter().any(|server| class.uses.iter().any(|name| name == server));
        let of_amazon = class.name.starts_with("com/amazonaws/");
        if class.is_concrete
            && !of_amazon
            && class.interfaces.iter().any(|name| HANDLERS.contains(&name.as_str()))
        {
            self.handlers.push(class.name.replace('/', "."));
        }
    }
}

/// What is of interest in a class file.
#[derive(Debug, PartialEq, Eq)]
struct Class {
    name: String,
    interfaces: Vec<String>,
    /// Classes that it names.
    uses: Vec<String>,
    /// Public, and neither an interface nor abstract.
    is_concrete: bool,
}

/// An entry of the constant pool.
enum Constant<'a> {
    Text(&'a [u8]),
    Class(u16),
    Other,
}

impl Class {
    fn parse(bytes: &[u8]) -> Option<Self> {
        const ACC_PUBLIC: u16 = 0x0001;
        const ACC_INTERFACE: u16 = 0x0200;
        const ACC_ABSTRACT: u16 = 0x0400;
        let mut rest = Bytes(bytes);
        if rest.take(4)? != [0xca, 0xfe, 0xba, 0xbe] {
            return None;
        }
        rest.take(4)?;
        let pool = pool(&mut rest)?;
        let text = |index: u16| match pool.get(usize::from(index))? {
            Constant::Text(text) => String::from_utf8(text.to_vec()).ok(),
            _ => None,
        };
        let class = |index: u16| match pool.get(usize::from(index))? {
            Constant::Class(name) => text(*name),
            _ => None,
        };
        let flags = rest.number()?;
        let name = class(rest.number()?)?;
        let _above = rest.number()?;
        let interfaces = (0..rest.number()?).map(|_| class(rest.number()?)).collect::<Option<_>>()?;
        let named = pool.iter().filter_map(|constant| match constant {
            Constant::Class(name) => text(*name),
            _ => None,
        });
        let is_concrete = flags & (ACC_PUBLIC | ACC_INTERFACE | ACC_ABSTRACT) == ACC_PUBLIC;
        Some(Self { name, interfaces, uses: named.collect(), is_concrete })
    }
}

/// The constant pool, by its indices: they begin with one, and long and double take two.
fn pool<'a>(rest: &mut Bytes<'a>) -> Option<Vec<Constant<'a>>> {
    let count = usize::from(rest.number()?);
    let mut pool = vec![Constant::Other];
    while pool.len() < count {
        let tag = rest.take(1)?[0];
        let constant = match tag {
            1 => {
                let length = usize::from(rest.number()?);
                Constant::Text(rest.take(length)?)
            }
            7 => Constant::Class(rest.number()?),
            _ => {
                let size = match tag {
                    3 | 4 | 9..=12 | 17 | 18 => 4,
                    5 | 6 => 8,
                    8 | 16 | 19 | 20 => 2,
                    15 => 3,
                    _ => return None,
                };
                rest.take(size)?;
                Constant::Other
            }
        };
        pool.push(constant);
        if matches!(tag, 5 | 6) {
            pool.push(Constant::Other);
        }
    }
    Some(pool)
}

/// What is left to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        self.take(2).map(|two| u16::from_be_bytes([two[0], two[1]]))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// A class file as small as can be.
    fn class(name: &str, interfaces: &[&str], uses: &[&str], flags: u16) -> Vec<u8> {
        let mut bytes = vec![0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 61];
        let all: Vec<&str> =
            [name].into_iter().chain(interfaces.iter().copied()).chain(uses.iter().copied()).collect();
        // A long first, which takes two places.
        bytes.extend((2 * all.len() as u16 + 3).to_be_bytes());
        bytes.extend([5, 0, 0, 0, 0, 0, 0, 0, 1]);
        for (index, text) in all.iter().enumerate() {
            bytes.push(1);
            bytes.extend((text.len() as u16).to_be_bytes());
            bytes.extend(text.as_bytes());
            bytes.push(7);
            bytes.extend((2 * index as u16 + 3).to_be_bytes());
        }
        for number in [flags, 4, 0, interfaces.len() as u16] {
            bytes.extend(number.to_be_bytes());
        }
        for index in 0..interfaces.len() {
            bytes.extend((2 * (index as u16 + 1) + 4).to_be_bytes());
        }
        bytes.extend([0; 6]);
        bytes
    }

    fn write_jar(path: &Path, main: Option<&str>, classes: &[Vec<u8>]) {
        let mut jar = zip::ZipWriter::new(File::create(path).unwrap());
        let options = zip::write::SimpleFileOptions::default();
        jar.start_file("META-INF/MANIFEST.MF", options).unwrap();
        let main = main.map(|main| format!("Main-Class: {main}\r\n")).unwrap_or_default();
        write!(jar, "Manifest-Version: 1.0\r\n{main}\r\n").unwrap();
        for (index, class) in classes.iter().enumerate() {
            jar.start_file(format!("c{index}.class"), options).unwrap();
            jar.write_all(class).unwrap();
        }
        jar.finish().unwrap();
    }

    fn detected(path: &Path, known: &Known) -> Result<(String, Contract, Files)> {
        let found = super::super::detect(path, known)?;
        assert_eq!(found.family, Family::Java);
        Ok((found.handler, found.contract, found.files))
    }

    #[test]
    fn classes_say_what_they_are() {
        let found = Class::parse(&class("a/B", &[HANDLERS[0]], &["x/Y"], 0x21)).unwrap();
        assert_eq!(
            (found.name.as_str(), found.interfaces, found.is_concrete),
            ("a/B", vec![HANDLERS[0].to_owned()], true)
        );
        assert_eq!(found.uses, ["a/B", HANDLERS[0], "x/Y"]);
        assert_eq!(Class::parse(b"\xca\xfe\xba\xbe"), None);
        let whole = class("a/B", &[], &[], 0x21);
        for length in 0..whole.len() - 6 {
            assert_eq!(Class::parse(&whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn manifests_may_break_a_name() {
        assert_eq!(
            main_class("A: b\r\nMain-Class: com.exa\r\n mple.Main\r\n").as_deref(),
            Some("com.example.Main")
        );
        assert_eq!(main_class("A: b\n"), None);
    }

    #[test]
    fn jars_are_looked_into() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.jar");
        let known = Known::default();
        let handler = || class("com/x/H", &[HANDLERS[1]], &[], 0x21);
        write_jar(&path, Some("com.x.Main"), &[handler(), class("com/x/I", &[HANDLERS[0]], &[], 0x601)]);
        let ready = Files::Ready(path.clone());
        assert_eq!(detected(&path, &known).unwrap(), ("com.x.H".to_owned(), Contract::Lambda, ready.clone()));
        assert_eq!(detected(dir.path(), &known).unwrap().0, "com.x.H", "the only jar of a folder");
        let http = Known { contract: Some(Contract::Http), ..Known::default() };
        let alone = Files::One { path: path.clone(), name: "app.jar".to_owned(), executable: false };
        assert_eq!(detected(&path, &http).unwrap(), ("app.jar".to_owned(), Contract::Http, alone.clone()));
        write_jar(&path, Some("com.x.Main"), &[class("com/x/Main", &[], &[SERVERS[0]], 0x21)]);
        assert_eq!(detected(&path, &known).unwrap(), ("app.jar".to_owned(), Contract::Http, alone));
        let named = Known { handler: Some("com.x.Main::run".to_owned()), ..Known::default() };
        assert_eq!(detected(&path, &named).unwrap(), ("com.x.Main::run".to_owned(), Contract::Lambda, ready));
        let error = |classes: &[Vec<u8>]| {
            write_jar(&path, Some("com.x.Main"), classes);
            format!("{:#}", detected(&path, &Known::default()).unwrap_err())
        };
        assert!(
            error(&[class("com/x/Main", &[], &[], 0x21)]).contains("main class com.x.Main is a web server")
        );
        assert!(error(&[handler(), class("G", &[HANDLERS[0]], &[], 0x21)]).contains("which of com.x.H, G"));
        fs::write(&path, "no zip").unwrap();
        assert!(format!("{:#}", detected(&path, &known).unwrap_err()).contains("cannot read the jar"));
    }

    #[test]
    fn folders_of_classes_and_what_builds_leave() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        write("Hello.java", b"class Hello {}");
        let error = || format!("{:#}", detected(dir.path(), &Known::default()).unwrap_err());
        assert!(error().contains("javac --release 17") && error().contains("not compiled"), "{}", error());
        let source =
            format!("{:#}", detected(&dir.path().join("Hello.java"), &Known::default()).unwrap_err());
        assert!(source.contains("jar --create"), "{source}");
        write("com/x/H.class", &class("com/x/H", &[HANDLERS[0]], &[], 0x21));
        let whole = Files::Folder(dir.path().to_owned());
        let expected = ("com.x.H".to_owned(), Contract::Lambda, whole);
        assert_eq!(detected(dir.path(), &Known::default()).unwrap(), expected);
        fs::create_dir(dir.path().join("target")).unwrap();
        let outputs = tempfile::tempdir().unwrap();
        fs::create_dir(outputs.path().join("target")).unwrap();
        write_jar(&outputs.path().join("target/app.jar"), None, &[class("J", &[HANDLERS[0]], &[], 0x21)]);
        assert_eq!(detected(outputs.path(), &Known::default()).unwrap().0, "J");
        write_jar(&dir.path().join("target/app-1.jar"), None, &[class("J", &[HANDLERS[0]], &[], 0x21)]);
        write_jar(&dir.path().join("target/app-1-sources.jar"), None, &[]);
        let (handler, _, files) = detected(dir.path(), &Known::default()).unwrap();
        assert_eq!((handler.as_str(), files), ("J", Files::Ready(dir.path().join("target/app-1.jar"))));
        write_jar(&dir.path().join("target/app-2.jar"), None, &[]);
        assert!(error().contains("app-1.jar, app-2.jar: deploy one of them"), "{}", error());
    }
}
