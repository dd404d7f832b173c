//! What resolves a folder's dependencies, by language.

use std::path::Path;

use anyhow::{Result, bail};

use crate::detect::Family;

/// Certificates of the host, for package managers that bring a list of their own.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How a folder's dependencies come about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recipe {
    /// The program that runs the steps: name and text.
    pub(super) builder: (&'static str, &'static str),
    /// Its `Handler`.
    pub(super) handler: &'static str,
    /// Files of the folder that say what is wanted, all of them there.
    pub(super) files: Vec<&'static str>,
    /// Command lines, run one after the other. `{interpreter}` is the runtime's.
    pub(super) steps: Vec<Vec<&'static str>>,
    /// Their environment beside the sandbox's.
    pub(super) env: Vec<(&'static str, &'static str)>,
    /// Arguments of tar for what they have made.
    pub(super) collect: &'static [&'static str],
    /// Folder of the package that what they make replaces; empty: only files of the same name.
    pub(super) replaces: &'static str,
    /// Whether the files say exactly what is wanted, so that the outcome holds for good.
    pub(super) locked: bool,
}

/// The recipe of a folder.
pub(super) fn of(folder: &Path, family: Family) -> Result<Recipe> {
    let there = |name: &&str| folder.join(name).is_file();
    let need = |names: &[&'static str], how: &str| match names.iter().find(|name| !there(name)) {
        Some(missing) => bail!("--build: {} has no {missing}{how}", folder.display()),
        None => Ok(names.to_vec()),
    };
    let mut recipe = match family {
        Family::Python => python(need(&["requirements.txt"], ": list the packages there")?, folder),
        Family::Node => {
            let lock =
                if there(&"npm-shrinkwrap.json") { "npm-shrinkwrap.json" } else { "package-lock.json" };
            node(need(&["package.json", lock], ": npm install --package-lock-only writes it")?)
        }
        Family::Php => {
            php(need(&["composer.json", "composer.lock"], ": composer update --no-install writes it")?)
        }
        Family::Ruby => ruby(need(&["Gemfile", "Gemfile.lock"], ": bundle lock writes it")?),
        Family::Java | Family::Provided | Family::Wasm | Family::Static => {
            bail!("--build resolves what Python, Node, PHP and Ruby list; {} has none", folder.display())
        }
    };
    // Where packages come from and with which credentials, where the project says so itself.
    let own: &[&'static str] = match family {
        Family::Node => &[".npmrc"],
        Family::Php => &["auth.json"],
        _ => &[],
    };
    recipe.files.extend(own.iter().filter(|name| there(name)));
    Ok(recipe)
}

fn python(files: Vec<&'static str>, folder: &Path) -> Recipe {
    let text = std::fs::read_to_string(folder.join(files[0])).unwrap_or_default();
    Recipe {
        builder: ("virga_build.py", include_str!("builders/virga_build.py")),
        handler: "virga_build.handler",
        files,
        steps: vec![
            "{interpreter} -m pip install --no-input --no-compile --no-cache-dir --disable-pip-version-check \
             --target made -r requirements.txt"
                .split_whitespace()
                .collect(),
        ],
        env: vec![("PIP_CERT", CERTIFICATES), ("PIP_ROOT_USER_ACTION", "ignore")],
        collect: &["-C", "made", "."],
        replaces: "",
        locked: is_pinned(&text),
    }
}

/// Whether every line of a requirements file names one version and nothing leads out of the file (pip: requirements file
/// format).
fn is_pinned(text: &str) -> bool {
    let text = text.replace("\\\n", " ");
    let lines = text.lines().map(|line| line.split(" #").next().unwrap_or_default().trim());
    let mut wanted = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    wanted.all(|line| {
        // What follows is when it is wanted, not which.
        let named = line.split(';').next().unwrap_or_default();
        !line.starts_with('-') && named.contains("==") && !named.contains(".*")
    })
}

fn node(files: Vec<&'static str>) -> Recipe {
    Recipe {
        builder: ("virga_build.cjs", include_str!("builders/virga_build.cjs")),
        handler: "virga_build.handler",
        files,
        steps: vec![
            "npm ci --omit=dev --no-audit --no-fund --no-update-notifier".split_whitespace().collect(),
            // npm makes none where nothing is wanted.
            vec!["mkdir", "-p", "node_modules"],
        ],
        env: vec![("NODE_EXTRA_CA_CERTS", CERTIFICATES)],
        collect: &["node_modules"],
        replaces: "node_modules",
        locked: true,
    }
}

fn php(files: Vec<&'static str>) -> Recipe {
    Recipe {
        builder: ("virga_build.php", include_str!("builders/virga_build.php")),
        handler: "virga_build.php",
        files,
        steps: vec![
            // The project's own scripts want the project, which is not there.
            "composer install --no-dev --no-scripts --no-interaction --no-progress --prefer-dist"
                .split_whitespace()
                .collect(),
        ],
        env: vec![("COMPOSER_CAFILE", CERTIFICATES), ("COMPOSER_ALLOW_SUPERUSER", "1")],
        collect: &["vendor"],
        replaces: "vendor",
        locked: true,
    }
}

fn ruby(files: Vec<&'static str>) -> Recipe {
    Recipe {
        builder: ("virga_build.rb", include_str!("builders/virga_build.rb")),
        handler: "virga_build.handler",
        files,
        steps: vec![vec!["bundle", "install"], vec!["mkdir", "-p", "vendor/bundle"]],
        env: vec![
            ("BUNDLE_PATH", "vendor/bundle"),
            ("BUNDLE_FROZEN", "true"),
            ("BUNDLE_WITHOUT", "development:test"),
            ("SSL_CERT_FILE", CERTIFICATES),
        ],
        collect: &["vendor/bundle"],
        replaces: "vendor/bundle",
        locked: true,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn pinned_is_what_names_one_version_of_everything() {
        for (text, pinned) in [
            ("", true),
            ("# none\n\nsix==1.16.0 # why\nflask[async] == 3.1.3 ; python_version > '3'\n", true),
            ("six==1.16.0 \\\n  --hash=sha256:00\n", true),
            ("six\n", false),
            ("six ; python_version == '3.11'\n", false),
            ("six==1.16.0 ; python_version == '3.*'\n", true),
            ("six>=1\n", false),
            ("six==1.*\n", false),
            ("-r other.txt\n", false),
            ("-e .\n", false),
            ("./local.whl\n", false),
        ] {
            assert_eq!(is_pinned(text), pinned, "{text:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = |family| of(dir.path(), family).unwrap_err().to_string();
        assert!(error(Family::Python).contains("has no requirements.txt"));
        fs::write(dir.path().join("package.json"), "{}").unwrap();
        assert!(error(Family::Node).contains("has no package-lock.json: npm install"));
        assert!(error(Family::Wasm).contains("has none"));
        fs::write(dir.path().join("npm-shrinkwrap.json"), "{}").unwrap();
        fs::write(dir.path().join(".npmrc"), "").unwrap();
        let found = of(dir.path(), Family::Node).unwrap();
        assert_eq!(found.files, ["package.json", "npm-shrinkwrap.json", ".npmrc"]);
    }
}
