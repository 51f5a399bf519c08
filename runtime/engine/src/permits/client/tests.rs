//! Tests of the messages that a client sends: how many calls each names.

use flow::{Action, Attempt, Firing};

use super::*;

const HELD: usize = 1_000;

struct Harness {
    client: PermitClient,
    shard: Shard,
    flow: FlowName,
    secret: EngineSecret,
}

fn call(number: usize) -> CallId {
    let (run, task) = (format!("r{number}").parse().unwrap(), "t".parse().unwrap());
    CallId { run, task, firing: Firing::FIRST, attempt: Attempt::FIRST, action: Action::Apply }
}

fn pace() -> Pace {
    Pace { max_running: std::num::NonZeroU32::new(10_000), rate: None }
}

impl Harness {
    /// A client with calls that hold a permit, after its first request.
    fn new(held: usize) -> Self {
        let secret = EngineSecret::new([7; 32]);
        let (shard, flow) = ("1".parse().unwrap(), "f".parse().unwrap());
        let mut harness = Self { client: PermitClient::new("e".into(), secret), shard, flow, secret };
        for number in 0..held {
            harness.client.hold(Timestamp::default(), &harness.shard, &harness.flow, call(number), pace());
        }
        let PermitMessage::Request(first) = harness.sent() else { panic!("the first message is no request") };
        assert_eq!(first.held.len(), held);
        harness
    }

    /// The only message that is to be sent now.
    fn sent(&mut self) -> PermitMessage {
        let messages = self.client.take_requests(Timestamp::default(), |_| Some(Vec::new()), |_, _| {});
        let [message] = &messages[..] else { panic!("{} messages", messages.len()) };
        PermitMessage::open(&message.body, &self.secret).unwrap()
    }

    fn tick(&mut self) -> PermitMessage {
        self.client.tick();
        self.sent()
    }

    fn grant(&mut self, engine: &str, number: u64, calls: Vec<CallId>) {
        let (flow, task) = (self.flow.clone(), "t".parse().unwrap());
        let grant = PermitGrant { flow, task, engine: engine.into(), number, calls };
        self.client.on_grant(&self.shard.clone(), &grant);
    }
}

#[test]
fn calls_that_hold_a_permit_are_named_now_and_then() {
    let mut harness = Harness::new(HELD);
    let mut named = 0;
    for _ in 0..100 {
        match harness.tick() {
            PermitMessage::Request(request) => named += request.held.len(),
            PermitMessage::Update(update) => assert!(update.released.is_empty() && update.wanted.is_empty()),
            message @ (PermitMessage::Snapshot(_) | PermitMessage::Tick(_)) => panic!("{message:?}"),
        }
    }
    assert!((HELD..=100 * HELD_PER_TICK).contains(&named), "{named} in 100 ticks");
    let mut few = Harness::new(MAX_HELD_AT_ONCE);
    assert!(matches!(few.tick(), PermitMessage::Request(_)), "a request is small");
}

#[test]
fn an_update_names_what_is_released_and_all_that_is_wanted() {
    let mut harness = Harness::new(HELD);
    harness.client.release(&call(3));
    let shard = harness.shard.clone();
    for number in [2_000, 2_001, 2_002] {
        let paced = PacedCall { call: call(number), pace: pace(), priority: 0 };
        let flow = harness.flow.clone();
        harness.client.request(Timestamp::default(), &shard, &flow, paced, DispatchHistory::NeverSent);
    }
    let PermitMessage::Update(update) = harness.sent() else { panic!("a request") };
    assert_eq!((update.follows, update.number, update.released), (1, 2, vec![call(3)]));
    assert_eq!(update.wanted.len(), 3);
    // One gets a permit, one is withdrawn, and one is withdrawn and wanted again.
    harness.grant("e", 2, vec![call(2_000)]);
    harness.client.release(&call(2_001));
    harness.client.release(&call(2_002));
    let paced = PacedCall { call: call(2_002), pace: pace(), priority: 0 };
    let flow = harness.flow.clone();
    harness.client.request(Timestamp::default(), &shard, &flow, paced, DispatchHistory::NeverSent);
    let PermitMessage::Update(update) = harness.sent() else { panic!("a request") };
    assert_eq!((update.follows, update.number, update.released), (2, 3, vec![call(2_001)]));
    let wanted: Vec<CallId> = update.wanted.into_iter().map(|wanted| wanted.call).collect();
    assert_eq!(wanted, [call(2_002)]);
}

