//! Shunt's agent: one way through it, one folder a stage.
//!
//! `source` (the Kubernetes API, or a folder of manifests) gives a stream of changes; `model` turns Services, EndpointSlices and this Node
//! into service ports with their frontends and chosen backends; `plan` turns the difference between what is desired
//! and what is installed into ordered map operations; `datapath` carries them out. `health`, `metrics` and
//! `serve` tell others how it gets on; `uninstall` takes it off a cluster; `explain` says what becomes of a
//! call, `preview` what manifests would change; `cli` is the command line.

pub mod agent;
pub mod announce;
pub mod cli;
pub mod config;
pub mod datapath;
pub mod explain;
pub mod health;
pub mod health_check;
pub mod log;
pub mod metrics;
pub mod model;
pub mod name;
pub mod plan;
pub mod predecessor;
pub mod preview;
pub mod serve;
pub mod source;
pub mod uninstall;
