//! The address guard: which addresses this machine may dial on a tenant's word (CONTRACT, `PONTE_EHR_ALLOW_LOCAL`).
//!
//! `https` to public addresses, unless the operator allows local ranges; link-local and cloud metadata never. Literals are
//! judged before dialling, names when they resolve, at every connect, so that what was checked is what is dialled.

mod address;
mod resolver;

pub use address::{Kind, kind};
pub use resolver::{GuardedResolver, Lookup, ResolveError, SystemLookup};

use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use url::{Host, Url};

/// Which local ranges the operator allows. Never the tenant's choice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AllowLocal {
    /// None: https to public addresses only.
    #[default]
    No,
    /// All but link-local and metadata addresses; `http://` there too.
    All,
    /// These; `http://` there too.
    Cidrs(Vec<IpNet>),
}

impl FromStr for AllowLocal {
    type Err = BadAllowLocal;

    /// Reads `true`, `false`, or CIDRs and addresses separated by commas or spaces.
    fn from_str(text: &str) -> Result<Self, BadAllowLocal> {
        match text.trim().to_ascii_lowercase().as_str() {
            "" | "false" | "no" | "off" | "0" => return Ok(Self::No),
            "true" | "yes" | "on" | "1" => return Ok(Self::All),
            _ => {}
        }
        let parts = text.split([',', ' ']).map(str::trim).filter(|part| !part.is_empty());
        let read = |part: &str| part.parse::<IpNet>().or_else(|_| part.parse::<IpAddr>().map(IpNet::from));
        parts.map(|part| read(part).map_err(|_| BadAllowLocal(part.to_owned()))).collect::<Result<_, _>>().map(Self::Cidrs)
    }
}

/// A setting that is neither `true`, `false`, nor a list of CIDRs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a CIDR such as 10.0.0.0/8; PONTE_EHR_ALLOW_LOCAL is true, false, or a list of them separated by commas")]
pub struct BadAllowLocal(String);

/// Why an address is not dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a URL at all, or one that only some readers understand.
    #[error("This is not a URL that every reader understands the same way.")]
    NotAUrl,
    /// Another scheme than https (or http where allowed).
    #[error("The address must begin with https://.")]
    Scheme,
    /// http to an address that is not an allowed local one.
    #[error("http:// is accepted only for local addresses that the operator of Ponte allows (PONTE_EHR_ALLOW_LOCAL); use https://.")]
    PlainHttp,
    /// User or password in the URL.
    #[error("The address must not hold a user name or password; they belong in authConfig.")]
    UserInfo,
    /// No host, or port 0.
    #[error("The address names no host that can be dialled.")]
    Host,
    /// A local address that is not allowed.
    #[error("The address lies in a local or reserved network, and the operator of Ponte does not allow it (PONTE_EHR_ALLOW_LOCAL).")]
    Local,
    /// Link-local or a cloud's metadata address: never allowed.
    #[error("The address is link-local or belongs to a cloud's metadata; Ponte never dials it.")]
    Never,
    /// Another origin than the connection's.
    #[error("The EHR sent us to another server than the configured one; Ponte does not follow.")]
    OtherOrigin,
}

impl Refusal {
    /// Stable snake_case code.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotAUrl => "not_a_url",
            Self::Scheme => "scheme",
            Self::PlainHttp => "plain_http",
            Self::UserInfo => "user_info",
            Self::Host => "host",
            Self::Local => "local_address",
            Self::Never => "forbidden_address",
            Self::OtherOrigin => "other_origin",
        }
    }
}

/// The guard of one process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    allow: AllowLocal,
}

impl Guard {
    /// A guard with the operator's setting.
    #[must_use]
    pub fn new(allow: AllowLocal) -> Self {
        Self { allow }
    }

    /// Judges a URL as far as it can be judged without resolving its name; [`GuardedResolver`] judges the rest at connect.
    ///
    /// # Errors
    /// Why it may not be dialled.
    pub fn check_url(&self, text: &str) -> Result<Url, Refusal> {
        // The URL standard repairs these silently; another reader would not, so nobody sends them in good faith.
        if text.len() > 8_000 || text.bytes().any(|b| b <= b' ' || b == 0x7f || b == b'\\') {
            return Err(Refusal::NotAUrl);
        }
        let lower = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        if !lower.starts_with("https://") && !lower.starts_with("http://") {
            return Err(if text.contains("://") { Refusal::Scheme } else { Refusal::NotAUrl });
        }
        let url = Url::parse(text).map_err(|_| Refusal::NotAUrl)?;
        self.check(&url)?;
        Ok(url)
    }

    /// The same for a URL that is parsed already.
    ///
    /// # Errors
    /// Why it may not be dialled.
    pub fn check(&self, url: &Url) -> Result<(), Refusal> {
        let plain = match url.scheme() {
            "https" => false,
            "http" => true,
            _ => return Err(Refusal::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::UserInfo);
        }
        if url.port() == Some(0) {
            return Err(Refusal::Host);
        }
        match url.host() {
            None => Err(Refusal::Host),
            Some(Host::Ipv4(ip)) => self.check_ip(ip.into(), plain),
            Some(Host::Ipv6(ip)) => self.check_ip(ip.into(), plain),
            Some(Host::Domain(name)) if name.trim_matches('.').is_empty() => Err(Refusal::Host),
            Some(Host::Domain(_)) if plain && self.allow == AllowLocal::No => Err(Refusal::PlainHttp),
            Some(Host::Domain(_)) => Ok(()),
        }
    }

    /// Judges one address; `plain` for http without TLS.
    ///
    /// # Errors
    /// Why it may not be dialled.
    pub fn check_ip(&self, ip: IpAddr, plain: bool) -> Result<(), Refusal> {
        match kind(ip) {
            Kind::Never => Err(Refusal::Never),
            Kind::Local if self.allows(ip) => Ok(()),
            Kind::Local => Err(Refusal::Local),
            // A CIDR of the operator may also name public addresses: for http in a hospital's own network.
            Kind::Public if plain && !self.lists(ip) => Err(Refusal::PlainHttp),
            Kind::Public => Ok(()),
        }
    }

    /// Those of the addresses that may be dialled.
    ///
    /// # Errors
    /// The first refusal, when none may.
    pub fn filter(&self, addresses: impl IntoIterator<Item = SocketAddr>, plain: bool) -> Result<Vec<SocketAddr>, Refusal> {
        let mut refusal = Refusal::Host;
        let mut good = Vec::new();
        for address in addresses {
            match self.check_ip(address.ip(), plain) {
                Ok(()) => good.push(address),
                Err(why) => refusal = why,
            }
        }
        if good.is_empty() { Err(refusal) } else { Ok(good) }
    }

    fn allows(&self, ip: IpAddr) -> bool {
        self.allow == AllowLocal::All || self.lists(ip)
    }

    fn lists(&self, ip: IpAddr) -> bool {
        let AllowLocal::Cidrs(nets) = &self.allow else { return false };
        let inner = address::embedded(ip);
        nets.iter().any(|net| net.contains(&ip) || inner.is_some_and(|inner| net.contains(&inner)))
    }
}

/// Whether two URLs have the same scheme, host and port: only there may credentials go.
#[must_use]
pub fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host_str() == b.host_str() && a.port_or_known_default() == b.port_or_known_default()
}

#[cfg(test)]
pub(crate) mod tests;
