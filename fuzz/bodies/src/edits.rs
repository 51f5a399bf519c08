//! A file of edits: read, applied to the draft of a flow, and made in a run of that flow.

use std::sync::Arc;

use flow::{Draft, Edit, EditedDraft, Flow, Values, file::ParsedEdit};
use machine::Event;

use crate::{
    drive::Run,
    flow_file::with_source,
    modules::{check_diagnostics, modules_of},
};

/// The input is a flow file, a file of edits, and the file that an edit adds.
pub fn run(input: &[u8]) {
    let Some([flow, edits, added]) = crate::parts(input) else { return };
    let parsed = match flow::file::edits(edits) {
        Ok(parsed) => parsed,
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty(), "edits are refused for no reason");
            return check_diagnostics(&diagnostics, edits);
        }
    };
    check_diagnostics(&Edit::read_addition(added).diagnostics, added);
    let edits: Vec<Edit> = parsed.into_iter().map(|edit| with_text(edit, added)).collect();
    let Ok(draft) = flow::file::parse(flow) else { return };
    apply(&edits, draft.clone());
    if let Ok((wired, _)) = flow::wire(&draft, &modules_of(&draft), &Values::new()) {
        edit_run(&edits, wired, flow);
    }
}

fn with_text(edit: ParsedEdit, added: &str) -> Edit {
    match edit {
        ParsedEdit::Add { .. } => Edit::Add { text: added.into() },
        ParsedEdit::Edit(edit) => edit,
    }
}

/// Each edit that can be applied leaves a draft that can be wired or is refused for a reason.
fn apply(edits: &[Edit], mut draft: Draft) {
    for edit in edits {
        assert!(!edit.to_string().is_empty());
        let mut edited = EditedDraft::new(draft);
        let _ = (edit.added_inputs(), edited.apply(edit));
        if let Edit::Add { text } = edit {
            let _ = edited.conflicting_alias(text);
        }
        draft = edited.into_draft();
        if let Err(diagnostics) = flow::wire(&draft, &modules_of(&draft), &Values::new()) {
            assert!(!diagnostics.is_empty(), "a flow is refused for no reason");
            // The spans of an edited draft are those of its first text, which is not shown.
            let _ = flow::render(&diagnostics, "flow.toml", "");
        }
    }
}

/// Makes the edits as a server does, before and after some tasks have run.
fn edit_run(edits: &[Edit], flow: Flow, text: &str) {
    let mut run = Run::new(&with_source(flow, text));
    for _ in 0..2 {
        if let Ok((source, draft)) = run.machine.plan(edits)
            && let Ok((edited, _)) = flow::wire(&draft, &modules_of(&draft), &run.machine.flow().inputs.clone())
            && run.machine.edit_errors(&edited).is_empty()
        {
            let (revision, flow) = (run.machine.revision(), Flow { origin: Some(Arc::new(source)), ..edited });
            run.step(&Event::Edit { revision, flow: Arc::new(flow) });
        }
        run.check();
        run.go_on();
    }
    run.check();
}
