//! Reads the metrics of a process as Prometheus does.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use metrics::Line;

/// The answer to a request for metrics.
#[derive(Debug)]
pub struct Scrape {
    /// The status.
    pub status: u16,
    /// The content type.
    pub content_type: String,
    /// The body.
    pub text: String,
}

impl Scrape {
    /// Asks for a path at an address, `127.0.0.1:7468` or with `http://` before it; with a token, unless it is empty.
    ///
    /// # Panics
    /// When nobody answers.
    #[must_use]
    pub fn of(address: &str, path: &str, token: &str) -> Self {
        let host = address.trim_start_matches("http://").split('/').next().expect("it has a host");
        let mut stream = TcpStream::connect(host).expect("it listens");
        let token = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
        // Without chunks, and the connection ends with the answer.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n{token}\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers in UTF-8");
        let (head, text) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("an answer has a status");
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-type").then(|| value.to_owned())
        };
        let content_type = head.lines().find_map(header).unwrap_or_default();
        Self { status, content_type, text: text.to_owned() }
    }

    /// The metrics of a process.
    ///
    /// # Panics
    /// When it does not show them, or not in the format.
    #[track_caller]
    #[must_use]
    pub fn metrics(address: &str, token: &str) -> Samples {
        let scrape = Self::of(address, "/metrics", token);
        assert_eq!((scrape.status, &*scrape.content_type), (200, metrics::CONTENT_TYPE), "{}", scrape.text);
        Samples::read(&scrape.text)
    }
}

/// The numbers of all series: `waft_runs_total{flow="f",state="success"}`.
#[derive(Debug)]
pub struct Samples(BTreeMap<String, f64>);

impl Samples {
    fn read(text: &str) -> Self {
        let lines = metrics::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let series = lines.into_iter().filter_map(|line| match line {
            Line::Sample { name, labels, number } => {
                let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={value:?}")).collect();
                let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
                Some((format!("{name}{labels}"), number))
            }
            Line::Help { .. } | Line::Type { .. } => None,
        });
        Self(series.collect())
    }

    /// The number of a series, whose labels are in order of their names.
    #[must_use]
    pub fn get(&self, series: &str) -> Option<f64> {
        self.0.get(series).copied()
    }

    /// The series of a metric with another number than 0, each as `{labels} number`, in order.
    #[must_use]
    pub fn of(&self, metric: &str) -> Vec<String> {
        let of_metric = |(series, number): (&String, &f64)| {
            let labels = series.strip_prefix(metric).filter(|rest| rest.is_empty() || rest.starts_with('{'))?;
            (*number != 0.0).then(|| format!("{labels} {number}").trim_start().to_owned())
        };
        self.0.iter().filter_map(of_metric).collect()
    }
}
