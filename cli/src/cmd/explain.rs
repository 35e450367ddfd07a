//! `weir explain`: the compiler's stages, as text or JSON.

use weir_pxl::{CompileOptions, Stage};
use weir_types::Severity;

use crate::args::ExplainArgs;
use crate::failure::Failure;
use crate::{output, script};

pub(crate) fn run(args: ExplainArgs) -> Result<(), Failure> {
    let request = script::request(&args.script)?;
    if request.text.is_none() {
        super::lists::find_script(request.script.as_deref().unwrap_or_default())?;
    }
    let source = script::source_of(&request);
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
    let explained = weir_pxl::explain(&source.script(), &options, &stages);
    if args.output == "json" {
        output::line(&explained.json.to_string())?;
    } else {
        output::text(explained.text.trim_end())?;
    }
    output::print_diagnostics(&explained.diagnostics, &source.script());
    if explained.diagnostics.iter().any(|d| d.severity == Severity::Error) {
        return Err(Failure::No(String::new()));
    }
    Ok(())
}
