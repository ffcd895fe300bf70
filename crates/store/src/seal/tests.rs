//! What is sealed opens only where it was sealed.

use super::*;

fn key(tenant: &str) -> DataKey {
    DataKey { tenant: TenantId::new(tenant).unwrap(), key: Zeroizing::new([7; KEY]) }
}

#[test]
fn a_sealed_value_opens_in_its_own_place_alone() {
    let sealed = key("a").seal_text("patients", "sealed_draft", "row", "Maria").unwrap();
    assert_eq!(key("a").open_text("patients", "sealed_draft", "row", &sealed).unwrap(), "Maria");
    assert!(key("b").open("patients", "sealed_draft", "row", &sealed).is_err());
    assert!(key("a").open("observations", "sealed_draft", "row", &sealed).is_err());
    assert!(key("a").open("patients", "sealed_message", "row", &sealed).is_err());
    assert!(key("a").open("patients", "sealed_draft", "other", &sealed).is_err());
}

#[test]
fn every_flipped_bit_is_seen() {
    let sealed = key("a").seal("t", "c", "r", b"x").unwrap();
    for at in 0..sealed.len() {
        let mut bent = sealed.clone();
        bent[at] ^= 1;
        assert!(matches!(key("a").open("t", "c", "r", &bent), Err(Error::Sealed)), "byte {at}");
    }
    assert!(matches!(key("a").open("t", "c", "r", &sealed[..10]), Err(Error::Sealed)));
}

#[test]
fn the_same_value_is_never_sealed_alike_twice() {
    assert_ne!(key("a").seal("t", "c", "r", b"x").unwrap(), key("a").seal("t", "c", "r", b"x").unwrap());
}

#[test]
fn a_blind_index_depends_on_value_field_and_key() {
    let a = key("a");
    assert_eq!(a.blind("cpf", "52998224725"), a.blind("cpf", "52998224725"));
    assert_ne!(a.blind("cpf", "52998224725"), a.blind("cns", "52998224725"));
    assert_ne!(a.blind("cpf", "52998224725"), a.blind("cpf", "11144477735"));
    let other = DataKey { tenant: TenantId::new("a").unwrap(), key: Zeroizing::new([8; KEY]) };
    assert_ne!(a.blind("cpf", "52998224725"), other.blind("cpf", "52998224725"));
}

#[test]
fn a_ring_says_what_is_wrong_with_it_and_never_shows_a_key() {
    let good = STANDARD.encode((0u8..32).collect::<Vec<_>>());
    let ring = KeyRing::parse(&format!("{good}, {}", STANDARD.encode((1u8..33).collect::<Vec<_>>()))).unwrap();
    assert_eq!(ring.keys.len(), 2);
    assert!(!format!("{ring:?}").contains(&good));
    for bad in ["", "not base64!", "c2hvcnQ=", &STANDARD.encode([0u8; 32]), &format!("{good},")] {
        let said = KeyRing::parse(bad).unwrap_err();
        assert!(said.contains("PONTE_ENCRYPTION_KEY") && (bad.is_empty() || !said.contains(bad)), "{said}");
    }
}

#[test]
fn an_old_key_of_the_ring_still_opens_and_the_first_one_wraps() {
    let (old, new) = (STANDARD.encode((0u8..32).collect::<Vec<_>>()), STANDARD.encode((1u8..33).collect::<Vec<_>>()));
    let (id, wrapped) = KeyRing::parse(&old).unwrap().wrap("a", &[9; KEY]).unwrap();
    let both = KeyRing::parse(&format!("{new},{old}")).unwrap();
    assert_eq!(*both.unwrap("a", &id, &wrapped).unwrap(), [9; KEY]);
    assert!(both.unwrap("b", &id, &wrapped).is_err());
    assert_ne!(both.wrap("a", &[9; KEY]).unwrap().0, id);
    assert!(KeyRing::parse(&new).unwrap().unwrap("a", &id, &wrapped).is_err());
}
