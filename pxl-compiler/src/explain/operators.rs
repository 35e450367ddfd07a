//! What each operator of a split plan does, by its number: for those who show a running dataflow.

use weir_types::split::{SplitPlan, Step, mapped, scanned};

use super::text;

/// Texts of one source: what a node does for it, one after another, and its two ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceTexts {
    /// The scan, then each step.
    pub steps: Vec<String>,
    pub send: String,
    pub receive: String,
}

/// Texts of a split plan's operators.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorTexts {
    pub sources: Vec<SourceTexts>,
    /// By the number of the operator in the cluster part.
    pub cluster: Vec<String>,
}

/// One line for each operator.
#[must_use]
pub fn operator_texts(split: &SplitPlan) -> OperatorTexts {
    let cluster = split.cluster.ops.iter().map(|op| text::cluster_op(split, op)).collect();
    let sources = split.sources.iter().map(|source| {
        let mut rows = scanned(&source.scan);
        let mut steps = vec![text::scan(&source.scan.scan)];
        for step in &source.steps {
            match &**step {
                Step::Filter(predicate) => steps.push(text::filter(predicate, &rows)),
                Step::Map { exprs, labels } => {
                    let relation = mapped(exprs, labels);
                    steps.push(text::map(exprs, &rows, &relation));
                    rows = relation;
                }
            }
        }
        let what = text::shape(&source.shape, &rows, &rows);
        SourceTexts { steps, send: format!("send {what}"), receive: format!("window of {what}") }
    });
    OperatorTexts { sources: sources.collect(), cluster }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operator has a text, under its own number: catches a list that is shifted against the plan.
    #[test]
    fn each_operator_has_its_text() {
        let text = "import px\ndf = px.DataFrame('let_events', start_time='-5m')\n\
                    df = df[df.status > 400]\ndf.ms = df.latency / 1000000\n\
                    df = df.groupby('service').agg(n=('ms', px.mean))\n\
                    px.display(df.head(3), 'out')";
        let script = crate::Script { name: "test", text, vis: None };
        let compiled = crate::compile(&script, &crate::CompileOptions::default()).unwrap();
        let split = crate::split(&compiled.plan);
        let texts = operator_texts(&split);
        assert_eq!(texts.cluster.len(), split.cluster.ops.len());
        assert_eq!(texts.sources.len(), 1);
        let source = &texts.sources[0];
        assert_eq!(source.steps.len(), 1 + split.sources[0].steps.len());
        assert!(source.steps[0].starts_with("scan let_events ["), "{source:?}");
        assert!(source.steps[1].starts_with("filter "), "{source:?}");
        assert!(source.send.starts_with("send partial by [service]: "), "{source:?}");
        assert!(texts.cluster[0].starts_with("receive #0 partial by [service]"), "{texts:?}");
        assert!(texts.cluster.iter().any(|text| text == "limit 3"), "{texts:?}");
    }
}
