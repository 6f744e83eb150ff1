//! Who may ask. REST itself knows nobody: layers in front of it found out who it is.

use http::Extensions;
use std::fmt::Debug;
use tonic::Status;

/// Says who may ask, by the extensions of his request.
pub trait Gate: Debug + Send + Sync {
    /// Whether he may call the method at this path of gRPC.
    fn method(&self, from: &Extensions, path: &str) -> Result<(), Status>;

    /// Whether he may read the `OpenAPI` document.
    fn document(&self, from: &Extensions) -> Result<(), Status>;
}
