//! Fills the corpora from the bundle and the compiler's own cases: `script` and `view` in the folder that it is given.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let Some(corpora) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("usage: seed FOLDER"));
    };
    let (scripts, views) = (corpora.join("script"), corpora.join("view"));
    fs::create_dir_all(&scripts)?;
    fs::create_dir_all(&views)?;
    for script in weir_pxl::bundle::scripts() {
        let name = script.name.replace('/', "-");
        fs::write(scripts.join(&name), script.pxl)?;
        let view = format!("{}\0{}", script.pxl, script.vis.unwrap_or("{}"));
        fs::write(views.join(&name), view)?;
    }
    // The compiler's own cases: small, and one for each thing that can be wrong.
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/goldens/diagnostics");
    for entry in fs::read_dir(cases)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let Some(rest) = text.strip_prefix("=== script\n") else { continue };
        let script = rest.split("\n=== ").next().unwrap_or_default();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        fs::write(scripts.join(format!("case-{name}")), script)?;
        if let Some((_, vis)) = rest.split_once("\n=== vis\n") {
            let vis = vis.split("\n=== ").next().unwrap_or_default();
            fs::write(views.join(format!("case-{name}")), format!("{script}\0{vis}"))?;
        }
    }
    Ok(())
}
