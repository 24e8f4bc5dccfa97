//! The shape of a plan: layers, critical path, parallel groups.
