//! Checks on the graph of packages: arrows, homes of heavy crates, banned crates, licences.

use std::path::Path;

use crate::licence;
use crate::metadata::{Metadata, Package};
use crate::rules::Rules;

/// Every problem of the graph.
pub(crate) fn check(rules: &Rules, metadata: &Metadata) -> Vec<String> {
    let mut problems = Vec::new();
    for package in metadata.members() {
        arrows(rules, metadata, package, &mut problems);
        homes(rules, package, &mut problems);
        folder(package, &mut problems);
    }
    for name in rules.arrows.keys() {
        if !metadata.members().any(|package| package.name == *name) {
            problems.push(format!("layers.toml names the crate {name}, which does not exist"));
        }
    }
    for package in metadata.outside() {
        if let Some(why) = rules.banned.get(&package.name) {
            problems.push(format!("{} {} is banned: {why}", package.name, package.version));
        }
        let licence = package.license.as_deref().unwrap_or("");
        if !licence::is_allowed(licence, &rules.licences.allowed) {
            problems
                .push(format!("{} {}: licence `{licence}` is not allowed", package.name, package.version));
        }
    }
    problems
}

fn arrows(rules: &Rules, metadata: &Metadata, package: &Package, problems: &mut Vec<String>) {
    let Some(allowed) = rules.arrows.get(&package.name) else {
        problems.push(format!("the crate {} is not in layers.toml", package.name));
        return;
    };
    for dependency in &package.dependencies {
        let ours = metadata.members().any(|member| member.name == dependency.name);
        let tests = dependency.kind.as_deref() == Some("dev");
        let seen =
            allowed.contains(&dependency.name) || tests && is_below(rules, &dependency.name, &package.name);
        if ours && !seen {
            problems.push(format!("{} may not depend on {}", package.name, dependency.name));
        }
    }
}

/// Whether arrows lead from `above` to `below`. They make no circle, since each is looked at from above only.
fn is_below(rules: &Rules, below: &str, above: &str) -> bool {
    let Some(next) = rules.arrows.get(above) else { return false };
    next.iter().any(|next| next == below || is_below(rules, below, next))
}

fn homes(rules: &Rules, package: &Package, problems: &mut Vec<String>) {
    for dependency in &package.dependencies {
        if let Some(homes) = rules.only.get(&dependency.name)
            && !homes.contains(&package.name)
        {
            let homes =
                if homes.is_empty() { "nobody".to_owned() } else { format!("only {}", homes.join(", ")) };
            problems.push(format!("{} may not depend on {}: {homes} may", package.name, dependency.name));
        }
    }
}

/// Folder name = package name.
fn folder(package: &Package, problems: &mut Vec<String>) {
    let folder = Path::new(&package.manifest_path).parent().and_then(Path::file_name);
    if folder.is_none_or(|folder| folder != package.name.as_str()) {
        problems
            .push(format!("{}: the folder and the package {} differ", package.manifest_path, package.name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::Dependency;

    const RULES: &str = r#"
        confined = []
        [arrows]
        low = []
        high = ["low"]
        top = ["high"]
        [only]
        heavy = ["low"]
        [banned]
        ring = "no"
        [licences]
        allowed = ["MIT"]
        [budgets]
        file_lines = 10
        crate_lines = {}
        [exceptions]
        allow = []
        file_lines = {}
    "#;

    fn package(name: &str, licence: &str, dependencies: &[&str]) -> Package {
        Package {
            id: name.to_owned(),
            name: name.to_owned(),
            version: "1.0.0".to_owned(),
            license: Some(licence.to_owned()),
            manifest_path: format!("/w/crates/{name}/Cargo.toml"),
            dependencies: dependencies
                .iter()
                .map(|text| {
                    let (name, kind) = text.split_once(' ').unwrap_or((text, ""));
                    Dependency { name: name.to_owned(), kind: (!kind.is_empty()).then(|| kind.to_owned()) }
                })
                .collect(),
        }
    }

    fn problems(packages: Vec<Package>, members: &[&str]) -> String {
        let workspace_members = members.iter().map(|name| (*name).to_owned()).collect();
        check(&Rules::parse(RULES).unwrap(), &Metadata { packages, workspace_members }).join("\n")
    }

    #[test]
    fn a_good_graph_has_no_problems() {
        let packages = vec![
            package("low", "MIT", &["heavy"]),
            package("high", "MIT", &["low"]),
            package("top", "MIT", &["high", "low dev"]),
            package("heavy", "MIT", &[]),
        ];
        assert_eq!(problems(packages, &["low", "high", "top"]), "");
    }

    #[test]
    fn each_rule_speaks() {
        let packages = vec![
            package("low", "MIT", &["high dev"]),
            package("high", "MIT", &["heavy"]),
            package("top", "MIT", &["low"]),
            package("stray", "MIT", &[]),
            package("ring", "ISC", &[]),
            package("heavy", "GPL-3.0-only", &[]),
        ];
        let found = problems(packages, &["low", "high", "top", "stray"]);
        for expect in [
            "low may not depend on high",
            "top may not depend on low",
            "high may not depend on heavy: only low may",
            "the crate stray is not in layers.toml",
            "ring 1.0.0 is banned: no",
            "ring 1.0.0: licence `ISC` is not allowed",
            "heavy 1.0.0: licence `GPL-3.0-only` is not allowed",
        ] {
            assert!(found.contains(expect), "{expect} is not in\n{found}");
        }
    }

    #[test]
    fn a_crate_that_is_gone_is_noticed() {
        assert!(problems(vec![package("low", "MIT", &[])], &["low"]).contains("high, which does not exist"));
    }
}
