//! Certificates (feature rows O8 and O17): those of the public listener, from files or
//! from an authority of the installation; those of clients, which name devices; and
//! those by which the processes of one installation know each other.
//!
//! Versions 1.2 and 1.3 of TLS only, with the one cryptographic library of the product.
//! This crate opens no connection, and no key leaves it other than sealed.

mod authority;
mod client;
mod error;
mod material;
mod public;
mod replica;
mod setup;

pub use authority::{Authority, Kind};
pub use client::{DeviceCertificate, DeviceNames};
pub use error::TlsError;
pub use material::fingerprint;
pub use public::{Accepted, Change, PublicTls, PublicTlsDeps, Source, Standing};
pub use replica::{ReplicaTls, replica_name};
