//! Code signing: whose packages a function takes (Lambda: Using code signing to verify code integrity).
//!
//! A *code signing configuration* lists publishers and says what becomes of a package that none of them signed: it is
//! refused (`Enforce`) or let in with a warning (`Warn`). A publisher is a *signing profile*, or one version of it: a name
//! with an Ed25519 key, registered in an account by whoever may (`signer:PutSigningProfile`). The shapes are AWS Signer's,
//! whose place profiles take; signing itself happens where the key is, never here. What a signature covers and how it
//! travels is the `signing` crate's.
//!
//! A package is checked when it is deployed and not later, as in Lambda: a change of a configuration, an expiry or a
//! revocation counts for what is deployed from then on. `decide` is pure; `book` is memory's snapshot of what `tables`
//! keeps; the operations are in `configs` and `profiles`, and `check` reads what lies in a package.

mod book;
mod check;
mod configs;
mod decide;
mod model;
mod profiles;
pub(crate) mod tables;

pub(crate) use book::Book;
pub(crate) use configs::no_images;
pub use model::{
    CodeSigningConfig, CodeSigningConfigChange, CodeSigningConfigView, ProfileVersion, ProfileView,
    PutProfile, Revocation, Signature, Validity, ValidityUnit,
};
