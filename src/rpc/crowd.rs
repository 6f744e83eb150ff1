//! What is said to callers who ask too much: all of them together, or one of them. Neither is kept waiting; both learn when to come
//! again.

use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::error::details::{info, unavailable};
use crate::domain::Rate;

/// A call that is not begun because too many are under way on this server.
pub fn too_busy(most: usize) -> Status {
    let text =
        format!("this server has {most} calls under way, the most it takes: call again in a moment, or another server");
    unavailable("SERVER_BUSY", &text, &[])
}

/// A watch of health that is not begun because there are too many on this server.
pub fn too_many_watches(most: usize) -> Status {
    let text = format!(
        "this server has {most} watches of its health open, the most it takes: check it in place of watching it"
    );
    let details = info("TOO_MANY_WATCHES", &[]);
    Status::with_error_details(Code::ResourceExhausted, text, details)
}

/// A call that is not begun because its caller calls too often.
pub fn too_often(rate: Rate, wait: Duration) -> Status {
    let text = format!(
        "at most {rate} calls of one caller are taken: call again in {} ms",
        wait.as_millis().max(1)
    );
    let mut details = info("CALLER_TOO_OFTEN", &[("rate", rate.to_string())]);
    details.set_retry_info(Some(wait));
    Status::with_error_details(Code::ResourceExhausted, text, details)
}
