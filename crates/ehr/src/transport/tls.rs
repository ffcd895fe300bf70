//! TLS: whom we trust, and a look at the certificate that a server shows, also when it will not do.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Whom we trust: the machine's certificate store and the operator's own roots.
#[derive(Debug, Clone)]
pub(super) struct Trust {
    provider: Arc<CryptoProvider>,
    verifier: Option<Arc<dyn ServerCertVerifier>>,
}

impl Trust {
    /// A machine without any certificate store trusts nobody; https fails then, with a reason, and the rest works.
    pub(super) fn new(extra_roots: Vec<CertificateDer<'static>>) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = rustls_platform_verifier::Verifier::new_with_extra_roots(extra_roots, Arc::clone(&provider))
            .map(|verifier| Arc::new(verifier) as Arc<dyn ServerCertVerifier>)
            .map_err(|_| tracing::warn!("no certificate store was found on this machine; no https server can be trusted"))
            .ok();
        Self { provider, verifier }
    }

    /// A client configuration; the certificate that the server shows goes into `seen`.
    pub(super) fn config(&self, seen: Option<Arc<Mutex<Option<Vec<u8>>>>>) -> Result<ClientConfig, Error> {
        let verifier = Watcher { trust: self.clone(), seen };
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Connects and shakes hands, and reports what was seen on the way.
    pub(super) async fn probe(&self, address: SocketAddr, host: &str) -> TlsProbe {
        let mut probe = TlsProbe::default();
        let stream = match TcpStream::connect(address).await {
            Ok(stream) => stream,
            Err(error) => {
                probe.problem = Some(connect_problem(&error).to_owned());
                return probe;
            }
        };
        probe.connected = true;
        let seen = Arc::new(Mutex::new(None));
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
        let (Ok(config), Ok(name)) = (self.config(Some(Arc::clone(&seen))), name) else {
            probe.problem = Some("The server's name cannot stand in a certificate.".to_owned());
            return probe;
        };
        match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
            Ok(stream) => probe.version = stream.get_ref().1.protocol_version().and_then(|v| v.as_str()).map(str::to_owned),
            Err(error) => probe.problem = Some(handshake_problem(&error)),
        }
        let der = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        probe.certificate = der.as_deref().and_then(PeerCertificate::read);
        probe
    }
}

/// What a handshake showed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsProbe {
    /// Whether TCP came up.
    pub connected: bool,
    /// `TLSv1_3` and the like.
    pub version: Option<String>,
    /// The server's own certificate, also when it was refused.
    pub certificate: Option<PeerCertificate>,
    /// Why there is no connection.
    pub problem: Option<String>,
}

/// A server's certificate, as far as a person wants to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Whom it names.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Until when it holds, seconds since 1970.
    pub not_after: i64,
}

impl PeerCertificate {
    fn read(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let clip = |name: String| name.chars().take(200).collect();
        Some(Self {
            subject: clip(certificate.subject().to_string()),
            issuer: clip(certificate.issuer().to_string()),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

/// A verifier that remembers the certificate and leaves the verdict to the machine's trust.
#[derive(Debug)]
struct Watcher {
    trust: Trust,
    seen: Option<Arc<Mutex<Option<Vec<u8>>>>>,
}

impl ServerCertVerifier for Watcher {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(seen) = &self.seen {
            *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(end_entity.to_vec());
        }
        let Some(verifier) = &self.trust.verifier else {
            return Err(Error::General("this machine has no certificate store".to_owned()));
        };
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.trust.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.trust.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A sentence for a connection that did not come up.
pub(super) fn connect_problem(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "The EHR's server refused the connection.",
        ErrorKind::TimedOut => "The EHR's server did not answer the connection in time.",
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "There is no route to the EHR's server from here.",
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::UnexpectedEof => {
            "The EHR's server closed the connection while it came up."
        }
        _ => "The connection to the EHR's server did not come up.",
    }
}

/// A sentence for a certificate or handshake that will not do.
pub(super) fn tls_problem(error: &Error) -> String {
    use rustls::CertificateError as Bad;
    let what = match error {
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => "has expired",
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => "is not valid yet",
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => "is for another name",
        Error::InvalidCertificate(Bad::UnknownIssuer) => "was issued by somebody whom this machine does not trust",
        Error::InvalidCertificate(Bad::Revoked) => "was revoked",
        Error::InvalidCertificate(_) => "will not do",
        Error::General(text) => return format!("The TLS handshake with the EHR's server failed: {text}."),
        _ => return "The TLS handshake with the EHR's server failed.".to_owned(),
    };
    format!("The certificate of the EHR's server {what}.")
}

fn handshake_problem(error: &std::io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(tls) => tls_problem(tls),
        None => "The server closed the line during the TLS handshake; it may not speak TLS on this port.".to_owned(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    //! A TLS server with a certificate of its own.

    use super::*;
    use rcgen::{CertificateParams, KeyPair, generate_simple_self_signed};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    /// Answers 204 to everything; gives its address and the root that signed it.
    pub(in crate::transport) async fn tls_server(name: &str) -> (SocketAddr, CertificateDer<'static>) {
        let made = generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let root = made.cert.der().clone();
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![root.clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let mut request = [0u8; 4096];
                    while stream.read(&mut request).await.is_ok_and(|n| n > 0) {
                        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
                    }
                });
            }
        });
        (address, root)
    }

    #[test]
    fn a_certificate_gives_issuer_and_end() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["ehr.example.com".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2030, 1, 2);
        let made = params.self_signed(&key).unwrap();
        let read = PeerCertificate::read(made.der()).unwrap();
        assert_eq!(read.not_after, 1_893_542_400);
        assert!(PeerCertificate::read(b"nonsense").is_none());
    }
}
