//! The service as its callers see it: the real server on a free port, generated clients, a real database.

mod channels;
mod main_job;
mod progress;
mod runs;
mod runs_hold;
mod support;
mod zones;
