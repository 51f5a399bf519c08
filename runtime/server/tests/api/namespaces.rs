//! What a sender that is limited to a namespace gets to know of the rest of the server.

use std::path::Path;

use flow::Timestamp;
use store::{Directory, Modules, Policy, Rule, SigningKey, Store as _};

use super::*;

/// A flow with a module that only its tag names.
const USES_KITCHEN: &str = "name = \"f\"\n[modules]\nm = \"kitchen\"\n[[task]]\nname = \"t\"\nuse = \"m#t\"\n";

async fn limited_token(harness: &Harness) -> String {
    let scopes = vec![Scope::Read, Scope::Submit, Scope::Push];
    let new = NewToken { name: "limited".into(), scopes, namespace: Some("shop".into()), expires_in: None };
    harness.client().create_token(&new).await.unwrap().secret
}

/// The texts of the problems that the owner of the server and a limited sender get when they ask for the module `kitchen` and
/// submit a flow with it.
async fn problems(harness: &Harness) -> [[String; 2]; 2] {
    let secret = limited_token(harness).await;
    let limited = Client::new(&format!("http://{}", harness.address), Some(secret.clone())).unwrap();
    let show = || harness.request(Method::GET, "/v1/modules/kitchen");
    let text = |problem: &Problem| serde_json::to_string(problem).unwrap();
    let [owner, sender] = [show(), show().bearer_auth(&secret)];
    let [owner, sender] = [text(&problem(owner).await), text(&problem(sender).await)];
    let submit = async |client: Client| text(&refusal(client.submit(&submission(USES_KITCHEN)).await));
    [[owner, sender], [submit(harness.client()).await, submit(limited).await]]
}

async fn over_store(folder: &Path) -> Dependencies {
    let sandbox = sandbox::Sandbox::new(sandbox::Config::default()).unwrap();
    let store = Directory::open(folder.to_owned()).await.unwrap();
    let digest = store.put("pan".into()).await.unwrap();
    store.tag(&"kitchen".parse().unwrap(), &digest).await.unwrap();
    Dependencies::in_memory(Arc::new(Memory::new()), Arc::new(store), sandbox).await.unwrap()
}

#[tokio::test]
async fn a_refusal_names_neither_rules_nor_signers_and_tags_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let dependencies = over_store(folder.path()).await;
    let key = SigningKey::generate().unwrap();
    let digest = store::digest_of(b"pan");
    let signature = key.sign(digest, Some("other/kit:1".parse().unwrap()), Timestamp::from_micros(0)).unwrap();
    dependencies.modules.store.sign(&signature, &Policy::default()).await.unwrap();
    let rule = Rule::Signer { signer: key.signer(), tags: vec!["admin:*".parse().unwrap()] };
    let policy = Policy { modules: Modules::Listed(vec![rule]), ..Policy::default() };
    dependencies.modules.admission.replace(policy);
    let harness = Harness::over(config(None), dependencies).await;
    let secrets = ["other/kit:1", "admin:*", &key.signer().to_string()];
    for [owner, limited] in problems(&harness).await {
        for secret in secrets {
            assert!(owner.contains(secret), "{secret}: {owner}");
            assert!(!limited.contains(secret), "{secret}: {limited}");
        }
        assert!(owner.contains("sign the module with the key of an admitted signer"), "{owner}");
        let says = [&format!("module {digest} is not admitted: none of its signatures counts here"), "ask an operator"];
        assert!(says.iter().all(|says| limited.contains(says)), "{limited}");
        assert!(!owner.contains("was not found") && !limited.contains("was not found"), "{owner} {limited}");
    }
}

#[tokio::test]
async fn an_answer_names_no_path_of_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let dependencies = over_store(folder.path()).await;
    std::fs::write(folder.path().join("tags/kitchen"), "no digest").unwrap();
    let harness = Harness::over(config(None), dependencies).await;
    let path = folder.path().display().to_string();
    for [owner, limited] in problems(&harness).await {
        assert!(owner.contains(&path), "{owner}");
        assert!(!limited.contains(&path) && limited.contains("the log of the server has the reason"), "{limited}");
    }
}

/// Fails each append, with the words of a driver.
struct FailsAppends;

const DRIVER: &str = "no space left at /srv/logbook";

#[async_trait]
impl AppendInterceptor for FailsAppends {
    async fn before(&self, _: &[Append]) -> Result<(), AppendError> {
        Err(AppendError::Unavailable { reason: DRIVER.into() })
    }

    async fn after(&self) -> Result<(), AppendError> {
        Ok(())
    }
}

#[tokio::test]
async fn an_answer_has_no_text_of_the_logbook() {
    let logbook = InterceptedLogbook::new(Arc::new(Memory::new()), Arc::new(FailsAppends));
    let harness = Harness::over(config(None), dependencies_over(Arc::new(logbook)).await).await;
    let limited = Client::new(&format!("http://{}", harness.address), Some(limited_token(&harness).await)).unwrap();
    let [owner, limited] =
        [harness.client(), limited].map(async |client| refusal(client.submit(&submission(WAITS)).await));
    let (owner, limited) = (owner.await, limited.await);
    assert!(owner.status == 503 && owner.detail.contains(DRIVER), "{owner:?}");
    assert_eq!((limited.status, limited.detail.as_str()), (503, "the log of the server has the reason"));
    assert!(limited.hint.is_some_and(|hint| hint.contains("submit it again")), "the hint is about the request");
}

