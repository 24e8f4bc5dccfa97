//! Where there are no worker processes: every batch is refused.

use std::sync::Arc;

use pyo3::prelude::*;

use super::super::executor::Core;
use super::super::{batch, failure};
use super::ProcessOptions;
use crate::agent::Batch;
use crate::model::Millis;

pub(in crate::py) struct Pool {
    core: Arc<Core>,
}

impl Pool {
    pub(in crate::py) fn new(core: Arc<Core>, _: ProcessOptions) -> Arc<Self> {
        Arc::new(Self { core })
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
