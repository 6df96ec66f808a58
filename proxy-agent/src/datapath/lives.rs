//! How long flows live, changed while programs run.

use std::sync::Arc;

use super::config;
use super::error::DatapathError;
use super::options::FlowLives;
use super::tables::Tables;

/// Changes the lives of flows; a clone can do so on another thread.
#[derive(Clone, Debug)]
pub struct Lives(pub(super) Arc<Tables>);

impl Lives {
    /// From now on flows live so long, those that are there too.
    pub fn set(&self, lives: FlowLives) -> Result<(), DatapathError> {
        let mut config = self.0.config.get(&0)?.unwrap_or_default();
        config::set_lives(&mut config, lives);
        Ok(self.0.config.put(&0, &config)?)
    }
}
