//! The service on a real store, with a back end that does what its handlers' names say.

#![cfg(test)]

mod aliases;
mod asynchronous;
mod calls;
mod domains;
mod fake;
mod http_calls;
mod keep_alive;
mod layers;
mod lifecycle;
mod limits;
mod packages;
mod phases;
mod queues;
mod remembering;
mod reserving;
mod restoring;
mod scaling;
mod sealed_events;
mod secrets;
mod signing;
mod streaming;
mod versions;
mod world;
mod zips;
