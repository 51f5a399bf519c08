//! Converts TOML values to JSON without losing digits.

use toml::{Spanned, de::DeValue};

use crate::{Diagnostic, Json, Value};

/// The value of a TOML value; `whose` names it in a diagnostic.
pub(super) fn value(toml: &Spanned<DeValue<'_>>, owner: &str) -> Result<Value, Diagnostic> {
    json(toml, owner).map(Value::Json)
}

/// The JSON text of a TOML value; dates and times become strings as in RFC 3339.
pub(super) fn json(toml: &Spanned<DeValue<'_>>, owner: &str) -> Result<Json, Diagnostic> {
    let mut text = String::new();
    write(toml, owner, &mut text)?;
    Ok(Json::parse(text).expect("the function below writes JSON"))
}

/// Writes JSON text. The parser bounds the nesting of a value, and therefore this recursion.
fn write(toml: &Spanned<DeValue<'_>>, owner: &str, out: &mut String) -> Result<(), Diagnostic> {
    let refuse = |message: String| Diagnostic::error(Some(toml.span()), message);
    match toml.get_ref() {
        DeValue::String(text) => write_string(text, out),
        DeValue::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
        DeValue::Datetime(value) => {
            let mut value = *value;
            // Seconds are optional in TOML, but required in RFC 3339.
            value.time.iter_mut().for_each(|time| time.second = time.second.or(Some(0)));
            write_string(&value.to_string(), out);
        }
        DeValue::Integer(value) => {
            let digits = i128::from_str_radix(value.as_str(), value.radix()).ok();
            let fits = digits.filter(|digits| i64::try_from(*digits).is_ok() || u64::try_from(*digits).is_ok());
            let large = || refuse(format!("{owner} is an integer of more than 64 bits")).hint("write it as a string");
            let digits = fits.ok_or_else(large)?;
            out.push_str(&digits.to_string());
        }
        DeValue::Float(value) => {
            let digits = value.as_str().trim_start_matches('+');
            if !digits.parse::<f64>().is_ok_and(f64::is_finite) {
                let diagnostic = refuse(format!("{owner} is {digits}, which JSON cannot hold"));
                return Err(diagnostic.hint("use a number, or a string that the task understands"));
            }
            out.push_str(digits);
        }
        DeValue::Array(elements) => {
            out.push('[');
            for (index, element) in elements.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                write(element, owner, out)?;
            }
            out.push(']');
        }
        DeValue::Table(entries) => {
            out.push('{');
            for (index, (key, entry)) in entries.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                write_string(key.get_ref(), out);
                out.push(':');
                write(entry, owner, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

fn write_string(text: &str, out: &mut String) {
    out.push_str(&serde_json::Value::from(text).to_string());
}
