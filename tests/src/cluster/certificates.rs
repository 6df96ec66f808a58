//! The cluster's certificates: an authority of its own, and who it knows.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;

/// Signs, and writes what it signed into a folder.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// Files of a certificate and its key.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The certificate, as PEM.
    pub(crate) certificate: PathBuf,
    /// Its private key, as PEM.
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Makes one; the folder must exist.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, "cluster");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().context("making the authority's key")?;
        let issuer = CertifiedIssuer::self_signed(parameters, key).context("signing the authority")?;
        let authority = Self {
            folder: folder.to_owned(),
            issuer,
        };
        write(&authority.certificate(), &authority.issuer.pem())?;
        write(&authority.key(), &authority.issuer.key().serialize_pem())?;
        Ok(authority)
    }

    /// Its certificate's file.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.join("authority.crt")
    }

    /// Its key's file: the controller manager signs with it.
    pub(crate) fn key(&self) -> PathBuf {
        self.folder.join("authority.key")
    }

    /// A server that answers at these addresses and names.
    pub(crate) fn server(&self, name: &str, addresses: &[IpAddr], names: &[&str]) -> Result<Identity> {
        let mut parameters = parameters(name, None, ExtendedKeyUsagePurpose::ServerAuth);
        let addresses = addresses.iter().copied().map(SanType::IpAddress);
        let names = names.iter().map(|name| {
            let name = (*name)
                .try_into()
                .with_context(|| format!("{name} is no DNS name"))?;
            Ok(SanType::DnsName(name))
        });
        parameters.subject_alt_names = addresses.map(Ok).chain(names).collect::<Result<_>>()?;
        self.issue(name, &parameters)
    }

    /// A client that Kubernetes knows by user and group.
    pub(crate) fn client(&self, file: &str, user: &str, group: Option<&str>) -> Result<Identity> {
        self.issue(
            file,
            &parameters(user, group, ExtendedKeyUsagePurpose::ClientAuth),
        )
    }

    /// Writes a kubeconfig for a new client.
    pub(crate) fn kubeconfig(
        &self,
        file: &str,
        user: &str,
        group: Option<&str>,
        server: &str,
    ) -> Result<PathBuf> {
        let identity = self.client(file, user, group)?;
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "cluster",
            "clusters": [{"name": "cluster", "cluster": {"server": server, "certificate-authority": self.certificate()}}],
            "users": [{"name": user, "user": {"client-certificate": identity.certificate, "client-key": identity.key}}],
            "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": user}}],
        });
        let path = self.folder.join(format!("{file}.kubeconfig"));
        write(&path, &format!("{config:#}\n"))?;
        Ok(path)
    }

    /// A pair of keys to sign and check service accounts' tokens with.
    pub(crate) fn tokens(&self) -> Result<Identity> {
        let key = KeyPair::generate().context("making the key of service accounts")?;
        let identity = self.files("tokens");
        write(&identity.key, &key.serialize_pem())?;
        write(&identity.certificate, &key.public_key_pem())?;
        Ok(identity)
    }

    fn issue(&self, file: &str, parameters: &CertificateParams) -> Result<Identity> {
        let key = KeyPair::generate().with_context(|| format!("making the key of {file}"))?;
        let certificate = parameters
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("signing {file}"))?;
        let identity = self.files(file);
        write(&identity.key, &key.serialize_pem())?;
        write(&identity.certificate, &certificate.pem())?;
        Ok(identity)
    }

    fn files(&self, name: &str) -> Identity {
        Identity {
            certificate: self.folder.join(format!("{name}.crt")),
            key: self.folder.join(format!("{name}.key")),
        }
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Authority")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

fn parameters(user: &str, group: Option<&str>, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, user);
    if let Some(group) = group {
        parameters
            .distinguished_name
            .push(DnType::OrganizationName, group);
    }
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![usage];
    parameters.use_authority_key_identifier_extension = true;
    parameters
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
