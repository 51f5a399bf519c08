//! The events of all runs, for those who may see them.

use client::{
    Watch,
    api::{EventsQuery, RunsEvent},
};

use super::*;

/// The position from which on a request receives events. The server receives all events from now on.
async fn position(request: RequestBuilder) -> String {
    let mut response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    loop {
        if let Some((message, _)) = text.split_once("\n\n") {
            let id = message.lines().find_map(|line| line.strip_prefix("id:")).expect("the first message has an id");
            assert!(!message.contains("data"), "{message}");
            return id.trim().to_owned();
        }
        text.push_str(std::str::from_utf8(&response.chunk().await.unwrap().expect("it is open")).unwrap());
    }
}

/// The runs and states of events, until a run has succeeded.
async fn until_success(watch: &mut Watch, run: &str) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    loop {
        let event = watch.next().await.unwrap().expect("it does not end");
        let (of, what) = match event.runs_event() {
            Some(RunsEvent::Run(event)) => (event.run, format!("run {}", event.state)),
            Some(RunsEvent::Node(event)) => (event.run, format!("{} {} {}", event.kind, event.name, event.state)),
            Some(RunsEvent::Lost(_) | RunsEvent::Unknown) | None => panic!("{event:?}"),
        };
        let is_end = of == run && what == "run success";
        seen.push((of, what));
        if is_end {
            return seen;
        }
    }
}

fn of_run(events: &[(String, String)], run: &str) -> Vec<String> {
    events.iter().filter(|(of, _)| of == run).map(|(_, what)| what.clone()).collect()
}

/// Lets a run of [`WAITS`] succeed.
async fn succeed(client: &Client, flow: &str, run: &str) {
    let flow = WAITS.replace("\"f\"", &format!("\"{flow}\""));
    client.submit(&submission(&flow).run(run).label("team", run)).await.unwrap();
    client.notify(run, &Notification::of("w").value("v", "a secret value")).await.unwrap();
}

#[tokio::test]
async fn a_sender_watches_the_runs_that_it_may_see_and_a_filter_leaves_others_out() {
    let harness = Harness::new().await;
    let owner = harness.client();
    let scopes = vec![Scope::Read, Scope::Submit];
    let new = NewToken { name: "limited".into(), scopes, namespace: Some("shop".into()), expires_in: None };
    let secret = owner.create_token(&new).await.unwrap().secret;
    let limited = Client::new(&format!("http://{}", harness.address), Some(secret.clone())).unwrap();
    let request = || harness.request(Method::GET, "/v1/events");
    let (all, of_shop) = (position(request()).await, position(request().bearer_auth(&secret)).await);
    for (flow, run) in [("bank/f", "b1"), ("shop/f", "s1"), ("f", "o1")] {
        succeed(&owner, flow, run).await;
    }
    let mut watch = limited.watch_all_after(EventsQuery::default(), &of_shop);
    let seen = until_success(&mut watch, "s1").await;
    assert_eq!(of_run(&seen, "s1").len(), seen.len(), "nothing of the others: {seen:?}");
    let seen = of_run(&seen, "s1");
    assert_eq!((seen.first().unwrap().as_str(), seen.last().unwrap().as_str()), ("run running", "run success"));
    assert!(seen.contains(&"task w success".to_owned()), "{seen:?}");

    let watch = |query: EventsQuery| owner.watch_all_after(query, &all);
    let seen = until_success(&mut watch(EventsQuery::default().kind("run")), "o1").await;
    assert_eq!(of_run(&seen, "o1"), ["run running", "run success"]);
    let seen = until_success(&mut watch(EventsQuery::default().flow("shop/f").state("success")), "s1").await;
    assert!(of_run(&seen, "s1").len() == seen.len() && !of_run(&seen, "s1").contains(&"run running".to_owned()));
    let seen = until_success(&mut watch(EventsQuery::default().label("team=b1").kind("run")), "b1").await;
    assert_eq!(seen.len(), of_run(&seen, "b1").len(), "{seen:?}");
}

#[tokio::test]
async fn an_event_has_no_values() {
    let harness = Harness::new().await;
    let client = harness.client();
    let start = position(harness.request(Method::GET, "/v1/events")).await;
    succeed(&client, "f", "r").await;
    let mut watch = client.watch_all_after(EventsQuery::default(), &start);
    loop {
        let event = watch.next().await.unwrap().unwrap();
        assert!(!event.line.contains("secret"), "{}", event.line);
        if event.run_state() == Some(RunState::Success) {
            break;
        }
    }
}

#[tokio::test]
async fn a_watcher_with_an_id_of_another_server_learns_that_events_were_lost() {
    let harness = Harness::new().await;
    let mut watch = harness.client().watch_all_after(EventsQuery::default(), "1-7");
    let lost = watch.next().await.unwrap().unwrap();
    let Some(RunsEvent::Lost(event)) = lost.runs_event() else { panic!("{lost:?}") };
    assert!(event.message.contains("GET /v1/runs"), "{event:?}");
    succeed(&harness.client(), "f", "r").await;
    assert_eq!(until_success(&mut watch, "r").await[0], ("r".to_owned(), "run running".to_owned()));
}

#[tokio::test]
async fn a_request_that_cannot_be_answered_is_explained() {
    let harness = Harness::new().await;
    for (query, detail) in [
        ("state=done", "\"done\" is no state"),
        ("kind=worker", "\"worker\" is no kind"),
        ("flow=a%20b", "flow: "),
        ("namespace=a%20b", "namespace: "),
        ("label=%3Dx", "label: "),
        ("since=1", "since"),
    ] {
        let problem = harness.problem(Method::GET, &format!("/v1/events?{query}")).await;
        assert!(problem.status == 400 && problem.detail.contains(detail), "{query}: {problem:?}");
    }
    let request = harness.request(Method::GET, "/v1/events").header("last-event-id", "7");
    assert_eq!(problem(request).await.status, 400);
    let new =
        NewToken { name: "t".into(), scopes: vec![Scope::Read], namespace: Some("shop".into()), expires_in: None };
    let secret = harness.client().create_token(&new).await.unwrap().secret;
    let request = harness.request(Method::GET, "/v1/events?namespace=bank").bearer_auth(secret);
    assert_eq!(problem(request).await.status, 403);
}
