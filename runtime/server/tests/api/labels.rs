//! Labels of runs, the lists and counts that find runs by them, and the texts of flows.

use super::*;

/// A server with runs of several namespaces, and clients of its owner and of a sender that is limited to `shop`.
pub(super) struct Shops {
    pub(super) harness: Harness,
    pub(super) owner: Client,
    pub(super) limited: Client,
}

/// A flow whose only task waits, with an input.
pub(super) fn waiting(flow: &str, note: &str) -> Submission {
    submission(&format!("{}[inputs]\nnote = \"{note}\"\n", WAITS.replace("\"f\"", &format!("\"{flow}\""))))
}

impl Shops {
    pub(super) async fn new() -> Self {
        let harness = Harness::new().await;
        let owner = harness.client();
        let scopes = vec![Scope::Read, Scope::Submit, Scope::Operate];
        let new = NewToken { name: "limited".into(), scopes, namespace: Some("shop".into()), expires_in: None };
        let secret = owner.create_token(&new).await.unwrap().secret;
        let limited = Client::new(&format!("http://{}", harness.address), Some(secret)).unwrap();
        for (run, flow, team) in [("s1", "shop/f", "a"), ("s2", "shop/g", "b"), ("b1", "bank/f", "a"), ("o1", "f", "a")]
        {
            let submission = waiting(flow, "4711").run(run).label("team", team).label("order", run);
            owner.submit(&submission).await.unwrap();
        }
        Self { harness, owner, limited }
    }

    pub(super) async fn states(&self) -> Vec<(String, RunState)> {
        let mut runs = self.owner.list(&ListQuery::default()).await.unwrap().runs;
        runs.sort_by(|one, other| one.run.cmp(&other.run));
        runs.into_iter().map(|run| (run.run, run.state)).collect()
    }
}

async fn listed(client: &Client, query: &ListQuery) -> Vec<String> {
    let mut runs: Vec<String> = client.list(query).await.unwrap().runs.into_iter().map(|run| run.run).collect();
    runs.sort();
    runs
}

#[tokio::test]
async fn labels_are_shown_wherever_a_run_is() {
    let harness = Harness::new().await;
    let client = harness.client();
    let html = "<script>alert(1)</script> مرحبا %_'\"";
    let labelled = submission(WAITS).run("r").label("team", "shop").label("note", html);
    let labels = BTreeMap::from([("note".to_owned(), html.to_owned()), ("team".to_owned(), "shop".to_owned())]);
    assert_eq!(client.submit(&labelled).await.unwrap().labels, labels);
    assert_eq!(client.run("r").await.unwrap().labels, labels);
    assert_eq!(client.list(&ListQuery::default()).await.unwrap().runs[0].labels, labels);
    let first = client.watch("r").next().await.unwrap().unwrap();
    let Some(client::api::EventPayload::Run(event)) = first.payload() else { panic!("{first:?}") };
    assert_eq!(event.labels, labels);
    assert_eq!(listed(&client, &ListQuery::default().label(format!("note={html}"))).await, ["r"]);
    client.submit(&submission(WAITS).run("without")).await.unwrap();
    let shown = harness.request(Method::GET, "/v1/runs/without").send().await.unwrap().text().await.unwrap();
    assert!(!shown.contains("labels"), "{shown}");
}

#[tokio::test]
async fn a_submission_with_other_labels_is_another_one() {
    let client = Harness::new().await.client();
    let of = |labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Submission { labels, ..submission(WAITS).run("r") }
    };
    let first = of(&[("team", "shop"), ("order", "1")]);
    client.submit(&first).await.unwrap();
    client.submit(&first).await.unwrap();
    for other in [of(&[]), of(&[("team", "shop")]), of(&[("team", "shop"), ("order", "2")])] {
        let refused = refusal(client.submit(&other).await);
        assert!(refused.status == 409 && refused.detail.contains("label order"), "{refused:?}");
    }
    let more = refusal(client.submit(&of(&[("team", "shop"), ("order", "1"), ("new", "x")])).await);
    assert!(more.detail.ends_with("other content: label new"), "{more:?}");
}

