//! A WASI command that behaves as its input `do` requests.
//!
//! | `do` | ends |
//! | --- | --- |
//! | `echo` | with its unchanged inputs on standard output |
//! | `tell-world` | with its arguments and variables as `arguments` and `variables` |
//! | `exit-1`, `exit-65`, `exit-255` | with that status, and two lines on standard error |
//! | `fail-silently` | with status 1 and nothing on standard error |
//! | `print-garbage`, `print-list`, `print-nothing`, `print-twice` | successfully, without an object on standard output |
//! | `print-endlessly` | never |
//! | `panic` | with a panic |
//!
//! As a rollback it writes its standard input to standard error; its status is 0, or 1 if the input `do` is
//! `fail-rollback`.

use std::{collections::BTreeMap, env, io, process::ExitCode};

use serde_json::{Value, json};

fn main() -> ExitCode {
    let text = match io::read_to_string(io::stdin()) {
        Ok(text) => text,
        Err(error) => return reject(&format!("could not read standard input: {error}")),
    };
    let request: Value = match serde_json::from_str(&text) {
        Ok(request) => request,
        Err(error) => return reject(&format!("standard input is not JSON: {error}")),
    };
    if env::args().nth(1).as_deref() == Some("rollback") {
        eprintln!("{request}");
        return ExitCode::from(u8::from(request["inputs"]["do"] == "fail-rollback"));
    }
    apply(&request, &text)
}

fn apply(inputs: &Value, text: &str) -> ExitCode {
    match inputs["do"].as_str().unwrap_or_default() {
        "echo" | "fail-rollback" => println!("{text}"),
        "tell-world" => println!("{}", environment()),
        "exit-1" => return fail(1),
        "exit-65" => return fail(65),
        "exit-255" => return fail(255),
        "fail-silently" => return ExitCode::from(1),
        "print-garbage" => println!("this is not JSON"),
        "print-list" => println!("[1, 2]"),
        "print-twice" => println!("{{}} {{}}"),
        "print-nothing" => {}
        "print-endlessly" => loop {
            println!("all work and no play makes a dull guest");
        },
        "panic" => panic!("the oven is on fire"),
        unknown => return reject(&format!("there is nothing to do called {unknown:?}")),
    }
    ExitCode::SUCCESS
}

fn environment() -> Value {
    let variables: BTreeMap<String, String> = env::vars().collect();
    let arguments: Vec<String> = env::args().skip(1).collect();
    json!({"variables": variables, "arguments": arguments})
}

fn fail(status: u8) -> ExitCode {
    eprintln!("this line is not the message");
    eprintln!("the oven answered {status}");
    ExitCode::from(status)
}

fn reject(message: &str) -> ExitCode {
    eprintln!("{message}");
    ExitCode::from(65)
}
