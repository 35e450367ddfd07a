//! Lists the bundle, so that it is embedded without being named in code: every folder
//! `pxl-scripts/<group>/<name>` with a `.pxl`, a `manifest.yaml` and perhaps a `vis.json`.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    // Asked when it runs: a build folder may have been made for another checkout.
    let scripts = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../pxl-scripts");
    tell_cargo(&scripts);
    let mut list = String::from("&[\n");
    for group in folders(&scripts)? {
        for folder in folders(&group)? {
            list.push_str(&entry(&group, &folder)?);
        }
    }
    list.push_str("]\n");
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("bundle.rs");
    fs::write(out, list)?;
    Ok(())
}

fn tell_cargo(scripts: &Path) {
    println!("cargo::rerun-if-changed={}", scripts.display());
}

/// Sub-folders, sorted.
fn folders(path: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn entry(group: &Path, folder: &Path) -> Result<String, Box<dyn Error>> {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = format!("{}/{}", name(group), name(folder));
    let mut pxl: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "pxl") {
            pxl.push(path);
        }
    }
    let [pxl] = pxl.as_slice() else {
        return Err(format!("{name}: expected one .pxl file, found {}", pxl.len()).into());
    };
    let vis = folder.join("vis.json");
    let vis = if vis.is_file() {
        format!("Some(include_str!({:?}))", vis.display().to_string())
    } else {
        "None".to_string()
    };
    let manifest = fs::read_to_string(folder.join("manifest.yaml"))?;
    let value = |key: &str| {
        manifest_value(&manifest, key).ok_or_else(|| format!("{name}: manifest without `{key}`"))
    };
    let mut out = String::new();
    writeln!(
        out,
        "BundleScript {{ name: {name:?}, pxl: include_str!({:?}), vis: {vis}, short: {:?}, long: \
         {:?} }},",
        pxl.display().to_string(),
        value("short")?,
        value("long")?
    )?;
    Ok(out)
}

/// `key: text`, or `key: >` and indented lines: all of YAML that manifests use.
fn manifest_value(manifest: &str, key: &str) -> Option<String> {
    let mut lines = manifest.lines();
    let rest = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?.trim();
    if !rest.starts_with(['>', '|']) {
        return Some(rest.to_string());
    }
    let folded: Vec<&str> = lines.take_while(|line| line.starts_with(' ')).map(str::trim).collect();
    Some(folded.join(" "))
}
