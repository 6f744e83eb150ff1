//! Who may ask. REST itself knows nobody: layers in front of it found out who it is.

use http::Extensions;
use std::fmt::Debug;
use tonic::Status;

/// Says who may ask, by the extensions of his request.
pub trait Gate: Debug + Send + Sync {
    /// Whether he may call the method at this path of gRPC.
    fn method(&self, from: &Extensions, path: &str) -> Result<(), Status>;

    /// Whether he is known, as he must be to be told what there is.
    fn known(&self, from: &Extensions) -> Result<(), Status>;
}
