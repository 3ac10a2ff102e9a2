//! Which interface the machine is reached by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::doctor::machine::Machine;

/// What `/proc/net` tells of routes and addresses.
#[derive(Debug, Default)]
pub struct Routes {
    /// Whether the tables could be read at all.
    pub known: bool,
    /// Interfaces of default routes.
    pub default: Vec<String>,
    /// The addresses of each interface.
    pub addresses: Vec<(String, IpAddr)>,
    /// The interface by which whoever runs this is logged in over SSH.
    pub ssh: Option<String>,
}

impl Routes {
    pub fn read(machine: &Machine) -> Self {
        let read = |path: &str| machine.tree.read(path).ok();
        let (four, six) = (read("/proc/net/route"), read("/proc/net/ipv6_route"));
        let mut routes = Self {
            known: four.is_some() || six.is_some(),
            ..Self::default()
        };
        // Subnets that hang at an interface without a gateway: whose address it is that lies there.
        let mut subnets = Vec::new();
        for line in four.iter().flat_map(|text| text.lines().skip(1)) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let number = |at: usize| {
                let text = fields.get(at)?;
                u32::from_str_radix(text, 16).ok().map(u32::swap_bytes)
            };
            let (Some(name), Some(to), Some(gateway), Some(mask)) =
                (fields.first(), number(1), number(2), number(7))
            else {
                continue;
            };
            if to == 0 && mask == 0 {
                routes.default.push((*name).to_owned());
            } else if gateway == 0 {
                subnets.push(((*name).to_owned(), to, mask));
            }
        }
        for line in six.iter().flat_map(|text| text.lines()) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(to), Some(&"00"), Some(&name)) =
                (fields.first(), fields.get(1), fields.get(9))
            else {
                continue;
            };
            // The kernel lists its own catch-all, which rejects, at lo.
            if to.bytes().all(|byte| byte == b'0') && name != "lo" {
                routes.default.push(name.to_owned());
            }
        }
        routes.default.sort();
        routes.default.dedup();
        let trie = read("/proc/net/fib_trie").unwrap_or_default();
        for address in local_addresses(&trie) {
            let bits = u32::from(address);
            let subnet = |it: &&(String, u32, u32)| bits & it.2 == it.1;
            if let Some((name, ..)) = subnets.iter().find(subnet) {
                routes.addresses.push((name.clone(), address.into()));
            }
        }
        let six = read("/proc/net/if_inet6").unwrap_or_default();
        for line in six.lines() {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (Some(address), Some(&name)) = (fields.first(), fields.get(5)) else {
                continue;
            };
            if let Ok(bits) = u128::from_str_radix(address, 16) {
                let address = Ipv6Addr::from(bits);
                routes.addresses.push((name.to_owned(), address.into()));
            }
        }
        routes.ssh = match machine.live {
            true => ssh_interface(&routes.addresses),
            false => None,
        };
        routes
    }

    /// The addresses of an interface, as text.
    pub fn addresses_of(&self, interface: &str) -> Vec<String> {
        let own = self.addresses.iter().filter(|(name, _)| name == interface);
        own.map(|(_, address)| address.to_string()).collect()
    }

    /// Whether the machine is reached by this interface, and how that is known.
    pub fn reached_by(&self, interface: &str) -> Option<&'static str> {
        if self.ssh.as_deref() == Some(interface) {
            return Some("the SSH login");
        }
        let default = self.default.iter().any(|name| name == interface);
        default.then_some("the default route")
    }
}

/// The interface with the address at which the SSH login of this process arrived.
fn ssh_interface(addresses: &[(String, IpAddr)]) -> Option<String> {
    // Client address and port, server address and port.
    let connection = std::env::var("SSH_CONNECTION").ok()?;
    let server: IpAddr = connection.split_whitespace().nth(2)?.parse().ok()?;
    let (name, _) = addresses.iter().find(|(_, address)| *address == server)?;
    Some(name.clone())
}

/// This machine's own addresses in the kernel's forwarding table: a line with the address, the next
/// with `/32 host LOCAL`.
fn local_addresses(trie: &str) -> Vec<Ipv4Addr> {
    let mut found: Vec<Ipv4Addr> = Vec::new();
    let mut address = None;
    for line in trie.lines() {
        let line = line.trim_start();
        if let Some(text) = line.strip_prefix("|-- ") {
            address = text.trim().parse().ok();
        } else if line.starts_with("/32 host LOCAL")
            && let Some(address) = address
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_read_from_the_trie() {
        let trie = "Local:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 10.0.0.4\n        /32 host LOCAL\n     \
                    |-- 10.0.0.255\n        /32 link BROADCAST\n     |-- 127.0.0.1\n        /32 host LOCAL\n";
        let expected: Vec<Ipv4Addr> = vec![[10, 0, 0, 4].into(), [127, 0, 0, 1].into()];
        assert_eq!(local_addresses(trie), expected);
    }
}
