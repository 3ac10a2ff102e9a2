//! Takes out of texts what tells whose machine it is: each address becomes the same word wherever
//! it stands, so that a reader still sees what belongs together.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use uverbs_abi::Mac;

/// Remembers what was taken out.
#[derive(Default)]
pub struct Redactor {
    words: HashMap<String, String>,
    counts: HashMap<&'static str, usize>,
    /// Names to be taken out, the longest first.
    names: Vec<String>,
}

impl Redactor {
    /// One that takes out these names, too, where they stand as words of their own.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let mut names: Vec<String> = names.into_iter().filter(|name| !name.is_empty()).collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        names.dedup();
        Self {
            names,
            ..Self::default()
        }
    }

    /// The text without MAC and IP addresses and without the names.
    pub fn text(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            let end =
                |inside: fn(char) -> bool| rest.find(|c: char| !inside(c)).unwrap_or(rest.len());
            let word = &rest[..end(|c| c.is_alphanumeric() || "_.-:".contains(c))];
            if word.is_empty() {
                let first = rest.chars().next().map_or(1, char::len_utf8);
                out.push_str(&rest[..first]);
                rest = &rest[first..];
                continue;
            }
            rest = &rest[word.len()..];
            // Punctuation behind an address belongs to the sentence.
            let bare = word.trim_end_matches(['.', ':', '-']);
            out.push_str(&self.word(bare));
            out.push_str(&word[bare.len()..]);
        }
        out
    }

    fn word(&mut self, word: &str) -> String {
        let lower = word.to_lowercase();
        let kind = if lower.parse::<Mac>().is_ok() {
            "MAC"
        } else if lower
            .parse::<Ipv4Addr>()
            .is_ok_and(|it| !it.is_loopback() && !it.is_unspecified())
        {
            "IPV4"
        } else if lower
            .parse::<Ipv6Addr>()
            .is_ok_and(|it| !it.is_loopback() && !it.is_unspecified())
        {
            "IPV6"
        } else if self.names.iter().any(|name| name == word) {
            "NAME"
        } else {
            return word.to_owned();
        };
        if let Some(known) = self.words.get(&lower) {
            return known.clone();
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let new = format!("{kind}-{count}");
        self.words.insert(lower, new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_the_same_word_wherever_it_stands() {
        let mut redactor = Redactor::new(["web-7".to_owned(), "tap-of-anna".to_owned()]);
        let text = "7870:00:00.0,mac=00:0D:3a:76:3b:d0 at 10.0.0.4/24. 00:0d:3a:76:3b:d0, fe80::1 on \
                    web-7: tap-of-anna, 127.0.0.1 (6.12.117), ::1 and web-70";
        let expected = "7870:00:00.0,mac=MAC-1 at IPV4-1/24. MAC-1, IPV6-1 on NAME-1: NAME-2, 127.0.0.1 \
                        (6.12.117), ::1 and web-70";
        assert_eq!(redactor.text(text), expected);
    }
}
