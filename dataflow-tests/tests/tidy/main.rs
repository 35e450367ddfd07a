//! Tidy tests: rules about the text of the repository that no compiler checks. Each names the
//! offending file and line. They read files only; nothing is built or run.

mod deliveries;
mod files;
mod generated;
mod manifests;
mod markdown;
mod seams;
mod text;
