//! Addresses: networks, and names of addresses.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};

use arrow_array::ArrayRef;
use weir_types::metadata::reads;

use super::metadata::coded;
use super::{ScalarDef, def, overloads};
use crate::json::{self, JsonKind};
use crate::operand::Call;
use crate::output;

pub(super) const DEFS: &[ScalarDef] = &[
    def(
        "nslookup",
        overloads![S => S, nslookup],
        &["ip"],
        "Name of the address by reverse DNS; the address itself until, and unless, it is known",
        "df.host = px.nslookup(df.remote_addr)",
    )
    .reads_context(),
    def(
        "cidrs_contain_ip",
        overloads![S S => B, cidrs_contain_ip],
        &["cidrs", "ip"],
        "True if the address is in one of the networks of the JSON array",
        "df.inside = px.cidrs_contain_ip(px.get_cidrs(), df.remote_addr)",
    ),
    def(
        "get_cidrs",
        overloads![=> S, get_cidrs],
        &[],
        "The cluster's pod networks, their bridges and the service network, JSON",
        "df.cidrs = px.get_cidrs()",
    )
    .reads_context(),
];

fn nslookup(call: &Call<'_>) -> ArrayRef {
    let ip = call.str(0);
    let known = &call.ctx.metadata.dns;
    let asked = RefCell::new(Vec::new());
    let names = coded(
        call.rows,
        |row| ip.get(row),
        |ip, out| {
            // It is to be noted again and again, for as long as somebody wants to know.
            reads::note_always();
            let text = std::str::from_utf8(ip).ok();
            asked.borrow_mut().extend(text.and_then(|text| text.parse::<IpAddr>().ok()));
            let name = text.and_then(|text| known.get(text));
            out.extend_from_slice(name.map_or(ip, |name| name.as_bytes()));
        },
    );
    call.ctx.wants.names_of(&asked.into_inner());
    names
}

/// A network: the address with the bits beyond the prefix cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

fn masked(address: IpAddr, prefix_bits: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - prefix_bits).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - prefix_bits).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

impl Network {
    fn parse(text: &str) -> Option<Network> {
        let (address, prefix) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let prefix_bits: u32 = prefix.parse().ok()?;
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        (prefix_bits <= bits_max)
            .then(|| Network { address: masked(address, prefix_bits), prefix_bits })
    }
    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4()
            && masked(address, self.prefix_bits) == self.address
    }
}

/// Entries that are no networks are skipped; `None` if the text is no array of texts.
fn parse_networks(text: &[u8]) -> Option<Vec<Network>> {
    let mut networks = Vec::new();
    let mut all_texts = true;
    json::for_elements(text, |token| {
        all_texts &= matches!(token.kind, JsonKind::Text { .. });
        let mut entry = Vec::new();
        json::push_text(&mut entry, token);
        networks.extend(std::str::from_utf8(&entry).ok().and_then(Network::parse));
    })?;
    all_texts.then_some(networks)
}

fn cidrs_contain_ip(call: &Call<'_>) -> ArrayRef {
    let (cidrs, ip) = (call.str(0), call.str(1));
    // Networks are the same in all rows, as a rule.
    let mut known: Option<(&[u8], Vec<Network>)> = None;
    output::bools(call.rows, |row| {
        let text = cidrs.get(row);
        if known.as_ref().is_none_or(|(of, _)| *of != text) {
            known = Some((text, parse_networks(text).unwrap_or_default()));
        }
        let address: Option<IpAddr> =
            std::str::from_utf8(ip.get(row)).ok().and_then(|ip| ip.parse().ok());
        match (&known, address) {
            (Some((_, networks)), Some(address)) => {
                networks.iter().any(|network| network.contains(address))
            }
            _ => false,
        }
    })
}

fn get_cidrs(call: &Call<'_>) -> ArrayRef {
    let metadata = &call.ctx.metadata;
    // The bridge of a node is the first address of its pod network; pods answer from there.
    let bridges = metadata.cidrs.iter().filter_map(|text| match Network::parse(text)?.address {
        IpAddr::V4(address) => Some(format!("{}/32", Ipv4Addr::from_bits(address.to_bits() | 1))),
        IpAddr::V6(_) => None,
    });
    let service = Some(&metadata.service_cidr).filter(|text| !text.is_empty());
    let mut texts: Vec<String> = Vec::new();
    for text in metadata.cidrs.iter().cloned().chain(bridges).chain(service.cloned()) {
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    let mut array = vec![b'['];
    for (idx, text) in texts.iter().enumerate() {
        if idx > 0 {
            array.push(b',');
        }
        json::push_quoted(&mut array, text.as_bytes());
    }
    array.push(b']');
    output::strings(call.rows, |_, out| out.extend_from_slice(&array))
}
