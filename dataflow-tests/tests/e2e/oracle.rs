//! The bundle against the evaluator in `dataflow-tests/oracle`, which shares no code with Weir and was
//! written from the documents alone: what both misread is not found, what one of them misreads is.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use weir_dataflow_tests::harness::weir::binary;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn oracle(args: &[&str]) -> Output {
    Command::new("python3")
        .args(["-m", "pxl_oracle"])
        .args(args)
        .current_dir(root().join("dataflow-tests/oracle"))
        .env("PYTHONUTF8", "1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap()
}

fn has_python() -> bool {
    let version = Command::new("python3").args(["-c", "import tomllib"]).output();
    let found = version.is_ok_and(|output| output.status.success());
    if !found {
        weir_types::testing::skipped("python3 of 3.11 or later is missing");
    }
    found
}

/// Answers of all bundled scripts over a generated world: catches a misreading of the language, the
/// functions, the metadata or the windows that engine and model share.
#[test]
fn an_independent_evaluator_agrees() {
    if !has_python() {
        return;
    }
    let world = tempfile::tempdir().unwrap();
    let rows = world.path().to_str().unwrap();
    let made = oracle(&["world", rows, "--seed", "11", "--rows-per-table", "60"]);
    assert!(made.status.success(), "{made:?}");
    let scripts = root().join("pxl-scripts");
    let views = root().join("pxl-compiler/modules/pxviews.pxl");
    let weir = binary().unwrap();
    let compared = oracle(&[
        "compare",
        scripts.to_str().unwrap(),
        "--filled",
        "--now",
        "20",
        "--rows",
        rows,
        "--views",
        views.to_str().unwrap(),
        "--weir",
        weir.to_str().unwrap(),
    ]);
    let said = String::from_utf8_lossy(&compared.stdout);
    assert!(compared.status.success(), "{said}{}", String::from_utf8_lossy(&compared.stderr));
    let agree = said.split(" agree").next().and_then(|text| text.trim().parse::<u32>().ok());
    assert!(agree.is_some_and(|agree| agree > 80), "hardly anything was compared: {said}");
}
