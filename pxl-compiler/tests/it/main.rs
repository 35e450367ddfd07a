//! Tests of the compiler through its public interface, by data: goldens in `tests/goldens` are
//! rewritten with `UPDATE_GOLDEN=1`.

#[cfg(test)]
mod bundle;
#[cfg(test)]
mod catalogue;
#[cfg(test)]
mod costs;
#[cfg(test)]
mod declarations;
#[cfg(test)]
mod diagnostics;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod language;
#[cfg(test)]
mod named;
#[cfg(test)]
mod never_panics;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod split;
#[cfg(test)]
mod vis;
