//! Who calls, and what he may. It knows of no method's meaning, no database, and decides before any method sees a request.

mod peer;

pub use peer::{ClientCertificate, Peer};
