//! Records and workflows as bytes: large payloads go out of line and come back.

use std::borrow::Cow;
use std::sync::Arc;

use super::layout;
use crate::model::{self, BlobHash, Error, Event, Payload, Record, Result, Workflow};

/// A payload that a record carries out of line.
pub(super) type Blob = (BlobHash, Arc<[u8]>);

fn payloads(event: &Event) -> &[Payload] {
    match event {
        Event::Submitted(submitted) => std::slice::from_ref(&submitted.input),
        Event::Grown(growth) => &growth.constants,
        Event::Expanded { items, .. } => std::slice::from_ref(items),
        Event::Completed { outputs, .. } => outputs,
        Event::Steered { message: input, .. } | Event::Merged { input, .. } => {
            std::slice::from_ref(input)
        }
        _ => &[],
    }
}

fn payloads_mut(event: &mut Event) -> &mut [Payload] {
    match event {
        Event::Submitted(submitted) => std::slice::from_mut(&mut submitted.input),
        Event::Grown(growth) => &mut growth.constants,
        Event::Expanded { items, .. } => std::slice::from_mut(items),
        Event::Completed { outputs, .. } => outputs,
        Event::Steered { message: input, .. } | Event::Merged { input, .. } => {
            std::slice::from_mut(input)
        }
        _ => &mut [],
    }
}

/// Long ones, and those that begin like the mark of a blob and could not be told from one.
fn goes_out(payload: &Payload) -> bool {
    match payload {
        Payload::Bytes(bytes) => bytes.len() > layout::INLINE_MAX || bytes.first() == Some(&0),
        Payload::Object(_) | Payload::Blob(_) => false,
    }
}

/// The record as it is written, and the payloads that are written beside it.
pub(super) fn split(record: &Record) -> (Cow<'_, Record>, Vec<Blob>) {
    if !record.events.iter().flat_map(payloads).any(goes_out) {
        return (Cow::Borrowed(record), Vec::new());
    }
    let mut record = record.clone();
    let mut blobs = Vec::new();
    for payload in record.events.iter_mut().flat_map(payloads_mut) {
        if !goes_out(payload) {
            continue;
        }
        let Payload::Bytes(bytes) = payload else { continue };
        let hash = *blake3::hash(bytes).as_bytes();
        let len = u32::try_from(bytes.len()).expect("payload_max is far below 4 GiB");
        blobs.push((hash, Arc::clone(bytes)));
        *payload = Payload::Blob(Box::new(model::Blob { hash, len }));
    }
    (Cow::Owned(record), blobs)
}

/// Puts the payloads back that `split` took out.
pub(super) fn join(
    record: &mut Record,
    mut fetch: impl FnMut(&BlobHash) -> Result<Arc<[u8]>>,
) -> Result<()> {
    for payload in record.events.iter_mut().flat_map(payloads_mut) {
        if let Payload::Blob(blob) = payload {
            *payload = Payload::Bytes(fetch(&blob.hash)?);
        }
    }
    Ok(())
}

/// Appends the record's bytes to `out`.
pub(super) fn write_record(record: &Record, out: &mut Vec<u8>) -> Result<()> {
    rmp_serde::encode::write_named(out, record).map_err(|e| unwritable("a record", &e))
}

/// Appends the workflow's bytes to `out`.
pub(super) fn write_workflow(workflow: &Workflow, out: &mut Vec<u8>) -> Result<()> {
    rmp_serde::encode::write_named(out, workflow).map_err(|e| unwritable("a definition", &e))
}

fn unwritable(what: &str, error: &rmp_serde::encode::Error) -> Error {
    Error::new(
        "store.unwritable",
        format!("cannot write {what} down: {error}"),
        "a live object got past the codec into a durable engine; please report this",
    )
}

pub(super) fn read_record(body: &[u8]) -> Result<Record, rmp_serde::decode::Error> {
    rmp_serde::from_slice(body)
}

pub(super) fn read_workflow(body: &[u8]) -> Result<Workflow, rmp_serde::decode::Error> {
    rmp_serde::from_slice(body)
}
