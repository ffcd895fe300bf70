//! What may be dialled, and what not: by literal, by name, by every spelling.

use super::*;
use proptest::prelude::*;

fn no() -> Guard {
    Guard::new(AllowLocal::No)
}

#[test]
fn the_setting_is_true_false_or_ranges() {
    assert_eq!("false".parse(), Ok(AllowLocal::No));
    assert_eq!("".parse(), Ok(AllowLocal::No));
    assert_eq!(" TRUE ".parse(), Ok(AllowLocal::All));
    let Ok(AllowLocal::Cidrs(nets)) = "10.0.0.0/8, 192.168.1.5,fd00::/8".parse() else { panic!("a list") };
    assert_eq!(nets.len(), 3);
    let error = "10.0.0.0/99".parse::<AllowLocal>().unwrap_err();
    assert!(error.to_string().contains("PONTE_EHR_ALLOW_LOCAL"));
}

/// Every spelling of a local, link-local or metadata address that a tenant might try.
pub(crate) const VECTORS: &[&str] = &[
    "https://127.0.0.1/",
    "https://127.1/",
    "https://127.255.255.254/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://0x7f.1/",
    "https://0/",
    "https://0.0.0.0/",
    "https://0.1.2.3/",
    "https://[::1]/",
    "https://[::]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::127.0.0.1]/",
    "https://[::ffff:0:127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[64:ff9b::10.0.0.1]/",
    "https://[64:ff9b:1::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[2002:a00:1::1]/",
    "https://[2002:a9fe:a9fe::]/",
    "https://[2001:0:4136:e378:8000:63bf:80ff:fffe]/",
    "https://[2001:db8::1]/",
    "https://[fe80::5efe:10.0.0.1]/",
    "https://[2606:4700::5efe:127.0.0.1]/",
    "https://10.0.0.1/",
    "https://10.255.255.255/",
    "https://172.16.0.1/",
    "https://172.31.255.255/",
    "https://192.168.0.1/",
    "https://3232235521/",
    "https://100.64.0.1/",
    "https://100.127.255.255/",
    "https://100.100.100.200/",
    "https://169.254.169.254/latest/meta-data/",
    "https://169.254.0.1/",
    "https://2852039166/",
    "https://0xa9fea9fe/",
    "https://[::ffff:169.254.169.254]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[fd00:ec2::254]/",
    "https://[fd20:ce::254]/",
    "https://168.63.129.16/",
    "https://192.0.0.192/",
    "https://192.0.0.1/",
    "https://192.0.2.1/",
    "https://198.18.0.1/",
    "https://198.51.100.1/",
    "https://203.0.113.1/",
    "https://192.88.99.1/",
    "https://224.0.0.1/",
    "https://239.255.255.250/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://[fc00::1]/",
    "https://[fd12:3456::1]/",
    "https://[fe80::1]/",
    "https://[febf::1]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://[100::1]/",
    "https://[5f00::1]/",
    "https://１２７.0.0.1/",
    "https://127。0。0。1/",
    "https://127．0．0．1/",
    "https://127｡0｡0｡1/",
    "https://①②⑦.⓪.⓪.①/",
    "https://%31%32%37.0.0.1/",
    "https://127.0.0.1./",
    "https://127.0.1/",
    "https://00000177.1/",
    "https://0x7f000001./",
    "https://4294967295/",
    "https://169.254.169.254./",
    "https://169.254.43518/",
    "https://0251.0376.0251.0376/",
    "https://0xa9.0xfe.0xa9.0xfe/",
    "https://[::ffff:a9fe:a9fe]/",
    "https://[::a9fe:a9fe]/",
    "https://[64:ff9b::169.254.169.254]/",
    "https://[2001:0:4136:e378:8000:63bf:5601:5601]/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[::1%25lo]/",
    "https://127.0.0.1:65536/",
    "https://127.0.0.1:443:80/",
    "https://127.0.0.1:0443/",
    "https://example.com:443@127.0.0.1/",
    "https://example.com%40127.0.0.1/",
    "https://user:pass@example.com/",
    "https://example.com@127.0.0.1/",
    "https://example.com:0/",
    "https:///127.0.0.1/",
    "https://",
    "https:\\\\127.0.0.1\\",
    "https://127.0.0.1\\@example.com/",
    "https://exa\tmple.com/",
    " https://example.com/",
    "http://example.com/",
    "http://8.8.8.8/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_x",
    "unix:/run/docker.sock",
    "javascript:alert(1)",
    "//127.0.0.1/",
    "127.0.0.1",
];

