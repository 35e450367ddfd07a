//! The scripts that Weir ships, embedded: `pxl-scripts/<group>/<name>`.

/// One bundled script.
#[derive(Clone, Copy, Debug)]
pub struct BundleScript {
    /// `px/http_data`
    pub name: &'static str,
    pub pxl: &'static str,
    pub vis: Option<&'static str>,
    /// One line.
    pub short: &'static str,
    pub long: &'static str,
}

/// The module `pxviews`, in PxL.
pub(crate) const PXVIEWS: &str = include_str!("../modules/pxviews.pxl");

/// Written by the build script.
const SCRIPTS: &[BundleScript] = include!(concat!(env!("OUT_DIR"), "/bundle.rs"));

/// All of them, sorted by name.
#[must_use]
pub fn scripts() -> &'static [BundleScript] {
    SCRIPTS
}

/// The script of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static BundleScript> {
    scripts().iter().find(|script| script.name == name)
}
