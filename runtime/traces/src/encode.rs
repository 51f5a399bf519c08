//! Spans as a request of OTLP, in protobuf.

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span as WireSpan, Status, span, status},
};
use prost::Message as _;

use crate::{Kind, Span, SpanContext, Value};

/// The flag of a span that is recorded, as in `traceparent`.
const SAMPLED: u32 = 1;

/// Encodes spans as the body of a request. `resource` has the attributes of this process.
#[must_use]
pub fn encode(spans: &[Span], resource: &[(String, String)], version: &str) -> Vec<u8> {
    let text = |(key, value): &(String, String)| attribute(key, any_value::Value::StringValue(value.clone()));
    let scope =
        InstrumentationScope { name: "waft".into(), version: version.to_owned(), ..InstrumentationScope::default() };
    let scope_spans =
        ScopeSpans { scope: Some(scope), spans: spans.iter().map(wire_span).collect(), ..ScopeSpans::default() };
    let resource = Resource { attributes: resource.iter().map(text).collect(), ..Resource::default() };
    let resource_spans =
        ResourceSpans { resource: Some(resource), scope_spans: vec![scope_spans], ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource_spans] }.encode_to_vec()
}

fn wire_span(span: &Span) -> WireSpan {
    let Span { context, parent, link, name, kind, start, end, attributes, has_failed } = span;
    let status = has_failed.then(|| Status { code: status::StatusCode::Error as i32, ..Status::default() });
    WireSpan {
        trace_id: context.trace.as_bytes().to_vec(),
        span_id: context.span.as_bytes().to_vec(),
        // A root has no bytes there.
        parent_span_id: parent.as_ref().map(|parent| parent.span.as_bytes().to_vec()).unwrap_or_default(),
        flags: SAMPLED,
        name: name.clone(),
        kind: wire_kind(*kind) as i32,
        start_time_unix_nano: *start,
        end_time_unix_nano: *end,
        attributes: attributes.iter().map(|(key, value)| attribute(key, wire_value(value))).collect(),
        links: link.iter().map(wire_link).collect(),
        status,
        ..WireSpan::default()
    }
}

fn wire_link(context: &SpanContext) -> span::Link {
    span::Link {
        trace_id: context.trace.as_bytes().to_vec(),
        span_id: context.span.as_bytes().to_vec(),
        flags: u32::from(context.sampled),
        ..span::Link::default()
    }
}

const fn wire_kind(kind: Kind) -> span::SpanKind {
    match kind {
        Kind::Internal => span::SpanKind::Internal,
        Kind::Client => span::SpanKind::Client,
        Kind::Producer => span::SpanKind::Producer,
        Kind::Consumer => span::SpanKind::Consumer,
    }
}

fn wire_value(value: &Value) -> any_value::Value {
    match value {
        Value::Text(text) => any_value::Value::StringValue(text.clone()),
        Value::Number(number) => any_value::Value::IntValue(*number),
        Value::Flag(flag) => any_value::Value::BoolValue(*flag),
    }
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    // What is left out is for profiles.
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_the_one_of_the_protocol() {
        let context: SpanContext = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
        let mut failed = Span::at(context, Kind::Consumer, "process", 7);
        (failed.parent, failed.link, failed.end) = (Some(context), Some(context), 9);
        failed.set("waft.attempt", 3_u64);
        failed.set("waft.redelivered", true);
        failed.fail("timeout");
        let root = Span::at(context, Kind::Internal, "run", 1);
        let bytes = encode(&[failed, root], &[("service.name".into(), "waft".into())], "0.1.0");
        let decoded = ExportTraceServiceRequest::decode(&*bytes).unwrap();
        let [of_resource] = &decoded.resource_spans[..] else { panic!("{decoded:?}") };
        let resource = of_resource.resource.as_ref().unwrap();
        assert_eq!(resource.attributes, [attribute("service.name", any_value::Value::StringValue("waft".into()))]);
        let [of_scope] = &of_resource.scope_spans[..] else { panic!("{decoded:?}") };
        assert_eq!(of_scope.scope.as_ref().unwrap().version, "0.1.0");
        let [failed, root] = &of_scope.spans[..] else { panic!("{decoded:?}") };
        assert_eq!(hex::encode(&failed.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(hex::encode(&failed.span_id), "00f067aa0ba902b7");
        assert_eq!(failed.parent_span_id, failed.span_id);
        assert_eq!((failed.start_time_unix_nano, failed.end_time_unix_nano), (7, 9));
        assert_eq!((failed.kind(), failed.links.len()), (span::SpanKind::Consumer, 1));
        assert_eq!(failed.status.as_ref().unwrap().code(), status::StatusCode::Error);
        let expected = [
            attribute("waft.attempt", any_value::Value::IntValue(3)),
            attribute("waft.redelivered", any_value::Value::BoolValue(true)),
            attribute("error.type", any_value::Value::StringValue("timeout".into())),
        ];
        assert_eq!(failed.attributes, expected);
        assert!(root.parent_span_id.is_empty() && root.status.is_none() && root.links.is_empty());
    }
}
