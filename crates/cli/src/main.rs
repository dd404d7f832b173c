//! `virga`: the server and the command line for it.
//!
//! Every command but `serve`, `doctor`, `new` and `build` is a client of the API that SDKs use. Exit codes: 0 done, 1 the
//! function (or the server, for `serve`) failed, 2 wrong usage or input, 3 the server cannot be reached or
//! refused.

mod client;
mod commands;
mod dependencies;
mod detect;
mod failure;
mod output;
mod package;
mod settings;
mod trace;

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use client::Client;
use commands::{
    alias, build, delete, deploy, doctor, domain, failed, invoke, layer, list, logs, new, rollback, serve,
    show, sign, signer, versions,
};
use failure::Failure;
use settings::{Connection, Flags};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// An open serverless cloud in one binary
#[derive(Debug, Parser)]
#[command(name = "virga", version, about, max_term_width = 100, arg_required_else_help = true)]
struct Line {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server
    Serve(serve::Args),
    /// Write a function to begin with
    #[command(visible_alias = "init")]
    New(new::Args),
    /// Create or update a function from a file or a folder
    Deploy(deploy::Args),
    /// Make a container image of a folder, without a daemon
    Build(build::Args),
    /// Call a function with an event
    Invoke(invoke::Args),
    /// Look at events of asynchronous calls that were given up, and have them tried again
    Failed(failed::Args),
    /// Show a function's log
    Logs(logs::Args),
    /// List the functions
    List,
    /// Show one function
    Show(show::Args),
    /// List a function's versions
    Versions(versions::Args),
    /// List, set and delete the aliases of a function
    Alias(alias::Args),
    /// Go back to the version before
    Rollback(rollback::Args),
    /// Delete functions
    Delete(delete::Args),
    /// Give functions host names of your own
    Domain(domain::Args),
    /// Publish, list and delete layers: files that functions share
    Layer(layer::Args),
    /// Sign a package where the key is
    Sign(sign::Args),
    /// Make keys and register, list and revoke signing profiles
    Signer(signer::Args),
    /// Check what this host can give to functions
    Doctor,
    /// What the server has this program be, in a sandbox
    #[command(name = server::WASM_WORKER, hide = true)]
    WasmWorker,
}

fn main() -> ExitCode {
    let line = Line::parse();
    let serving = matches!(line.command, Command::Serve(_));
    match run(&line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("virga: {error:#}");
            if serving { ExitCode::FAILURE } else { failure::exit_code(&error) }
        }
    }
}

/// `serve` and a worker make their own runtime, after the launcher was forked; the clients need one thread.
fn run(line: &Line) -> Result<()> {
    match &line.command {
        Command::Serve(args) => serve::run(args, &line.flags.data),
        Command::Doctor => doctor::run(line.flags.json),
        Command::New(args) => new::run(args, line.flags.json),
        Command::WasmWorker => server::wasm_worker(),
        Command::Build(args) => {
            // Without keys nothing is deployed; that is said before anything is built.
            let connection = args.deploys().then(|| Connection::resolve(&line.flags)).transpose()?;
            let client = connection.map(Client::new);
            // It forks: before there is a runtime.
            let confinement = args.confinement()?;
            let runtime = runtime()?;
            let built = build::run(client.as_ref(), args, confinement.as_ref(), line.flags.json);
            let done = runtime.block_on(interruptible(built));
            // A thread that reads from a registry is not waited for.
            runtime.shutdown_background();
            done
        }
        Command::Sign(args) => runtime()?.block_on(sign::run(&line.flags, args)),
        Command::Signer(args) => runtime()?.block_on(signer::run(&line.flags, args)),
        command => {
            let client = Client::new(Connection::resolve(&line.flags)?);
            runtime()?.block_on(ask(&client, command, line.flags.json))
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot make a runtime")
}

/// Ends with the first interrupt, in order: what is dropped takes away what is not finished.
async fn interruptible(work: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::select! {
        // First: it is listened for before anything is made.
        biased;
        _ = tokio::signal::ctrl_c() => {
            Err(Failure::Exit { message: "interrupted".to_owned(), code: 130 }.into())
        }
        done = work => done,
    }
}

async fn ask(client: &Client, command: &Command, json: bool) -> Result<()> {
    match command {
        Command::Deploy(args) => deploy::run(client, args, json).await,
        Command::Invoke(args) => invoke::run(client, args, json).await,
        Command::Failed(args) => failed::run(client, args, json).await,
        Command::Logs(args) => logs::run(client, args, json).await,
        Command::List => list::run(client, json).await,
        Command::Show(args) => show::run(client, args, json).await,
        Command::Versions(args) => versions::run(client, args, json).await,
        Command::Alias(args) => alias::run(client, args, json).await,
        Command::Rollback(args) => rollback::run(client, args, json).await,
        Command::Delete(args) => delete::run(client, args, json).await,
        Command::Domain(args) => domain::run(client, args, json).await,
        Command::Layer(args) => layer::run(client, args, json).await,
        Command::Serve(_)
        | Command::Build(_)
        | Command::New(_)
        | Command::Sign(_)
        | Command::Signer(_)
        | Command::Doctor
        | Command::WasmWorker => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Line::command().debug_assert();
    }
}
