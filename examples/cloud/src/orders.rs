//! The orders of a shop, by day and page. They follow from the day alone, so a page that is read again is the same.

use serde::Serialize;

/// The number of pages of a day.
const PAGES: u32 = 5;

/// The number of orders on a page.
const ORDERS: u32 = 20;

/// One page of the orders of a day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Page {
    day: String,
    page: u32,
    /// The number of pages.
    pages: u32,
    orders: Vec<Order>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Order {
    id: String,
    customer: String,
    /// The price, in cents.
    cents: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum State {
    Paid,
    Cancelled,
}

/// A page, counted from 1; `None` after the last one.
pub(crate) fn page(day: &str, page: u32) -> Option<Page> {
    if !(1..=PAGES).contains(&page) {
        return None;
    }
    let first = (page - 1) * ORDERS;
    let orders = (first + 1..=first + ORDERS).map(|number| order(day, number)).collect();
    Some(Page { day: day.to_owned(), page, pages: PAGES, orders })
}

/// Each tenth order is cancelled.
fn order(day: &str, number: u32) -> Order {
    let seed = day.bytes().fold(u64::from(number), |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(byte)));
    Order {
        id: format!("{day}-{number}"),
        customer: format!("customer-{}", seed % 37),
        cents: 500 + seed % 9_500,
        state: if number.is_multiple_of(10) { State::Cancelled } else { State::Paid },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_pages_of_a_day_have_different_orders_and_never_change() {
        let pages: Vec<Page> = (1..=PAGES).map(|number| page("2026-03-01", number).unwrap()).collect();
        let ids: BTreeSet<&str> = pages.iter().flat_map(|page| &page.orders).map(|order| &*order.id).collect();
        assert_eq!(ids.len() as u32, PAGES * ORDERS);
        assert_eq!(page("2026-03-01", 2).unwrap(), pages[1]);
        assert_ne!(page("2026-03-02", 2).unwrap().orders, pages[1].orders);
        assert_eq!((page("2026-03-01", 0), page("2026-03-01", PAGES + 1)), (None, None));
    }
}
