//! The scripts that are shipped: each compiles as `weir check` does it, without a finding, and its
//! plan runs in both splits of the engine on an empty machine.

use weir_dataflow_tests::drive::{Feeding, run};
use weir_dataflow_tests::model::World;
use weir_pxl::{CompileOptions, Script, bundle, compile, render_diagnostics};

use crate::support::BASE_MS;

/// Every script of the bundle compiles without warnings, shows something, and can be installed:
/// catches a script that was broken by a change of tables, functions or the compiler, and a plan
/// that the engine refuses.
#[test]
fn every_script_compiles_and_runs() {
    let scripts = bundle::scripts();
    assert!(!scripts.is_empty(), "the bundle is empty");
    for script in scripts {
        let text = Script { name: script.name, text: script.pxl, vis: script.vis };
        let options = CompileOptions { placeholders: true, ..CompileOptions::default() };
        let compiled = compile(&text, &options).unwrap_or_else(|found| {
            panic!("{}: {}", script.name, render_diagnostics(&found, script.pxl, false))
        });
        assert!(compiled.warnings.is_empty(), "{}: {:?}", script.name, compiled.warnings);
        assert!(!compiled.plan.outputs.is_empty(), "{} shows nothing", script.name);
        let feed = Feeding::plain(vec![BASE_MS, BASE_MS + 1000]);
        let mut frontiers = 0;
        let ran = run(&weir_pxl::split(&compiled.plan), &World::default(), &feed, &mut |_, _| {
            frontiers += 1;
            Ok(())
        });
        if let Err(error) = ran {
            panic!("{}: {error}", script.name);
        }
        assert_eq!(frontiers, 2, "{} does not move", script.name);
    }
}

/// Every folder below `pxl-scripts` is in the bundle, with a manifest and a vis.json.
#[test]
fn every_folder_is_bundled() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../pxl-scripts");
    let mut wrong = Vec::new();
    let folders = |path: &std::path::Path| -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(path).expect("a folder of scripts");
        entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_dir()).collect()
    };
    for script in folders(&root).iter().flat_map(|group| folders(group)) {
        let parts: Vec<_> =
            script.iter().rev().take(2).map(|part| part.to_string_lossy()).collect();
        let name = format!("{}/{}", parts[1], parts[0]);
        if bundle::find(&name).is_none() {
            wrong.push(format!("{name} is not in the bundle"));
        }
        for file in ["manifest.yaml", "vis.json", &format!("{}.pxl", parts[0])] {
            if !script.join(file).is_file() {
                wrong.push(format!("{name} has no {file}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
