//! YAML in and out, bounded: documents come from files that people and programs write.

use pyo3::prelude::*;
use serde_json::Value;

use super::errors;
use crate::model::Error;

/// Longest document, bytes.
const SOURCE_BYTES_MAX: usize = 8 << 20;

/// Parses YAML into plain values. Duplicate keys, anchors that explode and deep nesting are refused.
#[pyfunction]
pub(super) fn parse_yaml<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    let value = py.detach(|| read(text)).map_err(|error| errors::raised(py, &error))?;
    let loads = py.import("json")?.getattr("loads")?;
    loads.call1((value.to_string(),))
}

/// Writes plain values, given as JSON, as YAML.
#[pyfunction]
pub(super) fn to_yaml(py: Python<'_>, json: &str) -> PyResult<String> {
    let written = py.detach(|| {
        let value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        serde_saphyr::to_string(&value).map_err(|error| error.to_string())
    });
    written.map_err(|error| {
        let message = format!("the workflow cannot be written as YAML: {error}");
        errors::raised(py, &Error::new("workflow.yaml", message, "write it with to_dict() instead"))
    })
}

fn read(text: &str) -> Result<Value, Error> {
    if text.len() > SOURCE_BYTES_MAX {
        let message =
            format!("the document has {} bytes, and {SOURCE_BYTES_MAX} are allowed", text.len());
        return Err(Error::new("workflow.yaml", message, "pass large values as input"));
    }
    // YAML 1.2: only `true` and `false` are booleans; `y`, `no` and `off` are words.
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let message = format!("the document is no YAML that can be read: {error}");
        Error::new("workflow.yaml", message, "correct the line that it names")
    })
}
