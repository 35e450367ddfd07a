//! Pages of `docs/pxl` that are written from the compiler's tables.

use std::path::PathBuf;

use super::golden;

/// The pages say what the compiler knows: catches a key, a widget or a field that was added without
/// its documentation. `UPDATE_GOLDEN=1` writes them.
#[test]
fn pages_are_current() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/pxl");
    for (name, text) in
        [("ctx.md", weir_pxl::reference::ctx_page()), ("vis.md", weir_pxl::reference::vis_page())]
    {
        assert!(!text.contains("|  |"), "{name} has an empty cell");
        golden::compare(&folder.join(name), &text).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}
