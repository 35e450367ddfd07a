//! What scripts declare besides views: tracepoints, settings of agents, exports.

use weir_pxl::{
    AgentConfig, CompileOptions, Compiled, OtelData, OtelEndpoint, OtelValue, ProbeOutput, Script,
    SpanKind, TraceBody, TraceTarget, compile, render_diagnostics,
};
use weir_types::{DataType, Relation, SemanticType};

fn compiled_with(text: &str, options: &CompileOptions) -> Compiled {
    let script = Script { name: "t.pxl", text, vis: None };
    compile(&script, options)
        .unwrap_or_else(|found| panic!("{}", render_diagnostics(&found, text, false)))
}

fn columns(relation: &Relation) -> Vec<(&str, DataType)> {
    relation.columns.iter().map(|column| (column.name.as_str(), column.data_type)).collect()
}

const PROGRAM: &str = r#"kprobe:x { printf("time_:%llu pid:%d comm:%s", nsecs, pid, comm); }"#;

fn every_form() -> String {
    format!(
        "import px\nimport pxtrace\n\
         program = '''{PROGRAM}'''\n\
         def upsert(name, program, target):\n    \
             pxtrace.UpsertTracepoint(name, name + '_table', program, target, '10m')\n\
         upsert('kernel', program, pxtrace.kprobe())\n\
         upsert('one', pxtrace.TraceProgram(program, min_kernel='5.8'), pxtrace.kprobe())\n\
         upsert('list', [pxtrace.TraceProgram(program=program, max_kernel='5.7', host_name='a'), \
             pxtrace.TraceProgram(program, min_kernel='5.8')], pxtrace.kprobe())\n\
         @pxtrace.probe('main.(*Server).Serve')\n\
         def serve():\n    \
             id = pxtrace.ArgExpr('req.id')\n    \
             return [{{'id': id, 'status': pxtrace.RetExpr('$0')}}, {{'took': pxtrace.FunctionLatency()}}]\n\
         upsert('pod', serve, pxtrace.PodProcess('ns/pod', 'main'))\n\
         upsert('labels', serve, pxtrace.LabelSelector({{'app': 'x'}}, 'ns', process_name='p'))\n\
         upsert('library', serve, pxtrace.SharedObject('libc', px.make_upid(1, 2, 3)))\n\
         upsert('process', serve, px.make_upid(1, 2, 3))\n\
         upsert('gone', program, pxtrace.kprobe())\n\
         pxtrace.DeleteTracepoint('gone')\n\
         df = px.DataFrame('pod_table', start_time='-5m')\n\
         df.pod = df.ctx['pod']\n\
         df.slow = df.took > px.seconds(1)\n\
         px.display(df, 'pod')\n\
         px.display(px.DataFrame('list_table')[['time_', 'comm']], 'list')\n"
    )
}

