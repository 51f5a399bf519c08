//! From a draft to a flow that can run: finds its modules, wires it, and attaches its source. The API and the commands on
//! local files share it; they differ in where they find a module.

use std::{collections::BTreeMap, sync::Arc};

use flow::{Diagnostic, Digest, Draft, Flow, FlowSource, Maximum, ModuleInfo, Values, draft::MissingModule};

use crate::{InspectedModule, turns};

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
    draft: &Draft,
    inputs: &Values,
    maximum: &Maximum,
    find: impl Fn(String) -> Inspect,
) -> Result<WiredFlow, Vec<Diagnostic>>
where
    Inspect: Future<Output = Result<InspectedModule, MissingModule>>,
{
    let (mut draft, mut modules) = (draft.clone(), BTreeMap::new());
    // The diagnostics of the file already report an empty reference.
    for (alias, reference) in draft.modules.iter_mut().filter(|(_, reference)| !reference.text.is_empty()) {
        match find(reference.text.clone()).await {
            Ok(found) => {
                modules.insert(alias.clone(), ModuleInfo { digest: found.digest, content: found.content });
            }
            Err(reason) => reference.missing = Some(reason),
        }
    }
    let (inputs, maximum) = (inputs.clone(), *maximum);
    turns::in_turn(draft.namespace(), move || {
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
