//! A plain program as a task: JSON on standard input, JSON on standard output. It links no waft library, and could be
//! written in any language that compiles to WASI.
//!
//! Apply has no argument: standard input is an object of the inputs by name, standard output one of what is provided.
//! Rollback has the argument `rollback`, and receives the inputs, the outcome and the failures. A status other than 0 is
//! a failure whose message is the last line of standard error; with status 65 it is not retried.

use std::{
    error::Error,
    io::{self, Read},
    process::ExitCode,
};

use serde::{Deserialize, Serialize};

/// The status for wrong input, which is not retried: `EX_DATAERR`.
const WRONG_DATA: u8 = 65;

#[derive(Deserialize)]
struct Inputs {
    text: String,
}

#[derive(Serialize)]
struct Provided {
    shouted: String,
}

#[derive(Deserialize)]
struct Undo {
    inputs: Inputs,
}

fn main() -> ExitCode {
    let is_rollback = std::env::args().nth(1).as_deref() == Some("rollback");
    let result = if is_rollback { apologise() } else { shout() };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(WRONG_DATA)
        }
    }
}

fn shout() -> Result<(), Box<dyn Error>> {
    let inputs: Inputs = read()?;
    println!("{}", serde_json::to_string(&shouted(&inputs))?);
    Ok(())
}

fn apologise() -> Result<(), Box<dyn Error>> {
    let undo: Undo = read()?;
    eprintln!("sorry for shouting {:?}", undo.inputs.text);
    Ok(())
}

fn shouted(inputs: &Inputs) -> Provided {
    Provided { shouted: format!("{}!", inputs.text.to_uppercase()) }
}

fn read<T: for<'a> Deserialize<'a>>() -> Result<T, Box<dyn Error>> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(|error| format!("the inputs are wrong: {error}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_shouted() {
        let inputs: Inputs = serde_json::from_str(r#"{"text":"hello"}"#).unwrap();
        assert_eq!(serde_json::to_string(&shouted(&inputs)).unwrap(), r#"{"shouted":"HELLO!"}"#);
    }

    #[test]
    fn a_rollback_reads_its_inputs() {
        let input = r#"{"inputs":{"text":"hello"},"outcome":"unknown","failures":{}}"#;
        assert_eq!(serde_json::from_str::<Undo>(input).unwrap().inputs.text, "hello");
    }
}
