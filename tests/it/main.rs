//! The service as its callers see it: the real server on a free port, generated clients, a real database.

mod channels;
mod conditions;
mod content;
mod contract;
mod customers;
mod engagements;
mod execute;
mod failures;
mod layers;
mod main_job;
mod programs;
mod progress;
mod requests;
mod runs;
mod runs_hold;
mod scale;
mod stages;
mod support;
mod tick;
mod timelines;
mod timelines_live;
mod timelines_refused;
mod zones;
