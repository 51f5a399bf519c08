//! Tests edits that are a text, their dry runs, and the written texts of flows.

use super::*;

/// Adds a task, and links it.
const ADDS: &str = "[[edit]]\nadd_text = '''\n[[task]]\nname = \"more\"\nwait = \"another word\"\n\
                    provides = [\"x\"]\n'''\n[[edit]]\nlink = [\"w\", \"more\"]\n";

#[tokio::test]
async fn a_dry_run_shows_the_flow_that_a_text_of_edits_then_makes() {
    let harness = Harness::new().await;
    let client = harness.client();
    client.submit(&submission(WAITS).run("r")).await.unwrap();
    let shown = client.edit("r", &Edits::of_text(ADDS).preview()).await.unwrap();
    assert!(!shown.applied && shown.revision == 2, "{shown:?}");
    assert_eq!(shown.edits, ["add more", "link w more"]);
    let preview = shown.preview.expect("the dry run asked for it");
    let names: Vec<_> = preview.graph.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["w", "more"]);
    assert_eq!((preview.graph.revision, preview.graph.last_revision, preview.graph.links.len()), (2, 1, 1));
    assert!(preview.graph.nodes.iter().all(|node| node.state.is_none()), "{preview:?}");
    let before = client.flow_text("r", &FlowTextQuery::default()).await.unwrap();
    assert_eq!(before.revision, 1, "a dry run changes nothing");
    // Without a wish for it, a dry run has no flow.
    let plain = client.edit("r", &Edits::of_text(ADDS).dry_run()).await.unwrap();
    assert!(!plain.applied && plain.preview.is_none(), "{plain:?}");
    let made = client.edit("r", &Edits::of_text(ADDS).if_revision(1)).await.unwrap();
    assert!(made.applied && made.revision == 2 && made.preview.is_none(), "{made:?}");
    let after = client.flow_text("r", &FlowTextQuery::default()).await.unwrap();
    assert_eq!(preview.text, Some(after.text));
    // What was seen is no longer what would be made.
    let refused = refusal(client.edit("r", &Edits::of_text(ADDS).if_revision(1)).await);
    assert!(refused.status == 409 && refused.detail.contains("at revision 2"), "{refused:?}");
}

#[tokio::test]
async fn the_errors_of_a_text_of_edits_have_their_lines() {
    let harness = Harness::new().await;
    let client = harness.client();
    client.submit(&submission(WAITS).run("r")).await.unwrap();
    let text = ADDS.replace("provides", "provoides");
    let refused = refusal(client.edit("r", &Edits::of_text(text).dry_run()).await);
    assert_eq!((refused.status, refused.kind.as_str()), (422, "urn:waft:problem:invalid-edits"));
    assert!(refused.diagnostics.iter().any(|diagnostic| diagnostic.line == Some(6)), "{refused:?}");
    let refused = refusal(client.edit("r", &Edits::of_text("[[edit]]\nadd = \"more.toml\"\n")).await);
    assert!(refused.status == 422 && refused.detail.contains("the server reads no files"), "{refused:?}");
    assert_eq!(refused.diagnostics[0].line, Some(2));
    // The flow itself is wrong then, and no line of the text.
    let refused = refusal(client.edit("r", &Edits::of_text("[[edit]]\nremove = \"nobody\"\n")).await);
    assert!(refused.status == 409 && refused.detail.contains("nobody"), "{refused:?}");
    assert_eq!(client.flow_text("r", &FlowTextQuery::default()).await.unwrap().revision, 1);
}

#[tokio::test]
async fn the_first_text_of_a_flow_can_be_written_anew() {
    let shops = labels::Shops::new().await;
    let text = format!("# a comment\n{WAITS}");
    shops.limited.submit(&submission(&text).run("r")).await.unwrap();
    let submitted = shops.owner.flow_text("r", &FlowTextQuery::default()).await.unwrap();
    assert_eq!((submitted.text, submitted.submitted), (text, true));
    let written = FlowTextQuery { written: true, ..FlowTextQuery::default() };
    let written = shops.owner.flow_text("r", &written).await.unwrap();
    assert!(!written.submitted && !written.text.contains("comment"), "{written:?}");
    // Whoever submits it again needs no namespace.
    let draft = flow::file::parse(&written.text).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}"));
    assert_eq!(draft.name.unwrap().to_string(), "shop/f");
}
