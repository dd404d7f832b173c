//! What a deployment reserves and keeps ready.

use std::time::{Duration, Instant};

use anyhow::Result;
use http::Method;
use serde_json::{Value, json};

use super::{Args, PATIENCE, Reserved};
use crate::client::Client;
use crate::commands::{function_path, segment, text};
use crate::failure::Failure;
use crate::output::Progress;

/// A version that instances are kept ready of.
pub(super) struct Kept {
    pub(super) version: String,
    pub(super) instances: u32,
}

/// Does what the flags say; nothing without them.
pub(super) async fn set(
    client: &Client,
    name: &str,
    args: &Args,
    progress: &Progress,
) -> Result<Option<Kept>> {
    if let Some(reserved) = args.reserved {
        reserve(client, name, reserved).await?;
    }
    match args.provisioned {
        Some(instances) => provision(client, name, instances, progress).await.map(Some),
        None => Ok(None),
    }
}

async fn reserve(client: &Client, name: &str, reserved: Reserved) -> Result<()> {
    let path = format!("/2017-10-31/functions/{}/concurrency", segment(name));
    let (method, body) = match reserved {
        Reserved::Calls(calls) => (Method::PUT, Some(json!({ "ReservedConcurrentExecutions": calls }))),
        Reserved::Nothing => (Method::DELETE, None),
    };
    client.lambda(method, &path, body.as_ref()).await.map(drop)
}

/// Moves what is kept ready to what was just deployed. The older versions let go first, so that there is room.
async fn provision(client: &Client, name: &str, instances: u32, progress: &Progress) -> Result<Kept> {
    let published = client.lambda(Method::POST, &function_path(name, "/versions"), Some(&json!({}))).await?;
    let version = text(&published, "Version").to_owned();
    for other in provisioned(client, name).await?.iter().filter(|other| **other != version) {
        client.lambda(Method::DELETE, &path(name, other), None).await?;
    }
    let body = json!({ "ProvisionedConcurrentExecutions": instances });
    client.lambda(Method::PUT, &path(name, &version), Some(&body)).await?;
    progress.step(format!("waiting for {instances} of {name}:{version}"));
    wait(client, name, &version).await?;
    Ok(Kept { version, instances })
}

/// Versions that instances are kept ready of.
async fn provisioned(client: &Client, name: &str) -> Result<Vec<String>> {
    let (mut found, mut marker) = (Vec::new(), String::new());
    loop {
        let path = format!(
            "/2019-09-30/functions/{}/provisioned-concurrency?List=ALL&Marker={marker}",
            segment(name)
        );
        let page = client.lambda(Method::GET, &path, None).await?;
        let configs = page["ProvisionedConcurrencyConfigs"].as_array();
        let arns = configs.into_iter().flatten().map(|config| text(config, "FunctionArn"));
        found.extend(arns.filter_map(|arn| arn.rsplit(':').next()).map(str::to_owned));
        match page["NextMarker"].as_str() {
            Some(next) => marker = segment(next),
            None => return Ok(found),
        }
    }
}

async fn wait(client: &Client, name: &str, version: &str) -> Result<Value> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(10);
    loop {
        let now = client.lambda(Method::GET, &path(name, version), None).await?;
        let reason = match text(&now, "Status") {
            "READY" => return Ok(now),
            "FAILED" => text(&now, "StatusReason").to_owned(),
            _ if started.elapsed() > PATIENCE => format!("not after {} s", PATIENCE.as_secs()),
            _ => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(500));
                continue;
            }
        };
        return Err(Failure::Function(format!("{name}:{version} is not kept ready: {reason}")).into());
    }
}

fn path(name: &str, version: &str) -> String {
    let (name, version) = (segment(name), segment(version));
    format!("/2019-09-30/functions/{name}/provisioned-concurrency?Qualifier={version}")
}
