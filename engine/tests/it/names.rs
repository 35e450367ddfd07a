//! Filters and maps that read names, while names come, change and go.

use std::sync::Arc;

use weir_types::metadata::{Machine, MetadataSnapshot, PodMeta, ServiceMeta};
use weir_types::random::SplitMix;
use weir_types::{DataType, Expr, Value};

use crate::harness::{Event, Plan, Rig, call, column, config, raw_rows, sliding};

const PODS: [&str; 6] = ["p0", "p1", "p2", "p3", "p4", "p5"];
const SERVICES: [&str; 3] = ["s0", "s1", "s2"];

fn text(func: &str, of: Expr) -> Expr {
    call(func, vec![of], DataType::String)
}

/// Rows whose pod has a service, with names that stand one behind the other.
fn named() -> (Plan, Plan) {
    let (node, mut cluster, received) = raw_rows(sliding(10), None);
    let key = || column(1, DataType::String);
    let service = || text("pod_id_to_service_name", key());
    let none = Expr::Literal(Value::str(""));
    let kept = call("notEqual", vec![service(), none], DataType::Boolean);
    let kept = cluster.filter(received, kept);
    let columns = [
        ("time_", column(0, DataType::Time64Ns)),
        ("pod", text("pod_id_to_pod_name", key())),
        ("service", service()),
        ("of_name", text("pod_name_to_pod_id", key())),
        ("at", text("ip_to_service_id", text("pod_name_to_pod_ip", key()))),
        ("host", call("_exec_hostname", vec![], DataType::String)),
        ("v", column(2, DataType::Int64)),
    ];
    let mapped = cluster.map(kept, &columns);
    cluster.output(mapped, "out");
    (node, cluster)
}

/// Something of what is known becomes something else.
fn change(metadata: &mut MetadataSnapshot, random: &mut SplitMix) {
    let mut one =
        |of: &[&str]| of[usize::try_from(random.below(of.len() as u64)).unwrap()].to_string();
    let (id, service, address) = (one(&PODS), one(&SERVICES), one(&PODS));
    match random.below(12) {
        0 => {
            metadata.pods.remove(&id);
        }
        1 => {
            metadata.services.remove(&service);
        }
        2 => metadata.pod_names.insert(id.clone(), address),
        3 => {
            metadata.pod_names.remove(&id);
        }
        4 => metadata.service_ips.insert(address, service),
        5 => metadata.pod_ips.insert(address, vec![(0, id)]),
        6 => {
            let hostname = format!("host {}", random.below(2));
            metadata.set_machine(Machine { hostname, ..metadata.machine() });
        }
        7 | 8 => {
            let name = format!("service {}", random.below(3));
            let meta = ServiceMeta { id: service.clone(), name, ..ServiceMeta::default() };
            metadata.services.insert(service, Arc::new(meta));
        }
        _ => {
            let name = format!("pod {}", random.below(3));
            let (ip, service_ids) = (address, vec![service]);
            let meta = PodMeta { id: id.clone(), name, ip, service_ids, ..PodMeta::default() };
            metadata.pods.insert(id, Arc::new(meta));
        }
    }
}

/// The same, of which nobody can tell how it came from what was before.
fn rebuilt(metadata: &MetadataSnapshot) -> MetadataSnapshot {
    let mut again = MetadataSnapshot::default();
    again.set_machine(metadata.machine());
    metadata.entities().for_each(|entity| again.apply(entity));
    again
}

/// An engine that looks at those rows again which asked for what was changed says at every tick the same as one that
/// looks at all of them, with rows that come, leave and are there several times. Catches a row that keeps a name which
/// is another by now.
#[test]
fn rows_that_asked_are_all_rows_that_change() {
    for (seed, workers) in [(1, 1), (2, 1), (3, 2), (4, 4)] {
        let mut random = SplitMix(seed);
        let [mut asked, mut all] = [workers, 1].map(|workers| Rig::new(config(workers), 1000));
        for rig in [&mut asked, &mut all] {
            let (node, cluster) = named();
            rig.install(1, node, cluster, 20_000);
        }
        let mut metadata = MetadataSnapshot::default();
        let mut shown = 0;
        for tick in 20..80_u64 {
            if random.below(4) > 0 {
                (0..=random.below(4)).for_each(|_| change(&mut metadata, &mut random));
                asked.engine.set_metadata(Arc::new(metadata.clone()));
                all.engine.set_metadata(Arc::new(rebuilt(&metadata)));
            }
            let rows: Vec<Event> = (0..random.below(12))
                .map(|_| {
                    let at_ms = i64::try_from(tick * 1000 - random.below(3) * 1000).unwrap();
                    let pod = usize::try_from(random.below(PODS.len() as u64)).unwrap();
                    (at_ms, PODS[pod], i64::try_from(random.below(3)).unwrap())
                })
                .collect();
            for rig in [&mut asked, &mut all] {
                rig.push(&rows);
                rig.tick(tick * 1000);
            }
            assert_eq!(asked.text(), all.text(), "seed {seed}, tick {tick}");
            shown += asked.text().len();
        }
        assert!(shown > 300, "seed {seed}: {shown} rows were ever there");
    }
}
