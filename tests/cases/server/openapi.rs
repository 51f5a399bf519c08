//! Tests the OpenAPI description with generic tools.

use std::{ffi::OsStr, fs, path::Path, process::Command};

use waft_tests::{CommandOutput, python_with_tools, root};

use super::{TestServer, slow};

fn run_python(arguments: &[&OsStr]) -> CommandOutput {
    Command::new(python_with_tools()).args(arguments).output().expect("Python starts").into()
}

/// Saves the server's description to a file.
fn description(server: &TestServer, file: &Path) {
    let fetched = run_python(&[
        OsStr::new("-c"),
        OsStr::new(
            "import sys, urllib.request; urllib.request.urlretrieve(sys.argv[1] + '/v1/openapi.json', sys.argv[2])",
        ),
        OsStr::new(&server.address),
        file.as_os_str(),
    ]);
    fetched.expect(0);
}

#[test]
fn the_openapi_document_is_valid_and_generates_a_client() {
    let server = TestServer::new();
    let (folder, scripts) = (server.waft.folder().to_owned(), root().join("tests/python"));
    let (file, client) = (folder.join("openapi.json"), folder.join("client"));
    fs::create_dir(&client).expect("the folder can be written");
    description(&server, &file);
    run_python(&[scripts.join("validate.py").as_os_str(), file.as_os_str()]).expect(0);
    let (config, package) = (scripts.join("generator.yml"), client.join("waft_api"));
    let generated = run_python(&[
        OsStr::new("-m"),
        OsStr::new("openapi_python_client"),
        OsStr::new("generate"),
        OsStr::new("--path"),
        file.as_os_str(),
        OsStr::new("--config"),
        config.as_os_str(),
        OsStr::new("--output-path"),
        package.as_os_str(),
        OsStr::new("--meta"),
        OsStr::new("none"),
        // A warning means that the generated client lacks a part of the API.
        OsStr::new("--fail-on-warning"),
    ]);
    generated.expect(0);
    slow(&server.waft, 1);
    server.run(&["submit", "flow.toml", "--run-id", "r1", "--wait"]).expect(0);
    let script = scripts.join("list_runs.py");
    let address = OsStr::new(&server.address);
    let listed = run_python(&[script.as_os_str(), client.as_os_str(), address, OsStr::new("slow")]);
    assert_eq!(listed.expect(0).stdout, "r1 success a=success b=success\n");
}
