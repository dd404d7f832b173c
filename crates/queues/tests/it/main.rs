//! The queues on a real store, closed and opened at will.

#![cfg(test)]

mod cancelled;
mod crashes;
mod dead_letters;
mod named;
mod receiving;
mod sending;
mod world;
