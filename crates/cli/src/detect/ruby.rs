//! Ruby: event handlers, Rack applications and scripts that serve.

use std::path::Path;

use anyhow::Result;

use super::{Contract, Detected, Family, Known, begins_a_line, entry, first_of, installed_hint, only, read};
use crate::package::Files;

pub(super) fn entry_file(names: &[String]) -> Option<String> {
    first_of(
        names,
        &["config.ru", "lambda_function.rb", "handler.rb", "app.rb", "main.rb", "index.rb", "server.rb"],
    )
    .or_else(|| only(names, &[".rb"]))
}

/// Ruby: a `config.ru` makes a Rack application, a method called handler or lambda_handler an event handler, Sinatra
/// or a listening socket a web server.
pub(super) fn detect(path: &Path, name: &str, files: Files, known: &Known) -> Result<Detected> {
    let text = read(path)?;
    let hints = installed_hint(
        &files,
        "Gemfile",
        "gem ",
        "vendor/bundle",
        "BUNDLE_PATH=vendor/bundle bundle install --gemfile",
    );
    if name.ends_with(".ru") {
        let contract = known.contract.unwrap_or(Contract::Http);
        return Ok(Detected { family: Family::Ruby, handler: name.to_owned(), contract, files, hints });
    }
    let serves = ["require 'sinatra'", "require \"sinatra\"", "TCPServer", "WEBrick", "Rack::Handler"];
    let function = ["lambda_handler", "handler"].into_iter();
    let mut function = function.filter(|function| begins_a_line(&text, &format!("def {function}(event")));
    let module = name.trim_end_matches(".rb");
    let function = function.next().map(|function| format!("{module}.{function}"));
    let (handler, contract) = entry(&text, &serves, known, name, function)?;
    Ok(Detected { family: Family::Ruby, handler, contract, files, hints })
}
