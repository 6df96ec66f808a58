//! What an agent tells at /metrics.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Agent;

const ADDRESS: &str = "127.0.0.1:10249";
const PATIENCE: Duration = Duration::from_secs(10);

impl Agent {
    /// Its metrics, as OpenMetrics text.
    pub fn metrics(&self) -> Result<String> {
        self.place().namespace().run(|| {
            let mut stream = TcpStream::connect(ADDRESS).context("connecting to the agent's /metrics")?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }

    /// The sum of a metric's series with all of these labels, each as `map="SLOTS"`; none if there is no such series.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Result<Option<f64>> {
        Ok(sum(&self.metrics()?, name, labels))
    }
}

fn sum(text: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let of_name = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let rest = series.strip_prefix(name)?;
        let is_it = rest.is_empty() || rest.starts_with('{');
        (is_it && labels.iter().all(|label| rest.contains(label))).then_some(value)
    });
    let values: Vec<f64> = of_name.filter_map(|value| value.parse().ok()).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_the_sum_of_its_series() {
        let text =
            "# TYPE a gauge\na_b{map=\"X\"} 5\na{map=\"X\",of=\"1\"} 1\na{map=\"Y\",of=\"1\"} 2\nc 7\n";
        assert_eq!(sum(text, "a", &["of=\"1\""]), Some(3.0));
        assert_eq!(sum(text, "a", &["map=\"Y\""]), Some(2.0));
        assert_eq!(sum(text, "a", &["map=\"Z\""]), None);
        assert_eq!(sum(text, "c", &[]), Some(7.0));
    }
}
