//! Where there are no worker processes: every batch is refused.

use std::sync::Arc;

use pyo3::prelude::*;

use super::super::executor::Core;
use super::super::threads;
use super::super::{batch, failure};
use super::{Counts, ProcessOptions};
use crate::agent::Batch;
use crate::model::Millis;

/// Nothing is posted here.
pub(in crate::py) enum Post {}

/// Nothing is asked here.
pub(in crate::py) enum Errand {}

impl Errand {
    pub(in crate::py) fn run(&self, _: Python<'_>) {
        match *self {}
    }
    pub(in crate::py) fn refuse(&self, _: String) {
        match *self {}
    }
}

pub(in crate::py) struct Pool {
    core: Arc<Core>,
    counts: Counts,
}

impl Pool {
    pub(in crate::py) fn new(core: Arc<Core>, _: ProcessOptions) -> Arc<Self> {
        Arc::new(Self { core, counts: Counts::default() })
    }

    pub(in crate::py) fn counts(&self) -> &Counts {
        &self.counts
    }

    pub(in crate::py) fn deliver_by(&self, _: &Arc<threads::Pool>) {}

    pub(in crate::py) fn collect(&self, _: Python<'_>, post: &Arc<Post>) {
        match **post {}
    }

    pub(in crate::py) fn ship(self: &Arc<Self>, _: Python<'_>, batch: &Arc<Batch>) {
        let message = "worker processes are there on Linux only";
        batch::fail(&self.core, batch, &failure::binding("agent.isolation", message));
    }

    pub(in crate::py) fn cancel(&self, _: &Arc<Batch>, _: crate::agent::Rung) {}

    pub(in crate::py) fn abandon(&self, _: &Arc<Batch>) {}

    pub(in crate::py) fn close(&self, _: Millis) {}
}

pub(in crate::py) fn register(_: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
