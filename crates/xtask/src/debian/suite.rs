//! Sources of another suite, made from the machine's own: same mirror, same keys.

use std::fs;
use std::path::Path;

use super::failed;

/// How the suite of backports of another is called.
const BACKPORTS: &str = "-backports";

/// What `apt-get indextargets` shall print of each list of packages, for [`sources`].
pub const FORMAT: &str = "$(ORIGIN)|$(CODENAME)|$(REPO_URI)|$(SOURCESENTRY)";

/// The sources, as a file of apt's, of `suite`: everything in `targets` that comes from Debian, with
/// the codename replaced. `bookworm-security` becomes `trixie-security`. Of `trixie-backports` it is all
/// of `trixie`, and the backports beside it.
pub fn sources(targets: &str, suite: &str) -> Result<String, String> {
    let base = suite.strip_suffix(BACKPORTS).unwrap_or(suite);
    let mut stanzas = Vec::new();
    for line in targets.lines() {
        let mut fields = line.splitn(4, '|');
        let (Some("Debian"), Some(codename), Some(address), Some(entry)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let part = codename.find('-').map_or("", |at| &codename[at..]);
        let file = Path::new(entry.rsplit_once(':').map_or(entry, |(file, _)| file));
        let text = fs::read_to_string(file).map_err(|error| failed(file, &error))?;
        let keys = keys(&text, address)
            .map(|keys| format!("Signed-By:{keys}\n"))
            .unwrap_or_default();
        // The machine's own backports, if it has any, are left to the next line.
        let mut suites = vec![format!("{base}{part}")];
        suites.retain(|name| !name.ends_with(BACKPORTS));
        suites.extend((part.is_empty() && base != suite).then(|| suite.to_owned()));
        for name in suites {
            let stanza =
                format!("Types: deb\nURIs: {address}\nSuites: {name}\nComponents: main\n{keys}");
            if !stanzas.contains(&stanza) {
                stanzas.push(stanza);
            }
        }
    }
    match stanzas.is_empty() {
        true => Err("apt has no source of Debian here: nothing to take the mirror from".to_owned()),
        false => Ok(stanzas.join("\n")),
    }
}

/// What the entry with this address in a file of sources says of its keys: the value of its field
/// `Signed-By`, which may go on in further lines, or its option `signed-by`. Without one, apt
/// takes any key it has.
fn keys(text: &str, address: &str) -> Option<String> {
    let address = address.trim_end_matches('/');
    let stanza = text.split("\n\n").find(|stanza| stanza.contains(address))?;
    if let Some((_, rest)) = stanza.split_once("\nSigned-By:") {
        let more = |line: &&str| line.starts_with([' ', '\t']);
        let mut lines = rest.lines();
        let mut value = lines.next().unwrap_or_default().to_owned();
        for line in lines.take_while(more) {
            value.push('\n');
            value.push_str(line);
        }
        return Some(value);
    }
    let line = text.lines().find(|line| line.contains(address))?;
    let (_, rest) = line.split_once("signed-by=")?;
    let value = rest.split([' ', ']']).next()?;
    Some(format!(" {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_both_formats_of_sources() {
        let fields = "Types: deb\nURIs: http://x/other\nSigned-By: /k/other.gpg\n\n\
                      Types: deb\nURIs: http://x/debian\nSuites: bookworm\nSigned-By: /k/a.gpg\n";
        assert_eq!(
            keys(fields, "http://x/debian/").as_deref(),
            Some(" /k/a.gpg")
        );
        let inside = "URIs: http://x/debian\nSigned-By:\n -----BEGIN\n .\n abc\nTypes: deb\n";
        assert_eq!(
            keys(inside, "http://x/debian").as_deref(),
            Some("\n -----BEGIN\n .\n abc")
        );
        let line = "deb [arch=amd64 signed-by=/k/a.gpg] http://x/debian bookworm main\n";
        assert_eq!(keys(line, "http://x/debian/").as_deref(), Some(" /k/a.gpg"));
        assert_eq!(
            keys("deb http://x/debian bookworm main\n", "http://x/debian/"),
            None
        );
    }

    #[test]
    fn debians_sources_keep_mirror_and_part_and_others_are_left_out() {
        let file = std::env::temp_dir().join(format!("xtask-suite-{}", std::process::id()));
        fs::write(
            &file,
            "deb [signed-by=/k/a.gpg] http://x/debian bookworm main\n",
        )
        .unwrap();
        let entry = file.display();
        let targets = format!(
            "Debian|bookworm|http://x/debian/|{entry}:1\n\
             Debian|bookworm-security|http://y/debian-security/|{entry}:2\n\
             Other|bookworm|http://z/|{entry}:3\n"
        );
        assert_eq!(
            sources(&targets, "trixie").unwrap(),
            "Types: deb\nURIs: http://x/debian/\nSuites: trixie\nComponents: main\n\
             Signed-By: /k/a.gpg\n\n\
             Types: deb\nURIs: http://y/debian-security/\nSuites: trixie-security\n\
             Components: main\n"
        );
        let backports = sources(&targets, "trixie-backports").unwrap();
        let suites: Vec<&str> = backports
            .lines()
            .filter_map(|line| line.strip_prefix("Suites: "))
            .collect();
        assert_eq!(suites, ["trixie", "trixie-backports", "trixie-security"]);
        assert!(sources("Other|bookworm|http://z/|/f:1\n", "trixie").is_err());
        fs::remove_file(&file).unwrap();
    }
}
