//! What people write for where a cluster is: hosts with ports, separated by commas. For `builder`.

/// The port of an endpoint that names none.
const PORT_DEFAULT: u16 = 6440;
/// Most endpoints; further ones are refused.
const ENDPOINTS_MAX: usize = 64;

/// Splits `quorate://h1:6440,h2/` into `host:port` each.
pub(crate) fn parse_endpoints(text: &str) -> Result<Vec<String>, String> {
    let rest = text.trim();
    let rest = rest.strip_prefix("quorate://").unwrap_or(rest);
    if let Some((scheme, _)) = rest.split_once("://") {
        return Err(format!(
            "endpoints start with \"quorate://\" or with a host, not \"{scheme}://\""
        ));
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let mut endpoints: Vec<String> = Vec::new();
    for part in rest.split(',').map(str::trim) {
        let endpoint = parse_endpoint(part)?;
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    if ENDPOINTS_MAX < endpoints.len() {
        return Err(format!("{} endpoints are given, at most {ENDPOINTS_MAX}", endpoints.len()));
    }
    Ok(endpoints)
}

fn parse_endpoint(text: &str) -> Result<String, String> {
    let malformed = |reason: &str| Err(format!("endpoint {text:?} {reason}; write host:port"));
    if text.is_empty() {
        return malformed("is empty");
    }
    if text.contains(|c: char| c.is_whitespace() || "/?#@".contains(c)) {
        return malformed("holds characters that no host has");
    }
    let bracketed_without_port = text.starts_with('[') && text.ends_with(']');
    match text.rsplit_once(':') {
        Some((host, port)) if !bracketed_without_port => {
            if host.is_empty() {
                return malformed("has no host");
            }
            if host.contains(':') && !host.starts_with('[') {
                return malformed("is an IPv6 address without brackets");
            }
            match port.parse::<u16>() {
                Ok(port) if 0 < port => Ok(format!("{host}:{port}")),
                Ok(_) | Err(_) => malformed("has no valid port"),
            }
        }
        Some(_) | None => Ok(format!("{text}:{PORT_DEFAULT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_hosts_with_ports() {
        // Goal: what people type is understood, what makes no sense is refused by name.
        let good = [
            ("quorate://h1:6440,h2:6450", vec!["h1:6440", "h2:6450"]),
            ("h1:6440, h2", vec!["h1:6440", "h2:6440"]),
            ("quorate://10.0.0.1/", vec!["10.0.0.1:6440"]),
            ("[::1]:7000,[::1]", vec!["[::1]:7000", "[::1]:6440"]),
            ("h1:1,h1:1", vec!["h1:1"]),
        ];
        for (text, want) in good {
            assert_eq!(parse_endpoints(text).unwrap(), want, "{text}");
        }
        for text in ["", "h1,,h2", "http://h1:1", "h1:0", "h1:x", ":1", "::1:2", "a b:1", "u@h:1"] {
            assert!(parse_endpoints(text).is_err(), "{text}");
        }
    }
}