#[test]
fn a_request_follows_on_what_a_coordinator_cannot_know() {
    // The coordinator asks for a request.
    let mut harness = Harness::new(HELD);
    harness.grant("", 0, Vec::new());
    assert!(matches!(harness.sent(), PermitMessage::Request(_)));
    // A worker has a call, and no grant was received for it.
    let (shard, flow) = (harness.shard.clone(), harness.flow.clone());
    harness.client.hold(Timestamp::default(), &shard, &flow, call(5_000), pace());
    let PermitMessage::Request(request) = harness.sent() else { panic!("an update") };
    assert_eq!(request.held.len(), HELD + 1);
    // A call may have a permit from before.
    let paced = PacedCall { call: call(6_000), pace: pace(), priority: 0 };
    harness.client.request(Timestamp::default(), &shard, &flow, paced, DispatchHistory::MaybeSent);
    assert!(matches!(harness.sent(), PermitMessage::Request(request) if request.wants_reply));
}

#[test]
fn pages_of_the_tasks_of_a_shard_follow_one_another_and_end() {
    let mut client = PermitClient::new("e".into(), EngineSecret::new([7; 32]));
    let shards: [Shard; 3] = ["0", "1", "2"].map(|shard| shard.parse().unwrap());
    for (index, shard) in shards.iter().enumerate() {
        for number in 0..120 {
            let flow = format!("f{number:03}").parse().unwrap();
            client.hold(Timestamp::default(), shard, &flow, call(1_000 * index + number), pace());
        }
    }
    let (mut seen, mut question) = (Vec::new(), PermitsQuestion::default());
    loop {
        let PermitsAnswer { tasks } = client.describe(&shards[1], &question);
        let Some(last) = tasks.last() else { break };
        assert!(tasks.len() <= MAX_LISTED_TASKS);
        question.after = Some((last.flow.clone(), last.task.clone()));
        seen.extend(tasks.into_iter().map(|task| (task.flow.to_string(), task.held)));
    }
    let expected: Vec<(String, u64)> = (0..120).map(|number| (format!("f{number:03}"), 1)).collect();
    assert_eq!(seen, expected);
}

#[test]
fn an_answer_looks_only_at_tasks_that_a_question_is_about() {
    let mut client = PermitClient::new("e".into(), EngineSecret::new([7; 32]));
    let shards: [Shard; 2] = ["0", "1"].map(|shard| shard.parse().unwrap());
    let flows = ["a", "shop", "shop/b", "shop/f", "shop-2/f", "t"];
    for (number, (shard, flow)) in shards.iter().flat_map(|shard| flows.map(|flow| (shard, flow))).enumerate() {
        client.hold(Timestamp::default(), shard, &flow.parse().unwrap(), call(number), pace());
    }
    let answered = |client: &PermitClient, namespace: &str, flow: Option<&str>, after: Option<&str>| {
        let question = PermitsQuestion {
            namespace: Some(namespace).filter(|namespace| !namespace.is_empty()).map(|name| name.parse().unwrap()),
            flow: flow.map(|flow| flow.parse().unwrap()),
            after: after.map(|flow| (flow.parse().unwrap(), call(0).task)),
        };
        let tasks = client.describe(&shards[0], &question).tasks;
        tasks.iter().map(|task| task.flow.as_str()).collect::<Vec<_>>().join(" ")
    };
    for (namespace, flow, after, expected) in [
        ("", None, None, "a shop shop-2/f shop/b shop/f t"),
        ("", None, Some("shop/b"), "shop/f t"),
        ("", Some("shop/b"), None, "shop/b"),
        ("", Some("missing"), None, ""),
        ("shop", None, None, "shop/b shop/f"),
        ("shop", None, Some("a"), "shop/b shop/f"),
        ("shop", None, Some("shop/b"), "shop/f"),
        ("shop", None, Some("t"), ""),
        ("shop", Some("shop/f"), None, "shop/f"),
        ("shop", Some("t"), None, ""),
        ("missing", None, None, ""),
    ] {
        assert_eq!(answered(&client, namespace, flow, after), expected, "{namespace} {flow:?} {after:?}");
    }
    // The calls go. Until their coordinators know it, their tasks are there, and an answer skips no more of them than it may have.
    let gone: Vec<CallId> = (0..MAX_LISTED_TASKS).map(|number| call(1_000 + number)).collect();
    for (number, call) in gone.iter().enumerate() {
        let flow = format!("gone/f{number:03}").parse().unwrap();
        client.hold(Timestamp::default(), &shards[0], &flow, call.clone(), pace());
    }
    gone.iter().for_each(|call| client.release(call));
    let first = client.describe(&shards[0], &PermitsQuestion::default()).tasks;
    assert_eq!(first.len(), MAX_LISTED_TASKS);
    let last = first.last().map(|task| (task.flow.clone(), task.task.clone()));
    let rest = client.describe(&shards[0], &PermitsQuestion { after: last, ..PermitsQuestion::default() }).tasks;
    let rest: Vec<&str> = rest.iter().map(|task| task.flow.as_str()).collect();
    assert_eq!(rest, ["shop", "shop-2/f", "shop/b", "shop/f", "t"], "a short answer is the last one");
}
