//! Answers to requests outside waft, for tests.

use std::cell::RefCell;

use super::{Error, ErrorKind, Request, Response};

type Answer<'a> = Box<dyn FnMut(&Request) -> Result<Response, ErrorKind> + 'a>;

thread_local! {
    static ANSWER: RefCell<Option<Answer<'static>>> = const { RefCell::new(None) };
}

/// Runs a test in which `answer` answers the requests of this thread.
///
/// ```
/// use waft_guest::http::{self, Response};
///
/// let answer = |request: &http::Request| {
///     assert_eq!(request.url(), "https://api.example.com/pans");
///     Ok(Response::new(200, "[20, 24]"))
/// };
/// let sizes: Vec<u32> = http::answer_with(answer, || http::get("https://api.example.com/pans").unwrap().json().unwrap());
/// assert_eq!(sizes, [20, 24]);
/// ```
///
/// # Panics
/// When it is called inside itself.
pub fn answer_with<T>(
    answer: impl FnMut(&Request) -> Result<Response, ErrorKind> + 'static,
    test: impl FnOnce() -> T,
) -> T {
    /// Also after a panic, other tests of this thread get no answers of this one.
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            ANSWER.take();
        }
    }
    let before = ANSWER.replace(Some(Box::new(answer)));
    assert!(before.is_none(), "answer_with is called inside itself");
    let _reset = Reset;
    test()
}

pub(super) fn send(request: &Request) -> Result<Response, Error> {
    ANSWER.with_borrow_mut(|answer| match answer {
        Some(answer) => match answer(request) {
            Ok(response) => Ok(Response { request: request.describe(), ..response }),
            Err(kind) => Err(request.error(kind)),
        },
        None => {
            let reason = "outside waft nothing is sent: in a test, call it inside http::answer_with";
            Err(request.error(ErrorKind::Unreachable(reason.into())))
        }
    })
}
