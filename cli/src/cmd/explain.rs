//! `weir explain`: the compiler's stages, as text or JSON.

use weir_pxl::{CompileOptions, Script, Stage};
use weir_types::Severity;

use crate::args::ExplainArgs;
use crate::failure::Failure;
use crate::{output, script};

pub(crate) fn run(args: ExplainArgs) -> Result<(), Failure> {
    let request = script::request(&args.script)?;
    let name = request.script.clone().unwrap_or_default();
    let (text, vis) = match &request.text {
        Some(text) => (text.clone(), request.vis.clone()),
        None => {
            let found = weir_pxl::bundle::find(&name).ok_or_else(|| {
                Failure::No(format!("there is no script `{name}`: see `weir scripts list`"))
            })?;
            (found.pxl.to_string(), found.vis.map(str::to_string))
        }
    };
    let source = Script { name: &name, text: &text, vis: vis.as_deref() };
    let options = CompileOptions {
        args: request.args.into_iter().collect(),
        func: request.func,
        placeholders: true,
        deadline: Some(script::compile_deadline()),
        ..CompileOptions::default()
    };
    let stages = match args.stage.as_deref() {
        None => Stage::ALL.to_vec(),
        Some(name) => vec![Stage::find(name).ok_or_else(|| {
            let all: Vec<&str> = Stage::ALL.iter().map(|stage| stage.name()).collect();
            Failure::Usage(format!("--stage {name}: choose one of {}", all.join(", ")))
        })?],
    };
    let explained = weir_pxl::explain(&source, &options, &stages);
    if args.output == "json" {
        output::line(&explained.json.to_string())?;
    } else {
        output::line(explained.text.trim_end())?;
    }
    output::print_diagnostics(&explained.diagnostics, &text);
    if explained.diagnostics.iter().any(|d| d.severity == Severity::Error) {
        return Err(Failure::No(String::new()));
    }
    Ok(())
}
