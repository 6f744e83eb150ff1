//! Who calls, and what he may. It knows of no method's meaning and no database, and decides before any method sees a request.
//!
//! Who it is, is found out once, in front of everything ([`IdentifyLayer`]): by a token of the callers file, by a JWT, or by a
//! verified certificate. What he may is in one table ([`methods`]), which denies what it does not name, and is asked where a method
//! is known: in front of the services ([`PermitLayer`]), and for REST before the body is read. A token goes no further than this
//! module: requests are handed on without it, and nothing of it is in an error, in the log or in `Debug`.

mod caller;
mod callers;
mod guard;
mod jwt;
mod layer;
pub mod methods;
mod peer;
mod refused;
mod role;
mod token;

pub use caller::Caller;
pub use callers::{Callers, CallersError};
pub use guard::{Credentials, Guard, is_known, name_of};
pub use jwt::{FetchedKeys, JwtSettings, JwtVerifier, KeySet, KeySetError, KeySource};
pub use layer::{IdentifyLayer, PermitLayer};
pub use methods::{Methods, MethodsError};
pub use peer::{ClientCertificate, Peer};
pub use refused::Refused;
pub use role::{Role, Roles};
pub use token::digest_of;
