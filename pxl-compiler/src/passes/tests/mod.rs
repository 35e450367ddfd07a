//! Random programs through every pass with the checker on, and plans that are broken on purpose.

mod broken;
mod programs;

use proptest::prelude::*;
use weir_types::Plan;

use super::{checked, is_late};
use crate::compile::{CompileOptions, Script, compile_traced};
use crate::explain::Trace;
use programs::{Choices, program};

/// The plans behind each pass of a program, by the pass's name; the codes of its errors if it has some.
fn plans(text: &str) -> Result<Vec<(&'static str, Plan)>, Vec<String>> {
    let script = Script { name: "random", text, vis: None };
    let mut trace = Trace::default();
    match compile_traced(&script, &CompileOptions::default(), Some(&mut trace)) {
        Ok(_) => Ok(trace.passes),
        Err(found) => Err(found.into_iter().map(|found| found.code).collect()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a program is made of, no pass breaks what plans hold or what it promises (else the compile
    /// ends with `internal`), and the two parts of the plan fit each other
    /// (`split::checked`).
    #[test]
    fn random_programs_pass(choices in any::<Choices>()) {
        let text = program(&choices);
        match plans(&text) {
            Ok(plans) => {
                let (_, plan) = plans.last().expect("a compile has passes");
                let split = crate::split::split(plan);
                prop_assert_eq!(split.cluster.outputs.len(), plan.outputs.len());
            }
            Err(codes) => prop_assert!(!codes.iter().any(|code| code == "internal"), "{codes:?}\n{text}"),
        }
    }
}

/// The programs are worth something: most compile, and all kinds of operators come through. Catches a
/// generator whose every program ends at its first line.
#[test]
fn random_programs_are_programs() {
    let (mut compiled, mut kinds, mut late) = (0, std::collections::HashSet::new(), 0);
    for seed in 0..300 {
        let Ok(plans) = plans(&program(&Choices::seeded(seed))) else { continue };
        compiled += 1;
        let Some((_, plan)) = plans.last() else { continue };
        for op in &plan.ops {
            kinds.insert(std::mem::discriminant(&op.kind));
            late += usize::from(op.kind.expressions().iter().any(is_late));
        }
    }
    assert!(compiled >= 200, "{compiled} of 300 compile");
    assert_eq!(kinds.len(), 7, "all but table functions");
    assert!(late > 20, "{late} operators of the cluster part");
}

/// The checker refuses each kind of broken plan, at whatever operator of a random plan it is made. Catches a
/// check that was forgotten, or that only looks at the first operator.
#[test]
fn broken_plans_are_refused() {
    let mut counts = vec![0; broken::KINDS.len()];
    for seed in 0..60 {
        let Ok(plans) = plans(&program(&Choices::seeded(seed))) else { continue };
        for (pass, plan) in &plans {
            assert_eq!(checked::plan(plan), Ok(()), "{pass} of {seed}");
            for (count, (name, breaks)) in counts.iter_mut().zip(broken::KINDS) {
                for at in 0..plan.ops.len() {
                    let mut worse = plan.clone();
                    if breaks(&mut worse, at) {
                        *count += 1;
                        assert!(
                            checked::plan(&worse).is_err(),
                            "{name} at %{at} of {seed}: {worse:?}"
                        );
                    }
                }
            }
        }
    }
    for (count, (name, _)) in counts.iter().zip(broken::KINDS) {
        assert!(*count >= 20, "{name}: made {count} times");
    }
}

/// A pass may not change what is shown, or read a window that nobody asked for.
#[test]
fn what_must_be_kept_is_kept() {
    let text =
        "import px\ndf = px.DataFrame('http_events', start_time='-1m')\npx.display(df, 't')\n";
    let (_, plan) = plans(text).expect("it compiles").pop().expect("passes");
    assert_eq!(checked::kept(&plan, &plan), Ok(()));
    let mut other = plan.clone();
    other.outputs[0].table = "u".to_string();
    assert!(checked::kept(&plan, &other).is_err());
    let mut other = plan.clone();
    other.outputs.clear();
    assert!(checked::kept(&plan, &other).is_err());
    let longer = plans(&text.replace("-1m", "-2m")).expect("it compiles").pop().expect("passes").1;
    assert!(checked::kept(&plan, &longer).is_err());
}
