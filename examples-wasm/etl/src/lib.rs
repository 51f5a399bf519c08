//! Loads the orders of a day into a warehouse: reads the pages of an HTTP API, transforms each page, and loads its rows. Each
//! page is a batch of its own, which a retry does not load again and a rollback deletes. Shop and warehouse are services of
//! `examples/cloud`.

use serde_json::json;
use waft_guest::{http, prelude::*};

/// The address of the cloud, unless the flow has an input `cloud`.
const CLOUD: &str = "http://127.0.0.1:7480";

/// A page of the orders of a day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Page {
    /// The day: `2026-03-01`.
    pub day: String,
    /// The number of the page, from 1.
    pub number: u32,
}

/// What was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Loaded {
    /// The number of rows.
    pub rows: u64,
    /// The sum of their prices, in cents.
    pub cents: u64,
}

/// The answer of the shop.
#[derive(Debug, Deserialize)]
struct PageOfOrders {
    pages: u32,
    orders: Vec<Order>,
}

#[derive(Debug, Deserialize)]
struct Order {
    id: String,
    customer: String,
    cents: u64,
    state: String,
}

/// Lists the pages of a day.
#[task(provides = "pages", retry(attempts = 5, initial = "200ms"))]
fn list_pages(
    /// The day: `2026-03-01`.
    day: Option<String>,
    /// Without a day: the time of the schedule that started this, whose day is loaded.
    scheduled_at: Option<String>,
    /// The address of the cloud; the default is `http://127.0.0.1:7480`.
    cloud: Option<String>,
) -> Result<Vec<Page>, Failure> {
    let day = day.or_else(|| scheduled_at?.get(..10).map(str::to_owned));
    let day = day.ok_or_else(|| Failure::permanent("the flow says no day: set the input `day`"))?;
    let first = read_page(cloud.as_deref(), &day, 1)?;
    Ok((1..=first.pages).map(|number| Page { day: day.clone(), number }).collect())
}

/// Loads a page: its paid orders become rows of the table `orders`.
#[task(provides = "loaded", rollback = delete_batch, retry(attempts = 5, initial = "200ms"))]
fn load_page(call: &Call, page: &Page, cloud: Option<String>) -> Result<Loaded, Failure> {
    let PageOfOrders { orders, .. } = read_page(cloud.as_deref(), &page.day, page.number)?;
    let paid: Vec<Order> = orders.into_iter().filter(|order| order.state == "paid").collect();
    let loaded = Loaded { rows: paid.len() as u64, cents: paid.iter().map(|order| order.cents).sum() };
    let row = |Order { id, customer, cents, .. }: Order| json!({ "id": id, "customer": customer, "cents": cents });
    let rows: Vec<serde_json::Value> = paid.into_iter().map(row).collect();
    // The key is the same for each attempt of this page, so the warehouse has one batch of it.
    let request = request("POST", cloud.as_deref(), "/v1/warehouse/orders").idempotency_key(call);
    request.json(&json!({ "rows": rows })).send()?.success()?;
    log::info!("loaded {} rows of page {}", loaded.rows, page.number);
    Ok(loaded)
}

/// The rollback has the key of the load, so it also deletes a batch whose answer was lost.
#[rollback]
fn delete_batch(call: &Call, page: &Page, cloud: Option<String>) -> Result<(), Failure> {
    let response = request("DELETE", cloud.as_deref(), &format!("/v1/requests/{}", call.idempotency_key)).send()?;
    if response.status() == 404 {
        log::info!("page {} was not loaded", page.number);
        return Ok(());
    }
    response.success()?;
    log::info!("deleted the rows of page {}", page.number);
    Ok(())
}

