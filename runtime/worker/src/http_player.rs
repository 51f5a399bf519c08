//! Answers the requests of a replayed call from its record. Nothing reaches a network.

use std::sync::{Mutex, MutexGuard, PoisonError};

use flow::HttpTarget;
use futures::future::BoxFuture;
use gateway::{HttpError, HttpRequest, HttpResponse, Outbound};
use protocol::{HttpExchange, HttpExchanges, RecordedAnswer, RecordedRequest};

use crate::http_recorder::{recorded_request, replayed_answer};

/// The maximum number of requests without a recorded answer that are described.
const MAX_MISMATCHES: usize = 20;

/// The record of one call, and how far it was used.
#[derive(Debug)]
pub(crate) struct HttpPlayer(Mutex<Playing>);

#[derive(Debug)]
struct Playing {
    /// The exchanges that no request has used yet, with their numbers from 1.
    left: Vec<(usize, HttpExchange)>,
    /// The number of recorded exchanges; `None` if the requests of the call were not recorded.
    recorded: Option<usize>,
    was_cut: bool,
    /// The number of requests so far.
    requests: usize,
    mismatches: Vec<String>,
}

impl HttpPlayer {
    pub(crate) fn new(HttpExchanges { exchanges, cut }: HttpExchanges) -> Self {
        let recorded = Some(exchanges.len());
        let left = (1..).zip(exchanges).collect();
        Self(Mutex::new(Playing { left, recorded, was_cut: cut, requests: 0, mismatches: Vec::new() }))
    }

    /// Answers nothing, since nothing was recorded.
    pub(crate) fn unrecorded() -> Self {
        let (left, mismatches) = (Vec::new(), Vec::new());
        Self(Mutex::new(Playing { left, recorded: None, was_cut: false, requests: 0, mismatches }))
    }

    /// The requests that had no recorded answer, each in a sentence, and the recorded requests that were not sent.
    pub(crate) fn differences(&self) -> (Vec<String>, usize) {
        let playing = self.playing();
        (playing.mismatches.clone(), playing.left.len())
    }

    fn playing(&self) -> MutexGuard<'_, Playing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbound for HttpPlayer {
    fn check(&self, target: &HttpTarget) -> Result<(), String> {
        let mut playing = self.playing();
        let next = playing.left.iter().position(|(_, exchange)| is_for(&exchange.request, target));
        match next.map(|index| (index, playing.left[index].1.answer.clone())) {
            Some((index, RecordedAnswer::DeniedAtOnce(reason))) => {
                playing.left.remove(index);
                playing.requests += 1;
                Err(reason)
            }
            // The request follows.
            Some(_) | None => Ok(()),
        }
    }

    fn send(&self, request: HttpRequest) -> BoxFuture<'static, Result<HttpResponse, HttpError>> {
        let answer = self.playing().answer(&request);
        Box::pin(async { answer })
    }
}

impl Playing {
    fn answer(&mut self, request: &HttpRequest) -> Result<HttpResponse, HttpError> {
        self.requests += 1;
        let sent = recorded_request(request);
        let fits = |(_, HttpExchange { request, answer, .. }): &(usize, HttpExchange)| match answer {
            RecordedAnswer::DeniedAtOnce(_) => (&request.method, &request.url) == (&sent.method, &sent.url),
            RecordedAnswer::Response { .. } | RecordedAnswer::Failed(_) | RecordedAnswer::None => *request == sent,
        };
        let Some(index) = self.left.iter().position(fits) else {
            return Err(self.mismatch(&request.target, self.missing(&sent)));
        };
        let (number, exchange) = self.left.remove(index);
        match replayed_answer(exchange.answer) {
            Some(answer) => answer,
            None if self.was_cut => {
                let reason = format!("the answer of the recorded request {number} was too large to be recorded");
                Err(self.mismatch(&request.target, reason))
            }
            None => {
                let reason = format!("the recorded call ended before the answer of its request {number}");
                Err(self.mismatch(&request.target, reason))
            }
        }
    }

    /// Why a request has no recorded answer.
    fn missing(&self, sent: &RecordedRequest) -> String {
        let same_target = |(_, HttpExchange { request, .. }): &&(usize, HttpExchange)| {
            (&request.method, &request.url) == (&sent.method, &sent.url)
        };
        if let Some((number, exchange)) = self.left.iter().find(same_target) {
            return format!("it differs from the recorded request {number}: {}", difference(&exchange.request, sent));
        }
        let Some(recorded) = self.recorded else { return "the requests of the call were not recorded".to_owned() };
        if self.was_cut {
            return format!("the record was cut after {recorded} requests, since it had become too large");
        }
        match self.left.first() {
            Some((number, HttpExchange { request: RecordedRequest { method, url, .. }, .. })) => {
                format!("the recorded request {number} is {method} {}", without_query(url))
            }
            None => format!("the recorded call sent {recorded} requests, and all were answered"),
        }
    }

    fn mismatch(&mut self, target: &HttpTarget, reason: String) -> HttpError {
        let text = format!("request {}, {target}, has no recorded answer: {reason}", self.requests);
        if self.mismatches.len() < MAX_MISMATCHES {
            self.mismatches.push(text.clone());
        }
        HttpError::Protocol { reason: text }
    }
}

fn is_for(request: &RecordedRequest, target: &HttpTarget) -> bool {
    request.method == target.method() && request.url == target.url().as_str()
}

fn without_query(url: &str) -> &str {
    url.split_once('?').map_or(url, |(url, _)| url)
}

/// The first difference of two requests with the same target. Values are not shown: they may be secret.
fn difference(recorded: &RecordedRequest, sent: &RecordedRequest) -> String {
    let names = |request: &RecordedRequest| request.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let (recorded_names, sent_names) = (names(recorded), names(sent));
    if let Some(name) = sent_names.iter().find(|name| !recorded_names.contains(name)) {
        return format!("it has the header {name}");
    }
    if let Some(name) = recorded_names.iter().find(|name| !sent_names.contains(name)) {
        return format!("it lacks the header {name}");
    }
    let values = |request: &RecordedRequest, name: &str| {
        request.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    if let Some(name) = sent_names.iter().find(|name| values(recorded, name) != values(sent, name)) {
        return format!("the header {name} has another value");
    }
    let same = recorded.body.iter().zip(&sent.body).take_while(|(one, other)| one == other).count();
    let (recorded, sent) = (recorded.body.len(), sent.body.len());
    format!("the body has {sent} bytes instead of {recorded}, and differs from byte {same} on")
}