/// Every target and every form of program, and the table that each declares.
#[test]
fn tracepoints_of_every_form() {
    let text = every_form();
    let compiled = compiled_with(&text, &CompileOptions::default());
    let found = |name: &str| compiled.tracepoints.iter().find(|have| have.name == name).unwrap();
    let upid = 1 << 96 | 2 << 64 | 3;
    assert_eq!(found("kernel").target, TraceTarget::Kernel);
    assert_eq!(found("kernel").ttl_ns, 600_000_000_000);
    assert_eq!(found("kernel").table, "kernel_table");
    let pod = TraceTarget::PodProcess {
        pod_name: "ns/pod".into(),
        container_name: "main".into(),
        process_name: String::new(),
    };
    assert_eq!(found("pod").target, pod);
    let labels = TraceTarget::LabelSelector {
        labels: vec![("app".into(), "x".into())],
        namespace: "ns".into(),
        container_name: String::new(),
        process_name: "p".into(),
    };
    assert_eq!(found("labels").target, labels);
    assert_eq!(found("library").target, TraceTarget::SharedObject { name: "libc".into(), upid });
    assert_eq!(found("process").target, TraceTarget::Process { upid });
    let TraceBody::Bpftrace(programs) = &found("list").body else { panic!("no programs") };
    let selectors: Vec<Vec<(String, String)>> =
        programs.iter().map(|program| program.selectors.clone()).collect();
    let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
    let wanted =
        [vec![pair("max_kernel", "5.7"), pair("host_name", "a")], vec![pair("min_kernel", "5.8")]];
    assert_eq!(selectors, wanted);
    let TraceBody::Function(probe) = &found("pod").body else { panic!("no probe") };
    assert_eq!(probe.symbol, "main.(*Server).Serve");
    let outputs = [
        ("id".to_string(), ProbeOutput::Argument("req.id".into())),
        ("status".to_string(), ProbeOutput::Result("$0".into())),
        ("took".to_string(), ProbeOutput::Latency),
    ];
    assert_eq!(probe.outputs, outputs);
    let printed =
        [("time_", DataType::Time64Ns), ("pid", DataType::Int64), ("comm", DataType::String)];
    assert_eq!(columns(&found("kernel").relation), printed);
    let recorded = [
        ("time_", DataType::Time64Ns),
        ("upid", DataType::Uint128),
        ("id", DataType::Int64),
        ("status", DataType::Int64),
        ("took", DataType::Int64),
    ];
    assert_eq!(columns(&found("pod").relation), recorded);
    assert_eq!(found("pod").relation.columns[4].semantic, SemanticType::DurationNs);
    assert_eq!(compiled.tracepoints_deleted, ["gone"]);
    assert_eq!(compiled.tracepoints.len(), 7);
}

/// The types that a tracer found win over the compiler's guess: catches a probe's text argument that
/// cannot be compared with text.
#[test]
fn declared_tables_win_for_probes() {
    let text = "import px\nimport pxtrace\n\
                @pxtrace.probe('f')\ndef f():\n    return [{'path': pxtrace.ArgExpr('path')}]\n\
                pxtrace.UpsertTracepoint('f', 'f_table', f, pxtrace.PodProcess('ns/p'), '1m')\n\
                df = px.DataFrame('f_table')\npx.display(df[df.path == '/'])\n";
    let script = Script { name: "t.pxl", text, vis: None };
    let guess = compile(&script, &CompileOptions::default()).unwrap_err();
    assert_eq!(guess[0].code, "no_overload");
    let column = |name: &str, ty| weir_types::Column::new(name, ty, SemanticType::None);
    let relation =
        Relation::new(vec![column("time_", DataType::Time64Ns), column("path", DataType::String)]);
    let tables = vec![("f_table".to_string(), relation.clone())];
    let compiled = compiled_with(text, &CompileOptions { tables, ..CompileOptions::default() });
    assert_eq!(compiled.tracepoints[0].relation, relation);
}

/// `pxconfig` declares a setting and nothing else.
#[test]
fn agent_configs() {
    let text = "import px\nimport pxconfig\n\
                pxconfig.set_agent_config('pl/pem-1', 'gflags.x', '5')\n\
                px.display(px.GetAgentStatus())\n";
    let compiled = compiled_with(text, &CompileOptions::default());
    let wanted = AgentConfig {
        agent_pod_name: "pl/pem-1".into(),
        key: "gflags.x".into(),
        value: "5".into(),
    };
    assert_eq!(compiled.agent_configs, [wanted]);
}

