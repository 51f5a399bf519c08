//! From a draft to a flow that can run: finds its modules, wires it, and attaches its source. The API and the commands on
//! local files share it; they differ in where they find a module.

use std::{collections::BTreeMap, sync::Arc};

use flow::{Diagnostic, Digest, Draft, Flow, FlowSource, Maximum, ModuleInfo, Values, draft::MissingModule};

use crate::{InspectedModule, turns};

/// The maximum size of the descriptions of a flow's modules together, in bytes: about a hundred modules of a hundred kilobytes. A module
/// describes itself in up to three mebibytes, and each name that the flow gives it counts.
pub(crate) const MAX_DESCRIPTION_BYTES: usize = 16 << 20;

/// A wired flow.
pub struct WiredFlow {
    /// The flow, without its source.
    pub flow: Flow,
    /// What its author should look at.
    pub warnings: Vec<Diagnostic>,
    /// The digests of its modules, by the names that the file gives them.
    pub modules: BTreeMap<String, Digest>,
}

impl WiredFlow {
    /// Attaches the text of the flow file, so that a run of the flow can be edited.
    #[must_use]
    pub fn with_source(self, text: &str) -> Flow {
        let source = FlowSource { text: text.into(), modules: self.modules, edits: Vec::new() };
        Flow { origin: Some(Arc::new(source)), ..self.flow }
    }
}

/// Finds the modules of a draft with `find`, wires it, checks it against the maximum, and gives it the limits of its runs. An
/// error in one step hides no error in the next: `find` returns the reason why a module is not available, and wiring reports
/// it together with its own diagnostics. Limits are checked last, once the flow is wired.
///
/// # Errors
/// All diagnostics of the draft, if one of them is an error.
pub async fn wire_draft<Inspect>(
    draft: Arc<Draft>,
    inputs: &Values,
    maximum: &Maximum,
    find: impl Fn(String) -> Inspect,
) -> Result<WiredFlow, Vec<Diagnostic>>
where
    Inspect: Future<Output = Result<InspectedModule, MissingModule>>,
{
    let namespace = draft.namespace();
    // While this flow waits for its turn at wiring, the descriptions of its modules are in memory.
    let _prepared = turns::for_preparation(namespace.clone()).await;
    let FoundModules { modules, missing } = find_modules(&draft, find).await;
    let (inputs, maximum) = (inputs.clone(), *maximum);
    turns::in_turn(namespace, move || {
        // A draft of many tasks takes long to be copied.
        let mut draft = Arc::unwrap_or_clone(draft);
        for (alias, reason) in missing {
            if let Some(reference) = draft.modules.get_mut(&alias) {
                reference.missing = Some(reason);
            }
        }
        let (flow, warnings) = flow::wire(&draft, &modules, &inputs)?;
        let exceeded = flow::check_limits(&draft, &flow, &maximum);
        if !exceeded.is_empty() {
            return Err(warnings.into_iter().chain(exceeded).collect());
        }
        let modules = modules.into_iter().map(|(alias, module)| (alias, module.digest)).collect();
        let flow = Flow { limits: maximum.run, ..flow };
        Ok(WiredFlow { flow, warnings, modules })
    })
    .await
}

/// The modules of a draft, by the names that it gives them.
struct FoundModules {
    modules: BTreeMap<String, ModuleInfo>,
    /// Why the others are not available.
    missing: BTreeMap<String, MissingModule>,
}

/// Finds the modules of a draft, each reference once.
async fn find_modules<Inspect>(draft: &Draft, find: impl Fn(String) -> Inspect) -> FoundModules
where
    Inspect: Future<Output = Result<InspectedModule, MissingModule>>,
{
    let (mut modules, mut missing) = (BTreeMap::new(), BTreeMap::new());
    let mut found = BTreeMap::<String, Result<ModuleInfo, MissingModule>>::new();
    let mut bytes = 0;
    // The diagnostics of the file already report an empty reference, and wiring reports too many modules.
    let references = draft.modules.iter().filter(|(_, reference)| !reference.text.is_empty());
    for (alias, reference) in references.take(flow::MAX_MODULES) {
        let known = match found.get(&reference.text) {
            Some(known) => known.clone(),
            None => {
                let module = find(reference.text.clone()).await;
                let module = module.map(|found| ModuleInfo { digest: found.digest, content: found.content });
                found.insert(reference.text.clone(), module.clone());
                module
            }
        };
        match known {
            Ok(module) => {
                bytes += module.content.description_size();
                if bytes > MAX_DESCRIPTION_BYTES {
                    missing.insert(alias.clone(), too_large_descriptions());
                    break;
                }
                modules.insert(alias.clone(), module);
            }
            Err(reason) => drop(missing.insert(alias.clone(), reason)),
        }
    }
    FoundModules { modules, missing }
}

fn too_large_descriptions() -> MissingModule {
    MissingModule::Unusable {
        reason: format!(
            "the modules of the flow describe their tasks with more than {MAX_DESCRIPTION_BYTES} bytes together"
        ),
        hint: Some(
            "name each module once, use modules with smaller schemas and descriptions, or divide the flow".into(),
        ),
    }
}

#[cfg(test)]
mod tests;
