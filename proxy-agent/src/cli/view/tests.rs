use super::*;

fn printed(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut bytes = Vec::new();
    print(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn list(backends: &[u32], when_empty: &'static str) -> ListEntry {
    ListEntry {
        backends: backends.to_vec(),
        choice: "random",
        when_empty,
    }
}

fn services() -> Vec<ServiceEntry> {
    let frontend = |address: &str, port, kind| FrontendEntry {
        address: address.parse().unwrap(),
        port,
        protocol: "tcp",
        kind,
    };
    let web = ServiceEntry {
        id: 2,
        name: "shop/web:http".into(),
        frontends: vec![
            frontend("10.96.0.1", 80, "ClusterIP"),
            frontend("0.0.0.0", 30080, "NodePort"),
            frontend("fd00::1", 80, "LoadBalancer"),
        ],
        internal: list(&[5, 6], ""),
        external: list(&[], "drop"),
        shortcut: list(&[5, 6], ""),
        forwarding: "dsr",
        affinity_seconds: 10_800,
        hints_not_followed: Some("none is for this node's zone".into()),
    };
    let none = ServiceEntry {
        id: 1,
        name: "shop/zero".into(),
        frontends: vec![frontend("10.96.0.2", 80, "ClusterIP")],
        internal: list(&[], "reject"),
        external: list(&[], "reject"),
        shortcut: list(&[], "reject"),
        forwarding: "snat",
        affinity_seconds: 0,
        hints_not_followed: None,
    };
    vec![none, web]
}

fn backends() -> Vec<BackendEntry> {
    let backend = |id, number: u8, service, local, alive| BackendEntry {
        id,
        address: [10, 1, 0, number].into(),
        port: 8080,
        protocol: "tcp",
        service,
        local,
        alive,
        generation: 3,
        connections: number.into(),
    };
    vec![
        backend(6, 2, 2, false, true),
        backend(5, 1, 2, true, true),
        backend(7, 3, 2, true, false),
    ]
}

#[test]
fn services_are_a_row_a_frontend() {
    let text = printed(|writer| print_services(writer, Output::Table, services(), &backends()));
    assert_eq!(
        text,
        "\
SERVICE        KIND          FRONTEND          INTERNAL  EXTERNAL  SHORTCUT  FORWARDING  AFFINITY  CHOICE  BACKENDS (LOCAL/ALL)  HINTS
shop/web:http  ClusterIP     tcp 10.96.0.1:80  2         -         -         -           10800s    random  1/2                   not followed: none is for this node's zone
shop/web:http  NodePort      tcp *:30080       -         drop      2         dsr         10800s    random  1/2                   not followed: none is for this node's zone
shop/web:http  LoadBalancer  tcp [fd00::1]:80  -         drop      2         dsr         10800s    random  1/2                   not followed: none is for this node's zone
shop/zero      ClusterIP     tcp 10.96.0.2:80  reject    -         -         -           -         -       0/0                   -
"
    );
}

#[test]
fn json_is_the_entries_themselves() {
    let text = printed(|writer| print_services(writer, Output::Json, services(), &[]));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value[0]["name"], "shop/web:http");
    assert_eq!(value[0]["frontends"][1]["kind"], "NodePort");
    let text = printed(|writer| print_backends(writer, Output::Json, backends(), &[]));
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value.as_array().unwrap().len(), 3);
}

#[test]
fn backends_that_serve_are_named_by_their_service() {
    let mut all = backends();
    all[0].service = 9;
    let text = printed(|writer| print_backends(writer, Output::Table, all, &services()));
    assert_eq!(
        text,
        "\
SERVICE         BACKEND            WHERE      ID  GENERATION  CONNECTIONS
(gone, id 9)    tcp 10.1.0.2:8080  elsewhere  6   3           2
shop/web:http   tcp 10.1.0.1:8080  here       5   3           1
"
        .replace("(gone, id 9)    ", "(gone, id 9)   ")
        .replace("SERVICE         ", "SERVICE        ")
        .replace("shop/web:http   ", "shop/web:http  ")
    );
}

#[test]
fn flows_show_packet_and_translation() {
    let flow = FlowEntry {
        table: "established",
        direction: "forward",
        protocol: "tcp",
        source: "10.1.0.9:4000".parse().unwrap(),
        destination: "10.96.0.1:80".parse().unwrap(),
        new_source: "10.1.0.9:4000".parse().unwrap(),
        new_destination: "10.1.0.1:8080".parse().unwrap(),
        action: "stack",
        service: 2,
        backend: 5,
        generation: 3,
        state: vec!["replied", "established"],
        idle_seconds: 4,
        expires_seconds: 60,
    };
    let expired = FlowEntry {
        expires_seconds: 0,
        ..flow.clone()
    };
    let text = printed(|writer| print_flows(writer, Output::Table, &[flow, expired], &services()));
    let lines: Vec<&str> = text.lines().collect();
    let cells: Vec<&str> = lines[1]
        .split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect();
    assert_eq!(
        cells,
        [
            "forward",
            "tcp 10.1.0.9:4000 > 10.96.0.1:80",
            "10.1.0.9:4000 > 10.1.0.1:8080",
            "stack",
            "replied,established",
            "4s",
            "established",
            "shop/web:http"
        ]
    );
    assert!(lines[2].contains(" expired "), "{}", lines[2]);
}

#[test]
fn source_ports_are_a_row_a_destination() {
    let row = |destination: &str, service: &str, used| SnatUse {
        protocol: "tcp",
        destination: destination.parse().unwrap(),
        source: [192, 168, 0, 1].into(),
        service: service.to_owned(),
        used,
        of: 16_000,
    };
    let rows = [
        row("10.1.0.1:8080", "shop/web:http", 4_100),
        row("[fd00::7]:80", "", 9),
    ];
    let text = printed(|writer| print_source_ports(writer, Output::Table, &rows));
    assert_eq!(
        text,
        "\
DESTINATION        SOURCE       PORTS                 SERVICE
tcp 10.1.0.1:8080  192.168.0.1  4100 of 16000 (25 %)  shop/web:http
tcp [fd00::7]:80   192.168.0.1  9 of 16000 (0 %)      - (netfilter)
"
    );
}

#[test]
fn drops_come_before_other_counters() {
    let counter = |name, drop, value| CounterEntry {
        name,
        help: "Help.",
        drop,
        value,
    };
    let counters = vec![counter("flow_created", false, 7), counter("no_endpoint", true, 2)];
    let text = printed(|writer| print_drops(writer, Output::Table, counters));
    assert_eq!(
        text,
        "COUNTER       COUNT  WHAT IT COUNTS\nno_endpoint   2      Help.\nflow_created  7      Help.\n"
    );
}

#[test]
fn checks_show_their_way_out() {
    let check = Check {
        name: "kernel",
        state: State::Fail,
        found: "4.19".into(),
        way_out: "use 5.10 or later".into(),
    };
    let text = printed(|writer| print_checks(writer, Output::Table, &[check]));
    assert!(text.contains("FAIL   kernel  4.19   use 5.10 or later"), "{text}");
}

#[test]
fn a_cleanup_says_what_went() {
    let removed = Removed {
        links: 2,
        filters: 1,
        maps: 20,
        reserved_ports: vec!["45000-60999".into()],
    };
    let text = printed(|writer| print_removed(writer, &removed));
    assert_eq!(
        text,
        "removed: 2 links, 1 filters, 20 maps\nno longer reserved: ports 45000-60999\n"
    );
}
