//! Who waits for whom at a server, and what a list goes through.

use super::*;
use crate::access::Access as _;

/// A client that sleeps for an hour, whatever its limit is.
const SLEEP: &str = "SET statement_timeout = 0; SELECT pg_sleep(3600)";

fn for_clients(logbook: &Postgres) -> Postgres {
    Postgres { connections: logbook.connections.clone(), purpose: Purpose::Clients }
}

/// Waits until this number of queries sleep in the database.
async fn until_sleeping(logbook: &Postgres, expected: usize) {
    let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
        AND pid <> pg_backend_pid() AND query LIKE '%pg_sleep%'";
    loop {
        let sleeping = logbook.with_connection(async |client| client.query_one(count, &[]).await?.try_get::<_, i64>(0));
        if sleeping.await.unwrap() == expected as i64 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn clients_take_no_connection_of_an_engine_or_of_lookups_and_the_queries_of_those_who_left_end() {
    let Some(server) = Server::find() else { return };
    let engine = Postgres::with(server.database().await).await.unwrap();
    let clients = for_clients(&engine);
    let most = Purpose::Clients.max_connections();
    let sleep = || clients.with_connection(async |client| client.batch_execute(SLEEP).await);
    let mut slow = Box::pin(future::join_all((0..most).map(|_| sleep())));
    let driving = async {
        until_sleeping(&engine, most).await;
        assert_eq!(engine.append(vec![append("r", 0, RunState::Running)]).await.unwrap(), [AppendOutcome::Durable]);
        let run = RunId::new("r").unwrap();
        assert_eq!(engine.load(&run).await.unwrap().version(), Version::new(1));
        assert_eq!(engine.open_runs(&Shard::new("s").unwrap()).await.unwrap().len(), 1);
        assert_eq!(clients.summary(&run).await.unwrap().version, Version::new(1));
        assert_eq!(clients.token(&Digest::from_bytes([1; 32])).await.unwrap(), None);
    };
    tokio::select! { _ = &mut slow => panic!("they sleep for an hour"), () = driving => {} }
    drop(slow);
    until_sleeping(&engine, 0).await;
    // Their connections are free again.
    let run = RunId::new("r").unwrap();
    let loads = future::join_all((0..2 * most).map(|_| clients.load(&run))).await;
    assert!(loads.iter().all(Result::is_ok), "{loads:?}");
    server.clean_up().await;
}

#[tokio::test]
async fn only_the_queries_of_clients_have_a_limit_at_the_server() {
    let Some(server) = Server::find() else { return };
    let engine = Postgres::with(server.database().await).await.unwrap();
    let limit = async |client: &mut Client| client.query_one("SHOW statement_timeout", &[]).await?.try_get(0);
    let limits: [String; 4] = [
        for_clients(&engine).with_connection(limit).await.unwrap(),
        for_clients(&engine).look_up(limit).await.unwrap(),
        engine.with_connection(limit).await.unwrap(),
        for_clients(&engine).with_connection_unbounded(limit).await.unwrap(),
    ];
    assert_eq!(limits, ["10s", "10s", "0", "0"]);
    server.clean_up().await;
}

#[tokio::test]
async fn a_list_goes_through_the_runs_that_it_is_about() {
    let Some(server) = Server::find() else { return };
    let logbook = Postgres::with(server.database().await).await.unwrap();
    let runs = "INSERT INTO waft.runs (id, shard, flow, state, version, started_at, changed_at)
        SELECT 'r' || n, 's' || n % 8, CASE WHEN n % 1000 = 0 THEN 'shop/f' ELSE 'other/' || n % 2 END,
            CASE WHEN n % 500 = 3 THEN 'suspended' ELSE 'success' END, 1, n, n FROM generate_series(1, 20000) AS n;
        ANALYZE waft.runs";
    logbook.with_connection(async |client| client.batch_execute(runs).await).await.unwrap();
    let (flow, namespace) = (Some("shop/f".parse().unwrap()), Some("shop".parse().unwrap()));
    let suspended = Filter {
        shard: Some(Shard::new("s3").unwrap()),
        states: vec![RunState::Suspended],
        limit: usize::MAX >> 1,
        ..Filter::default()
    };
    for (filter, index, count) in [
        (Filter::default(), "runs_youngest", 100),
        (Filter { flow, ..Filter::default() }, "runs_of_flow", 20),
        (Filter { namespace, ..Filter::default() }, "runs_of_namespace", 20),
        (suspended, "runs_suspended", 20),
    ] {
        let [start] = runs_query::choose(&filter, &[])[..] else { panic!("{filter:?} has one start") };
        let Statement { sql, parameters } = runs_query::list(&filter, start, POSTGRES);
        let params: Vec<_> = parameters.iter().map(read::parameter).collect();
        let plan = logbook.with_connection(async |client| client.query(&format!("EXPLAIN {sql}"), &params).await);
        let plan: Vec<String> = plan.await.unwrap().iter().map(|row| row.get(0)).collect();
        assert!(plan.iter().any(|line| line.contains(index)), "{sql}: {plan:#?}");
        assert_eq!(logbook.list(&filter).await.unwrap().len(), count);
    }
    server.clean_up().await;
}
