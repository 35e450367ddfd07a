//! Estimates of a service: from what a node says of its tables, of what runs, and what is refused.

use super::rig::{Rig, SCRIPT, TICK_MS, case};
use crate::cost::Estimate;
use crate::planner::ScriptRequest;
use crate::service::{
    EstimateCost, OutboxReader, QUERY_COST, ReaderLimits, Refusal, Service, Subscribe, Wanted,
    prepare,
};

/// A view takes so many at once.
const ROWS: i64 = 600;
/// Another answer over the same rows: it shares the feed.
const OTHER: &str = "import px\ndf = px.DataFrame('http_events', start_time='-1h')\n\
                     df = df[['time_', 'latency']]\ndf = df.append(df)\npx.display(df, 'rows')\n";

async fn estimated(rig: &mut Rig, request: ScriptRequest) -> Estimate {
    let service = rig.service.clone();
    let asked = async move {
        let installable = prepare(&service, &request, Wanted::Live).await.unwrap();
        service.coordinator.send(EstimateCost(installable)).await.unwrap()
    };
    rig.during("an estimate", asked).await
}

/// What the node has told is heard when its turn comes; and for a minute its first rows are a rate, if it was heard
/// before them.
async fn until_told(rig: &mut Rig, rows: i64) {
    for _ in 0..200 {
        let total = estimated(rig, Rig::request()).await.total;
        if total.rows_per_s == 0.0 && total.rows_to_fill >= rows as f64 * 0.9 {
            return;
        }
        for _ in 0..10 {
            rig.tick().await;
        }
    }
    panic!("the rows go on coming");
}

fn other() -> ScriptRequest {
    ScriptRequest { text: Some(OTHER.to_string()), ..Rig::request() }
}

/// What the node has told is what is estimated from: the memory is about what the query then takes, by the service's
/// own figures; once it runs it costs nothing more, and neither do the rows of another query over the same feed.
#[test]
fn an_estimate_is_about_what_it_takes() {
    case(async || {
        let mut rig = Rig::start();
        let rows: Vec<_> = (0..ROWS).map(|latency| (latency, 1)).collect();
        rig.change(&rows);
        let nothing = estimated(&mut rig, Rig::request()).await;
        assert!(nothing.total.rows_to_fill <= ROWS as f64);
        until_told(&mut rig, ROWS).await;
        let found = estimated(&mut rig, Rig::request()).await;
        assert_eq!((found.running, found.sources.len()), (None, 1));
        assert!((found.total.rows_to_fill / ROWS as f64 - 1.0).abs() < 0.1, "{found:?}");
        let mut reader = rig.follow().await;
        rig.agrees("the rows", &mut reader).await;
        let held = rig.service.engine.engine().stats().held_bytes as f64;
        let factor = found.total.state_bytes / held;
        assert!((0.25..4.0).contains(&factor), "{factor}: {held} B are held, {found:?}");

        let running = estimated(&mut rig, Rig::request()).await;
        assert!(running.running.is_some());
        assert_eq!(running.total.state_bytes, 0.0);
        let shares = estimated(&mut rig, other()).await;
        assert!(shares.running.is_none() && shares.sources[0].feed.is_some(), "{shares:?}");
        assert_eq!(shares.sources[0].state_bytes + shares.total.rows_to_fill, 0.0);
        rig.root.kill().await;
    });
}

async fn subscribe(service: Service, request: ScriptRequest) -> Result<(), Refusal> {
    let reader = OutboxReader::new(&service.readers);
    let (outbox, wanted) = (std::sync::Arc::clone(&reader.outbox), Wanted::Live);
    let installable = prepare(&service, &request, wanted).await.unwrap();
    let accepts_cost = request.accept_cost;
    let subscribe = Subscribe { installable, outbox, wanted, since: None, accepts_cost };
    let subscribed = service.coordinator.send(subscribe).await.unwrap();
    subscribed.map(drop)
}

/// Above the limit a query is refused with what it would take, the limit and what to do, before anything of it is
/// installed; who asks for it all the same gets it, and then others do, too: it costs nothing more. A script that is
/// below is installed at once.
#[test]
fn what_costs_too_much_is_refused() {
    case(async || {
        let mut rig = Rig::start_costing(ReaderLimits::default(), "running", Some(20_000));
        rig.change(&(0..100).map(|latency| (latency, 1)).collect::<Vec<_>>());
        until_told(&mut rig, 100).await;
        let small = subscribe(rig.service.clone(), Rig::request());
        assert_eq!(rig.during("a small one", small).await, Ok(()));
        rig.change(&(100..ROWS).map(|latency| (latency, 1)).collect::<Vec<_>>());
        for _ in 0..10 {
            rig.tick().await;
        }
        let installs = rig.node.installs;
        // Of another window: nothing is shared.
        let text = SCRIPT.replace("-1h", "-2h");
        let wanted = ScriptRequest { text: Some(text), ..Rig::request() };
        assert!(estimated(&mut rig, wanted.clone()).await.total.state_bytes > 20_000.0);
        let refused = rig.during("a large one", subscribe(rig.service.clone(), wanted.clone()));
        let refusal = refused.await.unwrap_err();
        assert_eq!(refusal.code, QUERY_COST);
        for part in ["MiB", "http_events", "--query-cost-max", "--force", "shorter window"] {
            assert!(refusal.message.contains(part), "{part} is not in {}", refusal.message);
        }
        assert_eq!(rig.node.installs, installs, "nothing of it was installed");
        let forced = ScriptRequest { accept_cost: true, ..wanted.clone() };
        let forced = subscribe(rig.service.clone(), forced);
        assert_eq!(rig.during("the same by force", forced).await, Ok(()));
        let again = subscribe(rig.service.clone(), wanted);
        assert_eq!(rig.during("the same beside it", again).await, Ok(()));
        assert!(rig.now_ms > TICK_MS);
        rig.root.kill().await;
    });
}
