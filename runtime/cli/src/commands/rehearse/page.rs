//! The report page of a rehearsal: one HTML file that needs no script and asks nobody else for anything.

use std::{collections::BTreeMap, fmt::Write};

use api::{Rehearsal, RehearsedCase};
use flow::{Flow, NodeIndex, State, graph::Role};

use crate::display::rehearsal::{CaseText, about, omitted, stub_rows};

/// The maximum number of tasks in all pictures: with more, a browser would need minutes for the page.
const MAX_SHAPES: usize = 20_000;

/// The maximum number of arrows in all pictures.
const MAX_ARROWS: usize = 60_000;

/// A browser that shows the page loads nothing else and runs no script, whatever is in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE: &str = "
  :root { color-scheme: light dark; }
  body { font: 15px system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; line-height: 1.45; }
  table { border-collapse: collapse; }
  th, td { text-align: left; padding: 0.25em 1.2em 0.25em 0; vertical-align: top; }
  th { border-bottom: 1px solid #8a94a6; }
  code, td.value { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
  figure { margin: 1em 0; overflow-x: auto; }
  section { border-top: 1px solid #8a94a680; margin-top: 2em; }
";

/// The page.
pub(super) fn page(flow: &Flow, rehearsal: &Rehearsal) -> String {
    let title = escape(&format!("{}, {}", rehearsal.flow, about(rehearsal.run.as_deref())));
    let texts: Vec<CaseText> = rehearsal.cases.iter().map(CaseText::of).collect();
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
         <table>\n<tr><th>case</th><th>end</th></tr>\n"
    );
    for (number, text) in texts.iter().enumerate() {
        let (title, end) = (escape(&text.title), escape(text.end));
        let _ = writeln!(out, "<tr><td><a href=\"#case-{number}\">{title}</a></td><td>{end}</td></tr>");
    }
    out.push_str("</table>\n");
    paragraph(&mut out, omitted(rehearsal));
    let shapes = rehearsal.cases.iter().map(|case| case.nodes.len()).sum::<usize>();
    let arrows_of_flow = flow.nodes.iter().map(|node| node.before.len() + node.links.len()).sum::<usize>();
    let has_pictures = shapes <= MAX_SHAPES && arrows_of_flow * rehearsal.cases.len() <= MAX_ARROWS;
    if !has_pictures {
        paragraph(&mut out, Some("The pictures are left out: there are too many tasks, links and cases.".into()));
    }
    for (number, (case, text)) in rehearsal.cases.iter().zip(&texts).enumerate() {
        let picture = has_pictures.then(|| flow::picture::svg_with_states(flow, number, &states(flow, case)));
        section(&mut out, number, text, picture);
    }
    stubs(&mut out, rehearsal);
    out.push_str("</body>\n</html>\n");
    out
}

fn section(out: &mut String, number: usize, text: &CaseText, picture: Option<String>) {
    let (title, end) = (escape(&text.title), escape(text.end));
    let _ = writeln!(out, "<section id=\"case-{number}\">\n<h2>{title}: {end}</h2>");
    if !text.details.is_empty() {
        let items: String = text.details.iter().map(|detail| format!("<li>{}</li>\n", escape(detail))).collect();
        let _ = writeln!(out, "<ul>\n{items}</ul>");
    }
    if let Some(picture) = picture {
        let _ = writeln!(out, "<figure>\n{picture}</figure>");
    }
    out.push_str("</section>\n");
}

fn stubs(out: &mut String, rehearsal: &Rehearsal) {
    let rows = stub_rows(rehearsal);
    if rows.is_empty() {
        return;
    }
    out.push_str(
        "<section>\n<h2>stubbed results</h2>\n<table>\n<tr><th>result</th><th>value</th><th>origin</th></tr>\n",
    );
    for (name, value, origin) in rows {
        let (name, value, origin) = (escape(&name), escape(&value), escape(origin));
        let _ = writeln!(out, "<tr><td>{name}</td><td class=\"value\">{value}</td><td>{origin}</td></tr>");
    }
    out.push_str("</table>\n</section>\n");
}

fn paragraph(out: &mut String, text: Option<String>) {
    if let Some(text) = text {
        let _ = writeln!(out, "<p>{}</p>", escape(&text));
    }
}

/// The states of the tasks at the end of a case.
fn states(flow: &Flow, case: &RehearsedCase) -> BTreeMap<NodeIndex, State> {
    let states: BTreeMap<&str, State> =
        case.nodes.iter().filter_map(|node| Some((node.name.as_str(), node.state.to_runtime()?))).collect();
    let is_task =
        |index: &NodeIndex| matches!(flow.node(*index).role, Role::Task(_) | Role::Wait(_) | Role::ForEach(_));
    let tasks = flow.indices().filter(is_task);
    tasks.filter_map(|index| Some((index, *states.get(flow.node(index).name.as_str())?))).collect()
}

/// Text of others, in which no character starts an element, an attribute or an entity.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_starts_no_element() {
        assert_eq!(escape("<a href='x' b=\"&\">"), "&lt;a href=&#39;x&#39; b=&quot;&amp;&quot;&gt;");
    }
}
