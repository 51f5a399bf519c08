//! The recorded attempt: from a server, the logbook of this machine, or a file. Nothing in a file is trusted.

use std::path::Path;

use ::server::{AttemptError, WantedAttempt};
use ::worker::ReplayedHttp;
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use flow::{Action, Attempt as Number, Digest, Firing, NodeName, Outcome, Size, Stored, Value, Values};
use logbook::LoadError;
use protocol::{HttpExchanges, HttpRecord, Job, MAX_ATTEMPT_BYTES, RecordedAttempt};

use crate::{
    arguments::ReplayFlags,
    commands::{
        remote,
        run_location::{LocalRun, RunLocation, locate_to_read},
    },
    exit::CliError,
    input_file, modules, output, output_file,
    settings::Settings,
};

/// The size that the values of an attempt may have together, in bytes. A file has less, but many values may refer to one content.
const MAX_VALUE_BYTES: u64 = 512 << 20;

/// An attempt whose contents are those that it names.
pub(super) struct Attempt {
    pub(super) recorded: RecordedAttempt,
    /// The job with all its values.
    pub(super) job: Job,
    pub(super) module: Bytes,
    pub(super) http: ReplayedHttp,
}

/// Reads the attempt that the flags name.
pub(super) async fn read(settings: &Settings, flags: &ReplayFlags) -> Result<RecordedAttempt, CliError> {
    let Some(task) = &flags.task else { return read_file(Path::new(&flags.run)) };
    let task = NodeName::new(task).map_err(CliError::invalid)?;
    let task = flags.element.map_or_else(|| task.clone(), |element| task.base().element(element));
    let action = if flags.rollback { Action::Rollback } else { Action::Apply };
    match locate_to_read(settings, &flags.run).await? {
        RunLocation::Server(client) => {
            let firing = flags.firing.map(|firing| ("firing", firing.to_string()));
            let attempt = flags.attempt.map(|attempt| ("attempt", attempt.to_string()));
            let query: Vec<_> =
                firing.into_iter().chain(attempt).chain([("call", action.as_str().to_owned())]).collect();
            let bytes = client.attempt(&flags.run, task.as_str(), &query).await.map_err(remote::cli_error)?;
            RecordedAttempt::decode(&bytes).map_err(CliError::unreachable)
        }
        RunLocation::Local(LocalRun { logbook, run }) => {
            let store = modules::open_store_to_read(settings).await?;
            let (firing, attempt) = (flags.firing.map(Firing::new), flags.attempt.map(Number::new));
            let wanted = WantedAttempt { run, task, action, firing, attempt };
            ::server::attempt(&logbook, &*store, &wanted).await.map_err(local_error)
        }
    }
}

/// The error for an attempt that cannot be read on this machine. What is not there is another fault than what cannot be reached.
fn local_error(error: AttemptError) -> CliError {
    let hint = error.hint();
    let error = match error {
        AttemptError::Load(LoadError::Missing { .. })
        | AttemptError::Missing { .. }
        | AttemptError::TooLarge { .. }
        | AttemptError::Deleted { .. } => CliError::invalid(error),
        AttemptError::Load(LoadError::Damaged { .. } | LoadError::Unavailable { .. })
        | AttemptError::Content { .. } => CliError::unreachable(error),
    };
    hint.into_iter().fold(error, CliError::hint)
}

fn read_file(path: &Path) -> Result<RecordedAttempt, CliError> {
    const HINT: &str =
        "write `waft replay RUN TASK`, or name a file that `waft replay RUN TASK --bundle FILE` has written";
    let shown = path.display();
    let bytes = input_file::read(path, MAX_ATTEMPT_BYTES).with_context(|| format!("could not read {shown}"));
    let bytes = bytes.map_err(|error| CliError::invalid(error).hint(HINT))?;
    let decoded = RecordedAttempt::decode(&bytes).with_context(|| format!("{shown} is no recorded attempt"));
    decoded.map_err(|error| CliError::invalid(error).hint(HINT))
}

/// Writes an attempt to a new file that only its owner may read: it has the inputs of the task. A file that exists may have other
/// permissions, and may be something else.
pub(super) fn write(attempt: &RecordedAttempt, path: &Path) -> Result<(), CliError> {
    let bytes = attempt.encode();
    output_file::create(path, &bytes)?;
    let size = Size(bytes.len() as u64);
    output::note!(
        "{} has {size:#}: the module, its inputs and outcome, its lines, and its recorded HTTP exchanges; `waft replay {0}` runs it",
        path.display()
    );
    Ok(())
}

impl Attempt {
    /// Compares all contents with their digests, and loads the values.
    ///
    /// # Errors
    /// What is missing or has other bytes.
    pub(super) fn check(recorded: RecordedAttempt) -> anyhow::Result<Self> {
        let mut job = recorded.job.clone();
        let module = content(&recorded, &job.module, "the module")?;
        check_size_of_values(&job)?;
        load(&recorded, &mut job.inputs)?;
        if let Some((Outcome::Provided(provided), _)) = &mut job.rollback {
            load(&recorded, provided)?;
        }
        let http = match &recorded.log.http {
            Some(HttpRecord::Inline(bytes)) => ReplayedHttp::Recorded(HttpExchanges::decode(bytes)?),
            Some(HttpRecord::Stored { digest, .. }) => {
                let bytes = content(&recorded, digest, "the record of HTTP exchanges")?;
                ReplayedHttp::Recorded(HttpExchanges::decode(bytes)?)
            }
            None if recorded.log.unrecorded.http => ReplayedHttp::Unrecorded,
            None => ReplayedHttp::NotGranted,
        };
        let module = Bytes::copy_from_slice(module);
        Ok(Self { recorded, job, module, http })
    }
}

/// The bytes of a content, which have its digest.
fn content<'a>(recorded: &'a RecordedAttempt, digest: &Digest, what: &str) -> anyhow::Result<&'a [u8]> {
    let bytes = recorded.contents.get(digest).ok_or_else(|| anyhow!("{what} {digest} is not among its contents"))?;
    let actual = store::digest_of(bytes);
    if actual != *digest {
        return Err(anyhow!("{what} {digest} has the bytes of {actual}"));
    }
    Ok(bytes)
}

/// Checks that the values of a job can be in memory. Any number of them may refer to one content, and each is loaded for itself.
///
/// # Errors
/// That they are too large together.
fn check_size_of_values(job: &Job) -> anyhow::Result<()> {
    let provided = job.rollback.iter().filter_map(|(outcome, _)| outcome.provided());
    let values = provided.chain([&job.inputs]).flat_map(Values::values);
    let size = values.map(|value| value.size() as u64).fold(0, u64::saturating_add);
    if size > MAX_VALUE_BYTES {
        let (size, most) = (Size(size), Size(MAX_VALUE_BYTES));
        return Err(anyhow!("the values for the guest have {size:#} together, and a replay loads at most {most}"));
    }
    Ok(())
}

/// Replaces the references of values by what they refer to.
fn load(recorded: &RecordedAttempt, values: &mut Values) -> anyhow::Result<()> {
    for (name, value) in values {
        let Value::Stored(Stored { digest, size, form }) = *value else { continue };
        let bytes = content(recorded, &digest, &format!("the value {name}"))?;
        if bytes.len() as u64 != size {
            return Err(anyhow!("the value {name} has {} bytes, and the reference to it says {size}", bytes.len()));
        }
        *value = store::values::from_bytes(bytes, form).with_context(|| format!("the value {name}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
