//! What one turn of the agent's loop came to.

use crate::plan::{Plan, Token, Writes};

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Services that were compiled.
    pub services: usize,
    /// Steps that were carried out on the maps.
    pub operations: usize,
    /// Entries of maps that these wrote.
    pub writes: Writes,
    /// Services that stay as they were.
    pub failed: usize,
    /// Things that objects ask for and do not get.
    pub warnings: usize,
    /// If something was taken away: wait for a grace period, then give it to [`super::Reconciler::grace_passed`].
    pub token: Option<Token>,
}

impl Done {
    /// A plan that is carried out, with nothing said of those that failed.
    pub(super) fn of(plan: &Plan) -> Self {
        Self {
            operations: plan.operations.len(),
            writes: plan.operations.iter().map(crate::plan::Operation::writes).sum(),
            token: plan.token,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.services += other.services;
        self.operations += other.operations;
        self.writes += other.writes;
        self.failed += other.failed;
        self.warnings += other.warnings;
        self.token = self.token.max(other.token);
    }
}
