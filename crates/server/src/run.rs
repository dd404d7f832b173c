//! One run of the server, from the open data directory to the last instance stopped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use base::{Clock, SystemClock};
use functions::{Bounds, Functions};
use observe::{FunctionMetrics, Logs};
use sandbox::Backend;
use sandbox::process::host::Status;
use sandbox::process::jail::Launcher;
use sandbox::process::{ProcessBackend, Settings};
use sandbox_wasm::WasmBackend;
use store::{Blobs, Store};
use tokio::net::TcpListener;

use crate::admin::{self, Admin};
use crate::data_dir::DataDir;
use crate::identity::{self, Identity};
use crate::signals::Signals;
use crate::{Config, host, tables};
