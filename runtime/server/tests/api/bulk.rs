//! Commands to all runs that a filter selects.

use std::sync::atomic::{AtomicI64, Ordering};

use logbook::LoadError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    labels::{Shops, waiting},
    *,
};

fn cancel(filter: RunFilter) -> BulkRequest {
    BulkRequest::new(BulkAction::Cancel, filter)
}

/// The states of the runs of [`Shops`], by their ids: `b1 o1 s1 s2`.
async fn rolled_back(shops: &Shops) -> Vec<String> {
    let states = shops.states().await.into_iter();
    states.filter(|(_, state)| *state == RunState::RolledBack).map(|(run, _)| run).collect()
}

async fn until_rolled_back(shops: &Shops, expected: &[&str]) {
    while rolled_back(shops).await != expected {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_dry_run_counts_and_changes_nothing() {
    let shops = Shops::new().await;
    let filter = || RunFilter::default().label("team=a");
    let found = shops.owner.bulk(&cancel(filter()).dry_run()).await.unwrap();
    assert_eq!((found.matched, found.done, found.refused, found.dry_run), (Some(3), 0, 0, true));
    assert_eq!((found.first, found.next), (vec!["o1".to_owned(), "b1".into(), "s1".into()], None));
    let resumable = BulkRequest::new(BulkAction::Resume, filter()).dry_run();
    assert_eq!(shops.owner.bulk(&resumable).await.unwrap().matched, Some(0), "none is suspended");
    assert_eq!(rolled_back(&shops).await, [""; 0]);
}

#[tokio::test]
async fn each_run_of_the_filter_gets_the_command() {
    let shops = Shops::new().await;
    let request = cancel(RunFilter::default().label("team=a"));
    let refused = refusal(shops.owner.bulk(&request.clone().expect(2)).await);
    assert!(refused.status == 409 && refused.detail.contains("selects 3 runs"), "{refused:?}");
    let done = shops.owner.bulk(&request.clone().expect(3)).await.unwrap();
    assert_eq!((done.matched, done.done, done.refused, done.next), (Some(3), 3, 0, None));
    until_rolled_back(&shops, &["b1", "o1", "s1"]).await;
    let again = shops.owner.bulk(&request).await.unwrap();
    assert_eq!((again.matched, again.done), (Some(0), 0), "those that have ended are not selected");
    let retry = BulkRequest::new(BulkAction::Retry, RunFilter::default().label("order=o1"));
    assert_eq!(shops.owner.bulk(&retry).await.unwrap().done, 1);
    let suspend = BulkRequest::new(BulkAction::Suspend, RunFilter::default().text("s2"));
    assert_eq!(shops.owner.bulk(&suspend).await.unwrap().done, 1);
    while shops.owner.run("s2").await.unwrap().state != RunState::Suspended {
        tokio::task::yield_now().await;
    }
    let resume = BulkRequest::new(BulkAction::Resume, RunFilter::default().state("suspended"));
    assert_eq!(shops.owner.bulk(&resume).await.unwrap().done, 1);
    let of_run = AuditQuery { subject: Some("s1".into()), ..AuditQuery::default() };
    let mut entries = shops.owner.audit(&of_run).await.unwrap().entries;
    while !entries.iter().any(|entry| entry.action == "cancel") {
        entries = shops.owner.audit(&of_run).await.unwrap().entries;
    }
    let entry = entries.iter().find(|entry| entry.action == "cancel").unwrap();
    assert_eq!((entry.status, entry.detail.as_deref()), (200, Some("with others, by a filter")));
    let details = async || {
        let entries = shops.owner.audit(&AuditQuery::default()).await.unwrap().entries;
        let of_bulk = entries.into_iter().filter(|entry| entry.action == "bulk");
        of_bulk.filter_map(|entry| entry.detail).collect::<Vec<_>>()
    };
    let expected = "cancel: label=team=a: 3 done, 0 refused".to_owned();
    while !details().await.contains(&expected) {}
}

#[tokio::test]
async fn a_request_does_a_page_and_the_next_one_continues() {
    let shops = Shops::new().await;
    let mut request = cancel(RunFilter::default()).all();
    request.limit = Some(3);
    let first = shops.owner.bulk(&request).await.unwrap();
    assert_eq!((first.matched, first.done), (Some(4), 3));
    // A younger run is not among those that are left.
    shops.owner.submit(&waiting("f", "x").run("younger")).await.unwrap();
    let rest = shops.owner.bulk(&request.after(first.next.unwrap())).await.unwrap();
    assert_eq!((rest.matched, rest.done, rest.next), (None, 1, None));
    until_rolled_back(&shops, &["b1", "o1", "s1", "s2"]).await;
}

#[tokio::test]
async fn a_filter_without_conditions_is_refused() {
    let shops = Shops::new().await;
    let send = |body: &str| {
        let request = shops.harness.request(Method::POST, "/v1/runs/bulk").header("content-type", "application/json");
        problem(request.body(body.to_owned()))
    };
    let many_labels = serde_json::json!({"action": "cancel", "where": {"label": vec!["team"; 1_000]}}).to_string();
    for (body, message) in [
        (r#"{"action":"cancel"}"#, "where: it has no condition"),
        (r#"{"action":"cancel","where":{}}"#, "where: it has no condition"),
        (r#"{"action":"delete","all":true}"#, "unknown variant `delete`"),
        (r#"{"where":{"flow":"f"}}"#, "missing field `action`"),
        (r#"{"action":"cancel","where":{"flow":"f","limit":1}}"#, "unknown field `limit`"),
        (r#"{"action":"cancel","where":{"label":["a\u0000"]}}"#, "label: "),
        (r#"{"action":"cancel","where":{"text":"\u0000"}}"#, "text: "),
        (many_labels.as_str(), "label: these are 1000 conditions"),
        (r#"{"action":"cancel","all":true,"limit":1001}"#, "limit: 1001"),
        (r#"{"action":"cancel","all":true,"after":"x"}"#, "after: "),
        (r#"{"action":"cancel","all":true,"after":"1.r","expect":1}"#, "expect: "),
        (
            r#"{"action":"resume","where":{"state":"running,success"}}"#,
            "state: runs in these states cannot be asked for resume",
        ),
    ] {
        let problem = send(body).await;
        assert!(problem.status == 400 && problem.detail.contains(message), "{body}: {problem:?}");
    }
    assert_eq!(rolled_back(&shops).await, [""; 0]);
    let limited = refusal(shops.limited.bulk(&cancel(RunFilter::default())).await);
    assert_eq!(limited.status, 400, "its namespace is no condition of the request");
}

#[tokio::test]
async fn a_limited_sender_commands_no_run_of_others() {
    let shops = Shops::new().await;
    for filter in [RunFilter::default().text("b1"), RunFilter::default().label("order=o1")] {
        let found = shops.limited.bulk(&cancel(filter.clone()).dry_run()).await.unwrap();
        assert_eq!((found.matched, found.first.len()), (Some(0), 0), "{filter:?}");
        assert_eq!(shops.limited.bulk(&cancel(filter)).await.unwrap().done, 0);
    }
    let bank = RunFilter { namespace: Some("bank".into()), ..RunFilter::default() };
    assert_eq!(refusal(shops.limited.bulk(&cancel(bank)).await).status, 403);
    let all = shops.limited.bulk(&cancel(RunFilter::default()).all()).await.unwrap();
    assert_eq!((all.matched, all.done), (Some(2), 2));
    until_rolled_back(&shops, &["s1", "s2"]).await;
    let reader = NewToken { name: "reader".into(), scopes: vec![Scope::Read], namespace: None, expires_in: None };
    let secret = shops.owner.create_token(&reader).await.unwrap().secret;
    let reader = Client::new(&format!("http://{}", shops.harness.address), Some(secret)).unwrap();
    let refused = refusal(reader.bulk(&cancel(RunFilter::default()).all().dry_run()).await);
    assert_eq!(refused.status, 403, "a dry run needs the same scope");
}

#[tokio::test]
async fn a_sender_that_may_not_read_learns_only_what_its_commands_did() {
    let shops = Shops::new().await;
    let token = |name: &str, scopes| NewToken { name: name.into(), scopes, namespace: None, expires_in: None };
    let operator = shops.owner.create_token(&token("operator", vec![Scope::Operate])).await.unwrap().secret;
    let operator = Client::new(&format!("http://{}", shops.harness.address), Some(operator)).unwrap();
    let all = || cancel(RunFilter::default()).all();
    for (request, key) in [
        (all().dry_run(), "dry_run: "),
        (all().expect(0), "expect: "),
        (cancel(RunFilter::default().label("team=none")), "where.label: "),
        (cancel(RunFilter::default().text("4711")), "where.text: "),
    ] {
        let refused = refusal(operator.bulk(&request).await);
        assert!(refused.status == 403 && refused.detail.starts_with(key), "{refused:?}");
        assert!(refused.detail.contains("scope read") && refused.hint.is_some(), "{refused:?}");
    }
    assert_eq!(rolled_back(&shops).await, [""; 0]);
    let done = operator.bulk(&cancel(RunFilter::default().flow("shop/f"))).await.unwrap();
    assert_eq!((done.matched, done.done, done.refused), (None, 1, 0));
    until_rolled_back(&shops, &["s1"]).await;
    let reader = shops.owner.create_token(&token("both", vec![Scope::Operate, Scope::Read])).await.unwrap().secret;
    let reader = Client::new(&format!("http://{}", shops.harness.address), Some(reader)).unwrap();
    assert_eq!(reader.bulk(&all().expect(3).dry_run()).await.unwrap().matched, Some(3));
}

/// A logbook that deletes the runs that have ended when it is read for the last of a number of times.
struct DeletesLater {
    logbook: Arc<Memory>,
    reads_left: AtomicI64,
}

#[async_trait]
impl AppendInterceptor for DeletesLater {
    async fn before(&self, _: &[Append]) -> Result<(), AppendError> {
        Ok(())
    }

    async fn after(&self) -> Result<(), AppendError> {
        Ok(())
    }

    async fn before_load(&self) -> Result<(), LoadError> {
        if self.reads_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.logbook.delete_ended_runs(flow::Timestamp::from_micros(u64::MAX)).await.unwrap();
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_run_that_is_gone_meanwhile_is_among_the_refusals() {
    let logbook = Arc::new(Memory::new());
    let deletes = Arc::new(DeletesLater { logbook: logbook.clone(), reads_left: AtomicI64::new(0) });
    let logbook = Arc::new(InterceptedLogbook::new(logbook, deletes.clone()));
    let harness = Harness::over(config(None), dependencies_over(logbook).await).await;
    let client = harness.client();
    client.submit(&submission(WAITS).run("leaves")).await.unwrap();
    client.cancel("leaves").await.unwrap();
    while client.run("leaves").await.unwrap().state != RunState::RolledBack {}
    // The request counts and lists the runs before it reads each.
    deletes.reads_left.store(3, Ordering::SeqCst);
    let retry = BulkRequest::new(BulkAction::Retry, RunFilter::default().text("leaves"));
    let answer = client.bulk(&retry).await.unwrap();
    assert_eq!((answer.matched, answer.done, answer.refused), (Some(1), 0, 1), "{answer:?}");
    assert_eq!((answer.refusals[0].run.as_str(), answer.refusals[0].status), ("leaves", 404), "{answer:?}");
}

#[tokio::test]
async fn a_request_goes_on_when_its_client_leaves_after_the_first_commands() {
    let shops = Shops::new().await;
    // More than get their commands at the same time.
    for number in 0..40 {
        shops.owner.submit(&waiting("f", "x").run(format!("more-{number}"))).await.unwrap();
    }
    let body = r#"{"action":"cancel","all":true}"#;
    let mut stream = tokio::net::TcpStream::connect(shops.harness.address).await.unwrap();
    let head = format!(
        "POST /v1/runs/bulk HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    while rolled_back(&shops).await.is_empty() {
        tokio::task::yield_now().await;
    }
    drop(stream);
    while rolled_back(&shops).await.len() < 44 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn several_requests_take_turns_and_each_is_answered() {
    let shops = Shops::new().await;
    let of = |order: &str| RunFilter::default().label(format!("order={order}"));
    let request = |order: &str| BulkRequest::new(BulkAction::Suspend, of(order));
    let (b1, o1, s1, s2) = (request("b1"), request("o1"), request("s1"), request("s2"));
    // More than send commands at the same time, and not only of one sender.
    let answers = futures::future::join_all([
        shops.owner.bulk(&b1),
        shops.owner.bulk(&o1),
        shops.owner.bulk(&s1),
        shops.limited.bulk(&s2),
        shops.limited.bulk(&b1),
    ]);
    let done: Vec<u64> = answers.await.into_iter().map(|answer| answer.unwrap().done).collect();
    assert_eq!(done, [1, 1, 1, 1, 0]);
}