/// Adds up what was loaded. Too few rows are a failure: then the batches are deleted.
#[task(provides = "total")]
fn check_total(
    loaded: Vec<Loaded>,
    /// The minimum number of rows; the default is 1.
    min_rows: Option<u64>,
) -> Result<Loaded, Failure> {
    let add = |sum: Loaded, page: &Loaded| Loaded { rows: sum.rows + page.rows, cents: sum.cents + page.cents };
    let total = loaded.iter().fold(Loaded::default(), add);
    let min_rows = min_rows.unwrap_or(1);
    if total.rows < min_rows {
        let message = format!("only {} rows were loaded, and {min_rows} are the minimum of a day", total.rows);
        return Err(Failure::permanent(message));
    }
    Ok(total)
}

fn read_page(cloud: Option<&str>, day: &str, number: u32) -> Result<PageOfOrders, Failure> {
    let path = format!("/v1/orders?day={day}&page={number}");
    Ok(request("GET", cloud, &path).send()?.success()?.json()?)
}

fn request(method: &str, cloud: Option<&str>, path: &str) -> http::Request {
    let url = format!("{}{path}", cloud.unwrap_or(CLOUD));
    http::Request::new(method, url).bearer(http::secret("CLOUD_TOKEN"))
}

waft_guest::export!(list_pages, load_page, check_total);

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const ANSWER: &str = r#"{"day":"2026-03-01","page":1,"pages":3,"orders":[
        {"id":"1","customer":"ann","cents":500,"state":"paid"},
        {"id":"2","customer":"bob","cents":700,"state":"cancelled"},
        {"id":"3","customer":"cleo","cents":900,"state":"paid"}]}"#;

    fn page(number: u32) -> Page {
        Page { day: "2026-03-01".into(), number }
    }

    fn answer(request: &http::Request) -> Result<http::Response, http::ErrorKind> {
        Ok(if request.method() == "GET" { http::Response::new(200, ANSWER) } else { http::Response::new(201, "{}") })
    }

    #[test]
    fn the_day_is_an_input_or_that_of_the_schedule() {
        let pages = |day: Option<&str>, at: Option<&str>| {
            http::answer_with(answer, || list_pages(day.map(String::from), at.map(String::from), None))
        };
        assert_eq!(pages(Some("2026-03-01"), None).unwrap(), [page(1), page(2), page(3)]);
        let at_night = "2026-03-01T03:00:00Z";
        assert_eq!(pages(None, Some(at_night)).unwrap(), [page(1), page(2), page(3)]);
        assert_eq!(pages(Some("2025-12-24"), Some(at_night)).unwrap()[0].day, "2025-12-24");
        assert!(pages(None, None).unwrap_err().message().contains("set the input `day`"));
    }

    #[test]
    fn paid_orders_are_loaded_once_for_a_key() {
        thread_local!(static SENT: RefCell<Vec<http::Request>> = const { RefCell::new(Vec::new()) });
        let note = |request: &http::Request| {
            SENT.with_borrow_mut(|sent| sent.push(request.clone()));
            answer(request)
        };
        let call = Call { idempotency_key: "r.load-page[0].1".into(), ..Call::default() };
        let loaded = http::answer_with(note, || load_page(&call, &page(1), None)).unwrap();
        assert_eq!(loaded, Loaded { rows: 2, cents: 1_400 });
        let sent = SENT.take();
        assert_eq!(sent[0].url(), "http://127.0.0.1:7480/v1/orders?day=2026-03-01&page=1");
        assert_eq!(sent[1].find_header("idempotency-key"), Some("r.load-page[0].1"));
        let body: serde_json::Value = serde_json::from_slice(sent[1].body_bytes()).unwrap();
        assert_eq!(body["rows"][1], json!({ "id": "3", "customer": "cleo", "cents": 900 }));
    }

    #[test]
    fn too_few_rows_are_a_failure() {
        let loaded = vec![Loaded { rows: 2, cents: 10 }, Loaded { rows: 3, cents: 20 }];
        assert_eq!(check_total(loaded.clone(), Some(5)).unwrap(), Loaded { rows: 5, cents: 30 });
        let failure = check_total(loaded, Some(6)).unwrap_err();
        assert_eq!(failure.message(), "only 5 rows were loaded, and 6 are the minimum of a day");
    }
}