#[tokio::test]
async fn a_label_that_is_none_is_refused() {
    let harness = Harness::new().await;
    let refused = async |labels: String| {
        let request = harness.request(Method::POST, "/v1/runs").header("content-type", "application/json");
        let body = format!("{{\"flow\":{},\"labels\":{labels}}}", serde_json::json!(WAITS));
        problem(request.body(body)).await
    };
    let one = |name: &str, value: &str| serde_json::json!({ name: value }).to_string();
    let many = |count: usize| {
        let labels: BTreeMap<String, String> = (0..count).map(|number| (format!("l{number}"), "x".into())).collect();
        serde_json::to_string(&labels).unwrap()
    };
    for (labels, message) in [
        (one("team", "a\nb"), r"labels: label team: the value has the character '\n'"),
        (one("team", "\u{1b}[31mred"), r"'\u{1b}'"),
        (one("team", "\0"), r"'\0'"),
        (one("team", "\u{202e}gpj.exe"), r"'\u{202e}'"),
        (one("team", &"x".repeat(129)), "more than 128 characters"),
        (one("Team", "x"), "labels: \"Team\" is not the name of a label"),
        (one("", "x"), "\"\" is not the name of a label"),
        (one(&"x".repeat(64), "x"), "is not the name of a label"),
        (one("a<b>", "x"), "is not the name of a label"),
        (many(17), "a run has at most 16 labels"),
        (many(100), "a run has at most 16 labels"),
        (r#"{"team":"a","team":"a"}"#.to_owned(), "key \"team\" twice"),
        (r#"{"team":1}"#.to_owned(), "the body: "),
        (r#"["team"]"#.to_owned(), "the body: "),
    ] {
        let problem = refused(labels.clone()).await;
        assert!(problem.status == 400 && problem.detail.contains(message), "{labels}: {problem:?}");
    }
    for run in ["counts", "bulk"] {
        let refused = refusal(harness.client().submit(&submission(WAITS).run(run)).await);
        assert!(refused.status == 400 && refused.detail.contains("path of another request"), "{refused:?}");
    }
    assert_eq!(listed(&harness.client(), &ListQuery::default()).await, [""; 0], "nothing was started");
}

#[tokio::test]
async fn hostile_filters_find_nothing_or_are_refused() {
    let shops = Shops::new().await;
    for text in ["%", "_", "s_", "%1", "' OR '1'='1", "\"", "\\", "*", "?", "$1", "; DROP TABLE runs"] {
        assert_eq!(listed(&shops.owner, &ListQuery::default().text(text)).await, [""; 0], "{text}");
        for label in [format!("team={text}"), format!("order={text}")] {
            assert_eq!(listed(&shops.owner, &ListQuery::default().label(label)).await, [""; 0], "{text}");
        }
    }
    let labels = |count: usize| vec!["label=team"; count].join("&");
    for (query, message) in [
        ("text=%00".to_owned(), r"text: the value has the character '\0'"),
        ("text=".to_owned(), "text: it is empty"),
        (format!("text={}", "x".repeat(129)), "text: the value has more than 128 characters"),
        ("text=%e2%80%ae".to_owned(), r"text: the value has the character '\u{202e}'"),
        ("text=a&text=b".to_owned(), "text is given twice"),
        ("label=".to_owned(), "label: \"\" is not the name"),
        ("label=%25".to_owned(), "label: \"%\" is not the name"),
        ("label=team%3D%00".to_owned(), "label: label team"),
        (labels(17), "label: these are 17 conditions"),
        ("labels=team".to_owned(), "unknown field `labels`"),
    ] {
        for path in ["/v1/runs", "/v1/runs/counts"] {
            let problem = shops.harness.problem(Method::GET, &format!("{path}?{query}")).await;
            assert!(problem.status == 400 && problem.detail.contains(message), "{path}?{query}: {problem:?}");
        }
    }
    let sixteen = shops.harness.request(Method::GET, &format!("/v1/runs?{}", labels(16))).send().await.unwrap();
    assert_eq!(sixteen.status(), StatusCode::OK);
}

#[tokio::test]
async fn runs_are_found_by_labels_texts_and_inputs() {
    let shops = Shops::new().await;
    let query = ListQuery::default;
    for (query, expected) in [
        (query().label("team=a"), &["b1", "o1", "s1"][..]),
        (query().label("team=a").label("order=s1"), &["s1"]),
        (query().label("team").flow("shop/g"), &["s2"]),
        (query().text("4711"), &["b1", "o1", "s1", "s2"]),
        (query().text("s"), &["s1", "s2"]),
        (query().text("b"), &["b1", "s2"]),
        (query().text("b").namespace("shop"), &["s2"]),
        (query().text("b").state(RunState::Success), &[]),
    ] {
        assert_eq!(listed(&shops.owner, &query).await, expected, "{query:?}");
    }
    let counts = shops.owner.counts(&RunFilter::default().label("team=a")).await.unwrap();
    let flows: Vec<_> = counts.flows.iter().map(|flow| (flow.flow.as_str(), flow.states["running"])).collect();
    assert_eq!(flows, [("bank/f", 1), ("f", 1), ("shop/f", 1)]);
    assert_eq!((counts.total, counts.more), (3, false));
}

#[tokio::test]
async fn a_limited_sender_finds_no_run_of_others() {
    let shops = Shops::new().await;
    let query = ListQuery::default;
    for (query, expected) in [
        (query(), &["s1", "s2"][..]),
        (query().label("team=a"), &["s1"]),
        (query().label("order=b1"), &[]),
        (query().text("b1"), &[]),
        (query().text("b"), &["s2"]),
        (query().text("4711"), &["s1", "s2"]),
    ] {
        assert_eq!(listed(&shops.limited, &query).await, expected, "{query:?}");
    }
    let counts = shops.limited.counts(&RunFilter::default()).await.unwrap();
    let flows: Vec<_> = counts.flows.iter().map(|flow| flow.flow.as_str()).collect();
    assert_eq!((flows, counts.total), (vec!["shop/f", "shop/g"], 2));
    assert_eq!(shops.limited.counts(&RunFilter::default().text("b1")).await.unwrap().total, 0);
    let bank = RunFilter { namespace: Some("bank".into()), ..RunFilter::default() };
    assert_eq!(refusal(shops.limited.counts(&bank).await).status, 403);
    let of_bank = shops.limited.flow_text("b1", &FlowTextQuery::default()).await;
    assert_eq!(refusal(of_bank).status, 404);
}

#[tokio::test]
async fn the_text_of_a_flow_is_read_at_each_revision() {
    let harness = Harness::new().await;
    let client = harness.client();
    let text = format!("# a comment\n{WAITS}");
    client.submit(&submission(&text).run("r")).await.unwrap();
    let add = "[[task]]\nname = \"more\"\nwait = \"another word\"\nprovides = [\"x\"]\n";
    let edits = Edits { edits: vec![Edit::Add { text: add.into(), modules: BTreeMap::new() }], ..Edits::default() };
    client.edit("r", &edits).await.unwrap();
    let at = |revision| FlowTextQuery { revision, ..FlowTextQuery::default() };
    let first = client.flow_text("r", &at(Some(1))).await.unwrap();
    assert_eq!((first.text.as_str(), first.submitted, first.revision), (text.as_str(), true, 1));
    let last = client.flow_text("r", &at(None)).await.unwrap();
    assert!(!last.submitted && last.revision == 2, "{last:?}");
    let known = flow::file::parse(&last.text).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}"));
    let names: Vec<_> = known.body.nodes.iter().map(|node| node.name().to_string()).collect();
    assert_eq!(names, ["w", "more"]);
    for revision in [0, 3, u64::MAX] {
        let refused = refusal(client.flow_text("r", &at(Some(revision))).await);
        assert!(refused.status == 404 && refused.detail.contains("its flow is at revision 2"), "{refused:?}");
    }
    harness.run("without-text", "f").await;
    let refused = refusal(client.flow_text("without-text", &at(None)).await);
    assert!(refused.status == 404 && refused.detail.contains("stores no text"), "{refused:?}");
    assert_eq!(refusal(client.flow_text("nobody", &at(None)).await).status, 404);
}

#[tokio::test]
async fn the_text_of_a_flow_is_known_after_its_records_are_deleted() {
    let memory = Arc::new(Memory::new());
    let harness = Harness::over(config(None), dependencies_over(memory.clone()).await).await;
    let client = harness.client();
    client.submit(&submission(WAITS).run("r")).await.unwrap();
    for name in ["more", "most"] {
        let flow = format!("[[task]]\nname = \"{name}\"\nwait = \"a word\"\nprovides = [\"{name}\"]\n");
        let edits = Edits { edits: vec![Edit::Add { text: flow, modules: BTreeMap::new() }], ..Edits::default() };
        client.edit("r", &edits).await.unwrap();
    }
    let run = RunId::new("r").unwrap();
    let history = memory.load(&run).await.unwrap();
    let version = history.version();
    memory.mark_published(&[(run.clone(), version)]).await.unwrap();
    memory.save_snapshot(&run, version, history.into_machine().unwrap().snapshot()).await.unwrap();
    memory.trim(&run, version).await.unwrap();
    assert_eq!(memory.trim_point(&run).await.unwrap().map(|point| point.revisions.len()), Some(2));
    for (revision, expected) in [(1, &["w"][..]), (2, &["w", "more"]), (3, &["w", "more", "most"])] {
        let shown = client.flow_text("r", &FlowTextQuery { revision: Some(revision), written: false }).await.unwrap();
        let known = flow::file::parse(&shown.text).unwrap_or_else(|diagnostics| panic!("{diagnostics:#?}"));
        let names: Vec<_> = known.body.nodes.iter().map(|node| node.name().to_string()).collect();
        assert_eq!(names, expected);
        assert_eq!((shown.revision, shown.submitted), (revision, revision == 1));
    }
}

#[tokio::test]
async fn a_page_of_runs_with_the_longest_labels_is_one_answer() {
    let harness = Harness::new().await;
    let client = harness.client();
    // More than an answer may have without taking memory for large answers.
    let labels: BTreeMap<String, String> = (0..16).map(|number| (format!("l{number}"), "🍰".repeat(128))).collect();
    for number in 0..10 {
        let run = Some(format!("r{number}"));
        client.submit(&Submission { run, labels: labels.clone(), ..submission(WAITS) }).await.unwrap();
    }
    let found = client.list(&ListQuery::default()).await.unwrap().runs;
    assert_eq!(found.len(), 10);
    assert!(found.iter().all(|run| run.labels == labels));
}