#[tokio::test]
async fn only_a_sender_for_the_whole_server_learns_why_it_is_not_ready() {
    let harness = Harness::new().await;
    let secret = limited_token(&harness).await;
    harness.engine.stop().await;
    let owner = harness.problem(Method::GET, "/ready").await.detail;
    let limited = problem(harness.request(Method::GET, "/ready").bearer_auth(secret)).await.detail;
    assert_ne!(owner, limited);
    assert!(limited.contains("a request with a token for all of it receives the reason"), "{limited}");
}

#[tokio::test]
async fn nobody_finds_out_whether_another_namespace_has_a_value() {
    let dependencies = dependencies().await;
    let store = dependencies.modules.store.clone();
    let harness = Harness::over(config(None), dependencies).await;
    let secret = limited_token(&harness).await;
    let limited = Client::new(&format!("http://{}", harness.address), Some(secret.clone())).unwrap();
    let value = store.put("a secret of bank".into()).await.unwrap();
    let unknown = store::digest_of(b"another one");
    let ask = async |digest: flow::Digest| {
        let shown = harness.request(Method::GET, &format!("/v1/modules/{digest}")).bearer_auth(&secret);
        let text = USES_KITCHEN.replace("kitchen", &digest.to_string());
        let submitted = refusal(limited.submit(&submission(&text)).await);
        let texts = [serde_json::to_string(&problem(shown).await), serde_json::to_string(&submitted)];
        texts.map(|text| {
            text.unwrap().replace(&digest.to_string(), "DIGEST").replace(&digest.short().to_string(), "DIGEST")
        })
    };
    assert_eq!(ask(value).await, ask(unknown).await);
    let owner = problem(harness.request(Method::GET, &format!("/v1/modules/{value}"))).await;
    assert_eq!(owner.status, 422, "who may see everything learns what it is");
}

/// The numbers of contents on all pages of a list.
async fn pages(client: &Client, mut query: client::api::ModulesQuery) -> Vec<usize> {
    let mut pages = Vec::new();
    loop {
        let page = client.modules(&query).await.unwrap();
        pages.push(page.modules.len());
        match page.next {
            Some(next) => query = query.after(next),
            None => return pages,
        }
    }
}

#[tokio::test]
async fn a_list_of_modules_has_pages() {
    let dependencies = dependencies().await;
    let store = dependencies.modules.store.clone();
    let harness = Harness::over(config(None), dependencies).await;
    let secret = limited_token(&harness).await;
    let limited = Client::new(&format!("http://{}", harness.address), Some(secret)).unwrap();
    for tag in [Some("shop/a"), Some("shop/b"), Some("bank/a"), Some("c"), None, None, None] {
        let content = store.list().await.unwrap().len().to_string();
        let digest = store.put(content.into()).await.unwrap();
        if let Some(tag) = tag {
            store.tag(&tag.parse().unwrap(), &digest).await.unwrap();
        }
    }
    let query = || client::api::ModulesQuery::default().limit(2);
    assert_eq!(pages(&harness.client(), query()).await, [2, 2, 2, 1]);
    assert_eq!(pages(&harness.client(), query().tagged()).await, [2, 2]);
    assert_eq!(pages(&limited, query()).await, [2, 1], "its own, and those of none");
    let refused = problem(harness.request(Method::GET, "/v1/modules?limit=0")).await;
    assert!(refused.status == 400 && refused.detail.starts_with("limit: 0 is not from 1 to 500"), "{refused:?}");
}

/// Submits a run of a flow that waits for a word, in a namespace.
async fn waits_in(harness: &Harness, namespace: &str) {
    let flow = flow_of(&WAITS.replace("name = \"f\"", &format!("name = \"{namespace}/f\"")));
    harness.engine.submit(RunId::new("r").unwrap(), flow).await.unwrap();
}

#[tokio::test]
async fn a_body_that_arrives_late_reaches_no_later_run_of_another_namespace() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let logbook = Arc::new(Memory::new());
    let harness = Harness::over(config(None), dependencies_over(logbook.clone()).await).await;
    let secret = limited_token(&harness).await;
    waits_in(&harness, "shop").await;
    let body = r#"{"task":"w","values":{"v":"word"}}"#;
    let mut stream = tokio::net::TcpStream::connect(harness.address).await.unwrap();
    let head = format!(
        "POST /v1/runs/r/notify HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {secret}\r\nconnection: close\r\n\
         expect: 100-continue\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server asks for the body, so it has checked the head.
    let mut asked = [0; 25];
    stream.read_exact(&mut asked).await.unwrap();
    assert_eq!(&asked, b"HTTP/1.1 100 Continue\r\n\r\n");
    harness.client().cancel("r").await.unwrap();
    while logbook.delete_ended_runs(Timestamp::from_micros(u64::MAX)).await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    waits_in(&harness, "bank").await;
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert_eq!(harness.client().run("r").await.unwrap().state, RunState::Running);
}

#[tokio::test]
async fn a_run_of_another_namespace_is_not_rehearsed() {
    let harness = Harness::new().await;
    let limited = Client::new(&format!("http://{}", harness.address), Some(limited_token(&harness).await)).unwrap();
    waits_in(&harness, "bank").await;
    let query = client::api::RehearsalQuery::default();
    // The answer is shared for a while, and not with others.
    let cases = harness.client().rehearsal("r", &query).await.unwrap().cases;
    assert_eq!(cases.len(), 2, "{cases:#?}");
    assert_eq!(refusal(limited.rehearsal("r", &query).await).status, 404);
}
