//! Loads the orders of a day into a warehouse: reads the pages of an HTTP API, transforms each page, and loads its rows into
//! PostgreSQL. Each page is a batch of its own, which a retry does not load again and a rollback deletes. The shop with the API is
//! a service of `examples/cloud`.

mod postgres;
mod warehouse;

use waft_guest::{http, prelude::*};

use crate::warehouse::Row;

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
fn load_page(
    call: &Call,
    page: &Page,
    cloud: Option<String>,
    /// The address of the warehouse; the default is `postgres://etl@127.0.0.1:5432/warehouse`.
    warehouse: Option<String>,
) -> Result<Loaded, Failure> {
    let rows = paid(read_page(cloud.as_deref(), &page.day, page.number)?);
    // The key is the same for each attempt of this page, so the warehouse has one batch of it.
    let loaded = warehouse::load(warehouse.as_deref(), &call.idempotency_key, &rows)?;
    log::info!("page {} has {} rows in the warehouse", page.number, loaded.rows);
    Ok(loaded)
}

/// The rollback has the key of the load, so it also deletes a batch whose answer was lost, and no other.
#[rollback]
fn delete_batch(call: &Call, page: &Page, warehouse: Option<String>) -> Result<(), Failure> {
    let rows = warehouse::delete(warehouse.as_deref(), &call.idempotency_key)?;
    log::info!("deleted {rows} rows of page {}", page.number);
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
    let url = format!("{}/v1/orders?day={day}&page={number}", cloud.unwrap_or(CLOUD));
    Ok(http::Request::get(url).bearer(http::secret("CLOUD_TOKEN")).send()?.success()?.json()?)
}

/// The rows of the paid orders of a page.
fn paid(page: PageOfOrders) -> Vec<Row> {
    let paid = page.orders.into_iter().filter(|order| order.state == "paid");
    paid.map(|Order { id, customer, cents, .. }| Row { id, customer, cents }).collect()
}

waft_guest::export!(list_pages, load_page, check_total);

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"{"day":"2026-03-01","page":1,"pages":3,"orders":[
        {"id":"1","customer":"ann","cents":500,"state":"paid"},
        {"id":"2","customer":"bob","cents":700,"state":"cancelled"},
        {"id":"3","customer":"cleo","cents":900,"state":"paid"}]}"#;

    fn page(number: u32) -> Page {
        Page { day: "2026-03-01".into(), number }
    }

    fn answer(request: &http::Request) -> Result<http::Response, http::ErrorKind> {
        let (is_token, url) = (request.find_header("authorization"), request.url());
        assert_eq!(is_token, Some("Bearer {{secret:CLOUD_TOKEN}}"));
        assert!(url.starts_with("http://127.0.0.1:7480/v1/orders?day=20"), "{url}");
        Ok(http::Response::new(200, ANSWER))
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
    fn paid_orders_become_rows() {
        let page = http::answer_with(answer, || read_page(None, "2026-03-01", 1)).unwrap();
        let row = |id: &str, customer: &str, cents| Row { id: id.into(), customer: customer.into(), cents };
        assert_eq!(paid(page), [row("1", "ann", 500), row("3", "cleo", 900)]);
    }

    #[test]
    fn too_few_rows_are_a_failure() {
        let loaded = vec![Loaded { rows: 2, cents: 10 }, Loaded { rows: 3, cents: 20 }];
        assert_eq!(check_total(loaded.clone(), Some(5)).unwrap(), Loaded { rows: 5, cents: 30 });
        let failure = check_total(loaded, Some(6)).unwrap_err();
        assert_eq!(failure.message(), "only 5 rows were loaded, and 6 are the minimum of a day");
    }
}
