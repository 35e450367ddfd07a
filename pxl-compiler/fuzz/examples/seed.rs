//! Fills the corpora from the bundle: `corpus/script` and `corpus/view` in the current folder.

use std::fs;
use std::io;

fn main() -> io::Result<()> {
    fs::create_dir_all("corpus/script")?;
    fs::create_dir_all("corpus/view")?;
    for script in weir_pxl::bundle::scripts() {
        let name = script.name.replace('/', "-");
        fs::write(format!("corpus/script/{name}"), script.pxl)?;
        let view = format!("{}\0{}", script.pxl, script.vis.unwrap_or("{}"));
        fs::write(format!("corpus/view/{name}"), view)?;
    }
    // The compiler's own cases: small, and one for each thing that can be wrong.
    for entry in fs::read_dir("../tests/goldens/diagnostics")? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let Some(rest) = text.strip_prefix("=== script\n") else { continue };
        let script = rest.split("\n=== ").next().unwrap_or_default();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        fs::write(format!("corpus/script/case-{name}"), script)?;
        if let Some((_, vis)) = rest.split_once("\n=== vis\n") {
            let vis = vis.split("\n=== ").next().unwrap_or_default();
            fs::write(format!("corpus/view/case-{name}"), format!("{script}\0{vis}"))?;
        }
    }
    Ok(())
}
