//! The engine: one for all functions, with a pool of places for instances.
//!
//! The settings are chosen for many short calls: a fresh instance takes a place that was used before by the
//! same code, whose pages are put back from the compiled image instead of being mapped anew.

use std::sync::Arc;

use sandbox::Error;
use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
};

use crate::host::{Guest, linker};
use crate::ticker::Ticker;

/// Tables that a place brings along: a component made from C or Rust has three or four.
const TABLES_PER_INSTANCE: u32 = 4;
/// Elements of a table at most: large Go and C# programs have tens of thousands of function pointers.
const TABLE_ELEMENTS: usize = 1 << 17;
/// Bytes of a memory or table that are put back by copying instead of by a system call and page faults.
/// Only pages that were written count, where the kernel can say which (`PAGEMAP_SCAN`, Linux 6.7).
const KEEP_RESIDENT: usize = 128 << 10;
/// Bytes of stack for guest and host calls together; wasm itself may use half.
const STACK: usize = 1 << 20;
/// Places that keep the pages of the code last run in them, unused. The pool shares them out among as many parts as
/// there are cores, and a function is called on all of them: fewer than functions times cores, and a mix of
/// functions maps memory anew at every call. With [`KEEP_RESIDENT`] they hold 128 MiB at most, and that only if so
/// many different functions were called and each wrote that much.
const WARM_PLACES: u32 = 1024;
/// Instances of a component's inner modules, memories and tables, at most.
pub(crate) const MAX_INNER: u32 = 64;

/// What all instances of a process share.
pub(crate) struct Host {
    pub(crate) engine: Engine,
    pub(crate) ticker: Ticker,
    /// Free places of the pool: calls queue here, since a pool that is used up fails.
    pub(crate) places: Arc<Semaphore>,
}

impl Host {
    /// Reserves the pool's address space. Blocks for a few milliseconds. With the linker for its programs and the
    /// pool's size.
    pub(crate) fn start(max_instances: u32) -> Result<(Self, Linker<Guest>, u32), Error> {
        let Pool { engine, places } = Pool::reserve(max_instances)?;
        let linker = linker(&engine)
            .map_err(|error| Error::Unavailable(format!("WASI cannot be linked: {error:#}")))?;
        let ticker = Ticker::start(engine.clone()).map_err(Error::host("starting the epoch thread"))?;
        let host = Self { engine, ticker, places: Arc::new(Semaphore::new(places as usize)) };
        Ok((host, linker, places))
    }
}

/// The engine and how many memories fit into its pool.
pub(crate) struct Pool {
    pub(crate) engine: Engine,
    pub(crate) places: u32,
}

impl Pool {
    /// Reserves the address space. Where the host has less than asked for (a limit on virtual memory), the
    /// pool is halved until it fits.
    pub(crate) fn reserve(wanted: u32) -> Result<Self, Error> {
        let mut places = wanted.max(1);
        loop {
            match Engine::new(&config(places)) {
                Ok(engine) => return Ok(Self { engine, places }),
                Err(error) if places <= 4 => {
                    return Err(Error::Unavailable(format!(
                        "WebAssembly cannot run on this host: {error:#}"
                    )));
                }
                Err(error) => {
                    tracing::warn!(
                        places,
                        error = format!("{error:#}"),
                        "no address space for that many WebAssembly instances"
                    );
                    places /= 2;
                }
            }
        }
    }

    /// How many of the pool's places an instance takes.
    pub(crate) fn weight(memories: u32, tables: u32) -> u32 {
        memories.max(tables.div_ceil(TABLES_PER_INSTANCE)).max(1)
    }
}

fn config(places: u32) -> Config {
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pooling(places)))
        .epoch_interruption(true)
        .memory_init_cow(true)
        .async_stack_size(STACK)
        .max_wasm_stack(STACK / 2)
        .async_stack_zeroing(false)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .generate_address_map(false)
        .native_unwind_info(false);
    config
}

fn pooling(places: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(places)
        .total_core_instances(places.saturating_mul(MAX_INNER))
        .total_memories(places)
        .total_tables(places.saturating_mul(TABLES_PER_INSTANCE))
        .total_stacks(places)
        .table_elements(TABLE_ELEMENTS)
        .max_core_instances_per_component(MAX_INNER)
        .max_memories_per_component(MAX_INNER.min(places))
        .max_tables_per_component(MAX_INNER.min(places.saturating_mul(TABLES_PER_INSTANCE)))
        .max_memories_per_module(MAX_INNER)
        .max_tables_per_module(MAX_INNER)
        .max_unused_warm_slots(WARM_PLACES)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        .pagemap_scan(Enabled::Auto);
    pool
}
