//! A flow file: read, wired, drawn, written again, and run for a few steps.

use std::sync::Arc;

use flow::{Draft, Flow, FlowSource, Limits, Maximum, RetryLimits, RunLimits, Values, picture};

use crate::{
    drive,
    modules::{check_diagnostics, modules_of},
};

/// The input is a flow file.
pub fn run(input: &[u8]) {
    let Some([text]) = crate::parts(input) else { return };
    let draft = flow::file::read(text);
    check_diagnostics(&draft.diagnostics, text);
    match flow::wire(&draft, &modules_of(&draft), &Values::new()) {
        Ok((flow, warnings)) => {
            check_diagnostics(&warnings, text);
            let maximum =
                Maximum { call: Limits::default(), retries: RetryLimits::default(), run: RunLimits::default() };
            check_diagnostics(&flow::check_limits(&draft, &flow, &maximum), text);
            draw(&flow);
            drive::start(&with_source(flow, text));
        }
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty(), "a flow is refused for no reason");
            check_diagnostics(&diagnostics, text);
        }
    }
    if draft.diagnostics.is_empty() {
        write_again(&draft);
    }
}

/// The flow with its text, as a server submits it.
pub(crate) fn with_source(flow: Flow, text: &str) -> Arc<Flow> {
    let modules = flow.digests().first().map(|digest| ("m".to_owned(), *digest)).into_iter().collect();
    let source = FlowSource { text: text.into(), modules, edits: Vec::new() };
    Arc::new(Flow { origin: Some(Arc::new(source)), ..flow })
}

fn draw(flow: &Flow) {
    for picture in [picture::dot(flow), picture::mermaid(flow), picture::svg(flow)] {
        assert!(!picture.is_empty());
    }
}

/// A draft that was read is written as a file that reads the same.
fn write_again(draft: &Draft) {
    let written = flow::file::write(draft).unwrap_or_else(|error| panic!("{error}"));
    let again = flow::file::parse(&written).unwrap_or_else(|diagnostics| panic!("{diagnostics:?}\n{written}"));
    assert_eq!(flow::file::write(&again).as_deref(), Ok(&*written), "a file that is written twice");
}