#[test]
fn no_spelling_of_a_forbidden_address_passes() {
    assert!(VECTORS.len() >= 60);
    for vector in VECTORS {
        assert!(no().check_url(vector).is_err(), "{vector}");
    }
}

#[test]
fn public_addresses_and_names_pass() {
    for good in [
        "https://fhir.example.com/r4",
        "https://8.8.8.8/fhir",
        "https://[2606:4700::1111]/",
        "https://[64:ff9b::808:808]/",
        "https://ehr.example.com.:8443/x",
    ] {
        assert!(no().check_url(good).is_ok(), "{good}");
    }
}

#[test]
fn link_local_and_metadata_are_never_allowed() {
    let all = Guard::new(AllowLocal::All);
    let listed = Guard::new("0.0.0.0/0,::/0".parse().unwrap());
    for never in [
        "http://169.254.169.254/",
        "https://169.254.1.1/",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://[2002:a9fe:a9fe::]/",
        "http://100.100.100.200/",
        "http://[fd00:ec2::254]/",
        "http://168.63.129.16/",
    ] {
        assert_eq!(all.check_url(never).unwrap_err(), Refusal::Never, "{never}");
        assert_eq!(listed.check_url(never).unwrap_err(), Refusal::Never, "{never}");
    }
}

#[test]
fn local_ranges_open_only_as_far_as_the_operator_says() {
    let all = Guard::new(AllowLocal::All);
    for good in ["http://127.0.0.1:8080/fhir", "http://10.1.2.3/", "https://[::1]/", "http://localhost:9/", "http://[fd12::1]/"] {
        assert!(all.check_url(good).is_ok(), "{good}");
    }
    assert_eq!(all.check_url("http://8.8.8.8/").unwrap_err(), Refusal::PlainHttp, "no plain http over the internet");
    let some = Guard::new("10.0.0.0/8".parse().unwrap());
    assert!(some.check_url("http://10.9.9.9/").is_ok());
    assert_eq!(some.check_url("http://192.168.0.1/").unwrap_err(), Refusal::Local);
    assert!(some.check_url("https://[::ffff:10.1.1.1]/").is_ok());
    assert_eq!(no().check_url("http://ehr.local/").unwrap_err(), Refusal::PlainHttp);
}

#[test]
fn of_a_names_addresses_only_the_good_ones_are_dialled() {
    let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
    let mixed = [address("127.0.0.1:0"), address("8.8.8.8:0"), address("[fe80::1]:0")];
    assert_eq!(no().filter(mixed, false), Ok(vec![address("8.8.8.8:0")]));
    assert_eq!(no().filter([address("10.0.0.1:0")], false), Err(Refusal::Local));
    let all = Guard::new(AllowLocal::All);
    assert_eq!(all.filter(mixed, true), Ok(vec![address("127.0.0.1:0")]), "plain http goes to local addresses only");
}

#[test]
fn origins_are_scheme_host_and_port() {
    let url = |text: &str| Url::parse(text).unwrap();
    assert!(same_origin(&url("https://h/a"), &url("https://h:443/b?c")));
    for other in ["http://h/a", "https://h:8443/a", "https://h.evil.com/a", "https://x/a"] {
        assert!(!same_origin(&url("https://h/a"), &url(other)), "{other}");
    }
}

proptest! {
    #[test]
    fn an_ipv4_address_is_judged_alike_in_every_wrapping(bits in any::<u32>()) {
        let v4 = std::net::Ipv4Addr::from(bits);
        let [a, b, c, d] = v4.octets();
        let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        let kind_v4 = kind(v4.into());
        prop_assert_eq!(kind(v4.to_ipv6_mapped().into()), kind_v4);
        let nat64: IpAddr = std::net::Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low).into();
        prop_assert_eq!(kind(nat64), kind_v4);
        let six_to_four: IpAddr = std::net::Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1).into();
        prop_assert!(kind(six_to_four) != Kind::Public);
        let std_says_local = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() || v4.is_unspecified() || v4.is_documentation();
        prop_assert!(!std_says_local || kind_v4 != Kind::Public);
    }

    #[test]
    fn foreign_text_never_panics(text in "\\PC*") {
        let _ = (no().check_url(&text).is_ok(), text.parse::<AllowLocal>().is_ok());
    }
}
