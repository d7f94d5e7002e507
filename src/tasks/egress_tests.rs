use url::{Host, Url};

use super::*;

fn policy(mode: EgressMode, allow: &[&str]) -> EgressPolicy {
    EgressPolicy { mode, allow: allow.iter().map(|rule| rule.parse().unwrap()).collect() }
}

/// The literal address of a URL as the HTTP client will see it.
fn literal(url: &str) -> Option<IpAddr> {
    match Url::parse(url).unwrap().host().unwrap() {
        Host::Ipv4(ip) => Some(ip.into()),
        Host::Ipv6(ip) => Some(ip.into()),
        Host::Domain(_) => None,
    }
}

#[test]
fn addresses_are_judged_by_what_they_reach() {
    use Refusal::{LinkLocal, Metadata, NoHost};
    let table: &[(&str, Result<(), Refusal>, bool)] = &[
        // address, verdict of internal-ok, whether strict allows it too
        ("8.8.8.8", Ok(()), true),
        ("2606:4700::1111", Ok(()), true),
        ("127.0.0.1", Ok(()), false),
        ("127.255.0.9", Ok(()), false),
        ("::1", Ok(()), false),
        ("::ffff:127.0.0.1", Ok(()), false),
        ("::7f00:1", Ok(()), false),
        ("10.1.2.3", Ok(()), false),
        ("172.15.0.1", Ok(()), true),
        ("172.16.0.1", Ok(()), false),
        ("172.31.255.255", Ok(()), false),
        ("172.32.0.1", Ok(()), true),
        ("192.168.1.1", Ok(()), false),
        ("100.64.0.1", Ok(()), false),
        ("100.128.0.1", Ok(()), true),
        ("198.18.0.1", Ok(()), false),
        ("192.0.2.1", Ok(()), false),
        ("fc00::1", Ok(()), false),
        ("fd12::1", Ok(()), false),
        ("fec0::1", Ok(()), false),
        ("2001:db8::1", Ok(()), false),
        ("2001::1", Ok(()), false),
        ("2002:0a00:0001::1", Ok(()), false),
        ("2002:0808:0808::1", Ok(()), true),
        ("64:ff9b::808:808", Ok(()), true),
        ("64:ff9b::a00:1", Ok(()), false),
        ("64:ff9b:1::808:808", Ok(()), false),
        ("169.254.169.254", Err(Metadata), false),
        ("169.254.1.1", Err(LinkLocal), false),
        ("::ffff:169.254.169.254", Err(Metadata), false),
        ("64:ff9b::a9fe:a9fe", Err(Metadata), false),
        ("2002:a9fe:a9fe::1", Err(Metadata), false),
        ("::a9fe:a9fe", Err(Metadata), false),
        ("fd00:ec2::254", Err(Metadata), false),
        ("100.100.100.200", Err(Metadata), false),
        ("168.63.129.16", Err(Metadata), false),
        ("fe80::1", Err(LinkLocal), false),
        ("febf::1", Err(LinkLocal), false),
        ("0.0.0.0", Err(NoHost), false),
        ("0.1.2.3", Err(NoHost), false),
        ("::", Err(NoHost), false),
        ("224.0.0.1", Err(NoHost), false),
        ("240.0.0.1", Err(NoHost), false),
        ("255.255.255.255", Err(NoHost), false),
        ("ff02::1", Err(NoHost), false),
    ];
    for (text, verdict, strict) in table {
        let ip: IpAddr = text.parse().unwrap();
        let internal_ok = policy(EgressMode::InternalOk, &[]).check_address("host", ip);
        assert_eq!(internal_ok, *verdict, "{text}");
        let found = policy(EgressMode::Strict, &[]).check_address("host", ip).is_ok();
        assert_eq!(found, *strict, "{text} strictly");
    }
}

#[test]
fn disguised_literals_are_seen_through() {
    for url in [
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://0251.0376.0251.0376/",
        "http://169.254.43518/",
        "http://169.254.169.254./",
        "http://[::ffff:a9fe:a9fe]/",
        "http://%31%36%39.254.169.254/",
        "http://①⑥⑨.254.169.254/",
    ] {
        let ip = literal(url).unwrap_or_else(|| panic!("{url} is not seen as a literal"));
        let verdict = policy(EgressMode::InternalOk, &[]).check_address("", ip);
        assert_eq!(verdict, Err(Refusal::Metadata), "{url}");
    }
    for url in ["http://0/", "http://0x0/", "http://[::]/"] {
        let verdict = policy(EgressMode::InternalOk, &[]).check_address("", literal(url).unwrap());
        assert_eq!(verdict, Err(Refusal::NoHost), "{url}");
    }
}

#[test]
fn metadata_names_are_refused_with_and_without_a_trailing_dot() {
    let open = policy(EgressMode::InternalOk, &[]);
    for host in ["metadata.google.internal", "METADATA.google.internal.", "metadata"] {
        assert_eq!(open.check_host(host), Err(Refusal::Metadata), "{host}");
    }
    assert_eq!(open.check_host("metadata.example.com"), Ok(()));
}

#[test]
fn the_allow_list_opens_exactly_what_it_names() {
    let strict = policy(EgressMode::Strict, &["10.0.0.0/8", "intra.example", "fd00::/8"]);
    let ten: IpAddr = "10.9.9.9".parse().unwrap();
    let home: IpAddr = "192.168.0.9".parse().unwrap();
    let mapped: IpAddr = "::ffff:10.9.9.9".parse().unwrap();
    assert!(strict.check_address("x", ten).is_ok());
    assert!(strict.check_address("x", mapped).is_ok());
    assert!(strict.check_address("x", "fd12::1".parse().unwrap()).is_ok());
    assert!(strict.check_address("x", home).is_err());
    assert!(strict.check_address("intra.example", home).is_ok());
    assert!(strict.check_address("INTRA.example.", home).is_ok());
    assert!(strict.check_address("evil-intra.example", home).is_err());
    assert!(strict.check_address("a.intra.example", home).is_err());
}

#[test]
fn a_rule_that_means_nothing_is_refused() {
    for rule in ["", "10.0.0.0/33", "::/129", "a b", "*.example.com", "10.0.0.0/x"] {
        assert!(rule.parse::<AllowRule>().is_err(), "{rule}");
    }
}

#[test]
fn our_own_listener_is_known_under_every_address_that_reaches_it() {
    let local: IpAddr = "192.168.0.5".parse().unwrap();
    let is_local = |ip: IpAddr| ip == local;
    let own = |listener: &str, target: &str| {
        is_own_listener(&[listener.parse().unwrap()], target.parse().unwrap(), is_local)
    };
    assert!(own("127.0.0.1:7411", "127.0.0.1:7411"));
    assert!(own("127.0.0.1:7411", "[::ffff:127.0.0.1]:7411"));
    assert!(!own("127.0.0.1:7411", "127.0.0.1:7412"));
    assert!(!own("127.0.0.1:7411", "192.168.0.5:7411"));
    assert!(own("0.0.0.0:7411", "127.9.9.9:7411"));
    assert!(own("0.0.0.0:7411", "192.168.0.5:7411"));
    assert!(own("[::]:7411", "[::1]:7411"));
    assert!(!own("0.0.0.0:7411", "192.168.0.6:7411"));
}
