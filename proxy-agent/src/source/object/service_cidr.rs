//! A ServiceCIDR: ranges that cluster addresses are allocated from (KEP-1880).

use serde::Deserialize;

use super::Metadata;
use super::scalar::SourceRange;

/// A ServiceCIDR.
#[derive(Debug, PartialEq, Deserialize)]
pub struct ServiceCidr {
    /// metadata
    pub metadata: Metadata,
    /// spec
    pub spec: ServiceCidrSpec,
}

/// spec of a ServiceCIDR.
#[derive(Debug, PartialEq, Deserialize)]
pub struct ServiceCidrSpec {
    /// spec.cidrs, one a family.
    pub cidrs: Box<[SourceRange]>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_ranges_are_read_and_what_is_none_is_refused() {
        let read = |cidrs: &str| {
            let text = format!("{{metadata: {{name: kubernetes}}, spec: {{cidrs: {cidrs}}}}}");
            serde_saphyr::from_str::<ServiceCidr>(&text)
        };
        let cidrs = read("[10.96.0.0/12, 'fd00:10::/108']").unwrap().spec.cidrs;
        assert_eq!(
            cidrs.iter().map(|cidr| cidr.length).collect::<Vec<_>>(),
            [12, 108]
        );
        assert!(read("[all]").is_err());
    }
}