const EXPORT: &str = "import px\n\
    df = px.DataFrame('http_events', start_time='-1m')\n\
    df.service = df.ctx['service']\n\
    df.pod = df.ctx['pod']\n\
    df.unused = 1\n\
    df.status = px.itoa(df.resp_status)\n\
    df.size = df.resp_body_size\n\
    df.ms = df.latency / 1000000\n\
    df.end = df.time_ + df.latency\n\
    px.export(df, px.otel.Data(\n\
        resource={'service.name': df.service, 'k8s.pod.name': df.pod, 'env': 'test'},\n\
        data=[\n\
            px.otel.metric.Gauge(name='http.latency', value=df.latency, attributes={'s': df.status}),\n\
            px.otel.metric.Gauge('http.size', df.size, 'Body bytes', unit='1'),\n\
            px.otel.metric.Summary(name='http.summary', count=df.resp_status, sum=df.ms,\n\
                quantile_values={0.5: df.ms, 0.99: df.ms}),\n\
            px.otel.trace.Span(name='GET', start_time=df.time_, end_time=df.end,\n\
                trace_id=df.req_body, kind=px.otel.trace.SPAN_KIND_CLIENT),\n\
        ]))\n";

/// A whole specification: defaults, units from meanings, lists of services, and a plan that carries
/// exactly the columns that are named.
#[test]
fn exports_are_declared() {
    let endpoint = OtelEndpoint {
        url: "otel:4317".into(),
        headers: vec![("key".into(), "value".into())],
        insecure: true,
        timeout_s: 5,
    };
    let options =
        CompileOptions { otel_endpoint: Some(endpoint.clone()), ..CompileOptions::default() };
    let compiled = compiled_with(EXPORT, &options);
    assert!(compiled.plan.outputs.is_empty());
    let codes: Vec<&str> = compiled.warnings.iter().map(|found| found.code.as_str()).collect();
    assert_eq!(codes, ["no_exporter"]);
    let [export] = compiled.exports.as_slice() else { panic!("{:?}", compiled.exports) };
    assert_eq!(export.endpoint, endpoint);
    let relation = &export.plan.ops[export.plan.outputs[0].op].relation;
    let names: Vec<&str> = relation.columns.iter().map(|column| column.name.as_str()).collect();
    let wanted = [
        "service",
        "pod",
        "time_",
        "latency",
        "status",
        "size",
        "resp_status",
        "ms",
        "end",
        "req_body",
    ];
    assert_eq!(names, wanted);
    let column = |name: &str, json_array| OtelValue::Column { name: name.into(), json_array };
    let resource: Vec<&OtelValue> = export.resource.iter().map(|each| &each.value).collect();
    let literal = OtelValue::Literal("test".into());
    assert_eq!(resource, [&column("service", true), &column("pod", false), &literal]);
    let units: Vec<Option<&str>> = export
        .data
        .iter()
        .map(|data| match data {
            OtelData::Gauge { unit, .. } | OtelData::Summary { unit, .. } => unit.as_deref(),
            OtelData::Span { .. } => None,
        })
        .collect();
    assert_eq!(units, [Some("ns"), Some("1"), Some(""), None]);
    let OtelData::Span { kind, trace_id, span_id, .. } = &export.data[3] else { panic!("span") };
    assert_eq!(*kind, SpanKind::Client);
    assert_eq!((trace_id.as_deref(), span_id.as_deref()), (Some("req_body"), None));
}

/// An endpoint of the script's own wins, with its defaults; displays and exports go together.
#[test]
fn exports_and_outputs() {
    let own =
        "], endpoint=px.otel.Endpoint(url='own:4317')))\npx.display(df[['service']], 'seen')\n";
    let text = EXPORT.replace("]))\n", own);
    let compiled = compiled_with(&text, &CompileOptions::default());
    let endpoint = &compiled.exports[0].endpoint;
    assert_eq!(
        (endpoint.url.as_str(), endpoint.insecure, endpoint.timeout_s),
        ("own:4317", false, 5)
    );
    assert_eq!(compiled.plan.outputs.len(), 1);
    assert!(!weir_pxl::split(&compiled.exports[0].plan).cluster.ops.is_empty());
    assert!(
        weir_pxl::split(
            &compiled_with(
                EXPORT,
                &CompileOptions {
                    otel_endpoint: Some(endpoint.clone()),
                    ..CompileOptions::default()
                }
            )
            .plan
        )
        .cluster
        .ops
        .is_empty()
    );
}
