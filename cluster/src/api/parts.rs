//! The tree of parts as `weir doctor`, `weir stats` and `/metrics` show it. Names of metrics are part of the
//! contract.

use serde_json::{Value as Json, json};
use weir_actors::{GroupStatus, PartStatus, State, TreeStatus};
use weir_types::json::time_text;

use super::metrics::{Family, families, head, line, single};

/// The members `parts`, `part_groups` and `parts_unlisted`, of whatever object shows them.
pub(super) fn add_json(into: &mut Json, tree: &TreeStatus, now_unix_ns: i64) {
    let part = |part: &PartStatus| {
        let in_state_ns = i64::try_from(part.in_state.as_nanos()).unwrap_or(i64::MAX);
        json!({
            "part": part.path,
            "state": part.state.name(),
            "since": time_text(now_unix_ns.saturating_sub(in_state_ns)),
            "deaths": part.deaths,
            "restarts": part.restarts,
            "last_reason": part.last_reason,
        })
    };
    let group = |group: &GroupStatus| {
        json!({
            "part": group.path,
            "states": group.states,
            "deaths": group.deaths,
            "restarts": group.restarts,
            "last_reason": group.last_reason,
        })
    };
    into["parts"] = tree.parts.iter().map(part).collect();
    into["part_groups"] = tree.groups.iter().map(group).collect();
    into["parts_unlisted"] = tree.unlisted.into();
}

pub(super) fn write_metrics(out: &mut String, tree: &TreeStatus) {
    const PER_PART: [Family<PartStatus>; 3] = [
        ("weir_part_up", "gauge", "1 while the part runs.", |part| {
            u64::from(part.state == State::Running)
        }),
        ("weir_part_restarts_total", "counter", "Times that it came back after a death.", |part| {
            part.restarts
        }),
        ("weir_part_deaths_total", "counter", "Times that it died.", |part| part.deaths),
    ];
    let parts = tree.parts.iter().map(|part| (part.path.as_str(), part));
    families(out, "part", &PER_PART, parts);
    let help = "Parts of a kind that come and go, by state.";
    head(out, "weir_part_group", "gauge", help);
    for group in &tree.groups {
        for (state, count) in &group.states {
            line(out, "weir_part_group", &[("part", &group.path), ("state", state)], *count);
        }
    }
    const PER_GROUP: [Family<GroupStatus>; 2] = [
        (
            "weir_part_group_deaths_total",
            "counter",
            "Deaths of parts of a kind, of those that are gone, too.",
            |group| group.deaths,
        ),
        (
            "weir_part_group_restarts_total",
            "counter",
            "Times that parts of a kind came back after a death, of those that are gone, too.",
            |group| group.restarts,
        ),
    ];
    let groups = tree.groups.iter().map(|group| (group.path.as_str(), group));
    families(out, "part", &PER_GROUP, groups);
    let help = "Parts above the number that is listed by name.";
    single(out, "weir_parts_unlisted", "gauge", help, tree.unlisted);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weir_actors::{KillSwitch, Stop};

    use super::*;

    /// A part that backs off is down, with its deaths; groups are counted by state. Would catch a part that
    /// is up while it is not, and a time that is not when the state began.
    #[test]
    fn parts_as_they_are_shown() {
        let root = KillSwitch::root("weir");
        let (engine, api) = (root.part("engine", Stop::ByOwner), root.part("api", Stop::ByOwner));
        api.running();
        engine.running();
        engine.died("a \"worker\" died", Duration::from_secs(1));
        let views = root.group("views");
        let view = views.part("query-1", Stop::ByOwner);
        view.running();
        let tree = root.tree();
        let mut text = String::new();
        write_metrics(&mut text, &tree);
        for wanted in [
            "weir_part_up{part=\"weir/engine\"} 0\n",
            "weir_part_up{part=\"weir/api\"} 1\n",
            "weir_part_deaths_total{part=\"weir/engine\"} 1\n",
            "weir_part_group{part=\"weir/views\",state=\"running\"} 1\n",
            "weir_parts_unlisted 0\n",
        ] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }
        let mut shown = json!({});
        let now_ns = 1_767_225_600_000_000_000;
        add_json(&mut shown, &tree, now_ns);
        assert_eq!(shown["parts"][0]["state"], "backing off");
        assert_eq!(shown["parts"][0]["last_reason"], "a \"worker\" died");
        let since = shown["parts"][0]["since"].as_str().unwrap();
        assert!(
            since.starts_with("2025-12-31T23:59:5") || since.starts_with("2026-01-01"),
            "{since}"
        );
        assert_eq!(shown["part_groups"][0]["states"]["running"], 1);
    }
}
