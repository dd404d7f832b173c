//! What a failed handshake failed of.

use std::io;

use rustls::Error;

/// What an error of [`Client::connect`](crate::Client::connect) is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The other side's certificate: nobody vouches for it, another name, its time …
    Certificate(String),
    /// The other side says that it will not, by this alert.
    Refused {
        /// Its number in the protocol.
        alert: u8,
        /// Its name there.
        name: String,
    },
    /// What the other side speaks is not TLS, or none that both know.
    Protocol(String),
    /// The host is no name that a certificate could have.
    Name,
    /// The connection beneath.
    Connection,
}

impl Cause {
    /// What the error is about.
    pub fn of(error: &io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            Some(error @ (Error::InvalidCertificate(_) | Error::NoCertificatesPresented)) => {
                Self::Certificate(error.to_string())
            }
            Some(Error::AlertReceived(alert)) => {
                Self::Refused { alert: u8::from(*alert), name: format!("{alert:?}") }
            }
            Some(error) => Self::Protocol(error.to_string()),
            None if error.kind() == io::ErrorKind::InvalidInput && error.raw_os_error().is_none() => {
                Self::Name
            }
            None => Self::Connection,
        }
    }
}
