//! wip
mod adapt;
mod engine;
mod inspect;
mod package;
mod settings;
mod ticker;
pub use adapt::componentize;
pub use settings::Settings;
